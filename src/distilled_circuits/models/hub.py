"""Checkpoints from the Hugging Face hub and from local directories: what they cost, fetching them, what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, errors, hf_hub_download, try_to_load_from_cache
from huggingface_hub.file_download import REGEX_COMMIT_HASH, repo_folder_name
from tqdm import tqdm

from distilled_circuits.errors import UserError
from distilled_circuits.models.checkpoint_files import (
    CONFIG,
    NO_WEIGHTS,
    TOKENIZERS,
    check_weights,
    count,
    local_parameters,
    names_in,
    needed_files,
    weight_files,
)
from distilled_circuits.progress import Progress, track

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MB, GB = 1_000_000, 1_000_000_000

LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
INSTEAD = (
    "fetch on another machine with `hf download {repo} --revision {revision}` and copy the cache, "
    "or point the pair to a local directory"
)
ROOM = "make room, or set HF_HOME to a folder on a larger disk"
REFUSAL = "the hub at {hub} refuses {label} ({why}): try again later, or " + INSTEAD
MISTAKES: tuple[tuple[type[Exception], str], ...] = (
    (errors.HFValidationError, "{repo!r} names no repository of the hub: owner/name is wanted"),
    (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE is set and {cache} has no whole {label}: unset it, or " + INSTEAD),
    (errors.GatedRepoError, "{label} is gated: accept the licence at https://huggingface.co/{repo} and " + LOG_IN),
    (errors.RepositoryNotFoundError, "the hub shows no model {repo}: mend the name or, if it is private, " + LOG_IN),
    (errors.RevisionNotFoundError, "{repo} has no revision {revision}: {revisions} or a commit's 40 digits are wanted"),
    (errors.RemoteEntryNotFoundError, "{label} lacks a file that the hub lists ({why}): take another revision"),
    (errors.HfHubHTTPError, REFUSAL),
    (errors.HTTPError, "cannot reach the hub at {hub} ({why}): connect, or " + INSTEAD),
    (Exception, "{label} cannot be fetched to {cache} ({why}): mend that and run again, or " + INSTEAD),
)
"""What is said of an exception: of the first class that it belongs to."""
STATUSES = {
    401: "the hub refuses the token ({why}): " + LOG_IN + ", or unset it for a public model",
    403: "the token may not read {label} ({why}): see https://huggingface.co/settings/tokens",
}
SIGNS = {
    "No space left": "{cache}: the disk is full: " + ROOM,
    "Consistency check failed": "{label}: the download was truncated ({why}): run again",
}


@dataclass(frozen=True)
class Cost:
    """Bytes to download, bytes that the hub's cache has already, bytes of the run's model directory."""

    fetched: int
    cached: int
    written: int

    def describe(self, source: str) -> str:
        """Return the cost of a source (`labelled` names one) as one line in GB."""
        fetched, cached, written = (f"{size / GB:.2f} GB" for size in (self.fetched, self.cached, self.written))
        return f"{source}: {fetched} to fetch, {cached} cached, {written} to write"


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint in the hub's cache: its folder and the full hash of its commit."""

    folder: Path
    revision: str


@dataclass(frozen=True)
class _Listing:
    """What is needed of a commit: bytes by file, the files that the cache has, parameters as the hub counts them."""

    folder: Path
    sizes: dict[str, int]
    cached: frozenset[str]
    parameters: int | None = None

    @property
    def fetched(self) -> int:
        return sum(size for name, size in self.sizes.items() if name not in self.cached)


def labelled(repo: str, revision: str) -> str:
    """Return `repo@revision`, a hash cut to seven digits."""
    return f"{repo}@{revision[:7] if REGEX_COMMIT_HASH.fullmatch(revision) else revision}"


def hub_cost(repo: str, revision: str, dtype: str) -> Cost:
    """Return what a revision (a branch, a tag or a full hash) costs, before anything is fetched.

    A complete snapshot in the cache is asked before the hub when `revision` is a full hash, and in its place when the
    hub cannot be reached. `written` is the parameters in `dtype` (float32, bfloat16 or float16) and the small files.
    Parameters are counted in the headers of safetensors that are cached or a single file, without old buffers; else
    the hub's count is taken, with them. Pickled weights are taken to be stored in `dtype`. Raises UserError.
    """
    with _one_line_errors(repo, revision):
        listing = _listing(repo, revision)
        weights = weight_files(listing.sizes)
        if all(_in_place(listing, name) for name in weights):
            parameters = local_parameters(listing.folder, weights)
        else:
            parameters = _remote_parameters(repo, listing, weights)
        cached = sum(listing.sizes[name] for name in listing.cached)
        return Cost(listing.fetched, cached, _written(listing.sizes, parameters, dtype))


def local_cost(folder: Path, dtype: str) -> Cost:
    """Return what a local directory costs: nothing but the run's copy in `dtype`.

    Raises UserError when it has no configuration or no whole weights.
    """
    check_weights(folder)
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: no {CONFIG}: it is no directory that transformers saved a model to")
    sizes = {name: (folder / name).stat().st_size for name in needed_files(names_in(folder))}
    return Cost(0, 0, _written(sizes, local_parameters(folder, weight_files(sizes)), dtype))


def fetch(repo: str, revision: str) -> Snapshot:
    """Download what is missing of a revision into the hub's own cache, and say every five seconds how many MB.

    Weights come last: a snapshot that has them whole is whole. Raises UserError; before anything is written when the
    cache's disk has not what is fetched and a tenth to spare.
    """
    with _one_line_errors(repo, revision):
        listing, label = _listing(repo, revision), labelled(repo, revision)
        commit = listing.folder.name
        _require_space(listing.fetched, label)
        with track(round(listing.fetched / MB), f"{label}, MB") as progress:
            for name in listing.sizes:
                if not _in_place(listing, name):
                    # One that is there with another size is damaged, and would be taken for the file.
                    damaged, bar = (listing.folder / name).exists(), _bar_class(progress)
                    hf_hub_download(repo, name, revision=commit, force_download=damaged, tqdm_class=bar)
        if try_to_load_from_cache(repo, CONFIG, revision=revision) != str(listing.folder / CONFIG):
            hf_hub_download(repo, CONFIG, revision=revision)  # notes which commit the branch is, for use offline
    check_weights(listing.folder)
    return Snapshot(listing.folder, commit)


def _listing(repo: str, revision: str) -> _Listing:
    cached = _cached_listing(repo, revision)
    if cached is not None and REGEX_COMMIT_HASH.fullmatch(revision):
        return cached
    try:
        return _hub_listing(repo, revision)
    except (errors.HTTPError, errors.OfflineModeIsEnabled) as error:
        if cached is None or not _is_unreachable(error):
            raise
        return cached


def _cached_listing(repo: str, revision: str) -> _Listing | None:
    config = try_to_load_from_cache(repo, CONFIG, revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    names = needed_files(names_in(folder))
    try:
        check_weights(folder)
    except UserError:
        return None
    if not any(fnmatchcase(name, pattern) for name in names for pattern in TOKENIZERS):
        return None  # another program has fetched the model and not its tokenizer
    return _Listing(folder, {name: (folder / name).stat().st_size for name in names}, frozenset(names))


def _hub_listing(repo: str, revision: str) -> _Listing:
    info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=constants.DEFAULT_REQUEST_TIMEOUT)
    files = {file.rfilename: file for file in info.siblings or () if "/" not in file.rfilename}
    if CONFIG not in files:
        raise UserError(f"{labelled(repo, revision)} has no {CONFIG}: it is no checkpoint that transformers can load")
    if not weight_files(files):
        raise UserError(f"{labelled(repo, revision)} has {NO_WEIGHTS}")
    home = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    sizes = {name: files[name].size or 0 for name in needed_files(files)}
    listing = _Listing(home / "snapshots" / str(info.sha), sizes, frozenset())
    # Another revision may have brought the same content: the cache keeps it once, under its hash.
    hashes = {name: file.lfs.sha256 if file.lfs else str(file.blob_id) for name, file in files.items()}
    cached = {name for name in sizes if _in_place(listing, name) or (home / "blobs" / hashes[name]).is_file()}
    return _Listing(listing.folder, sizes, frozenset(cached), info.safetensors.total if info.safetensors else None)


def _in_place(listing: _Listing, name: str) -> bool:
    path = listing.folder / name
    return path.is_file() and path.stat().st_size == listing.sizes[name]


def _remote_parameters(repo: str, listing: _Listing, weights: list[str]) -> int | None:
    if weights == ["model.safetensors"]:
        try:
            return count([HfApi().parse_safetensors_file_metadata(repo, *weights, revision=listing.folder.name)])
        except (errors.HTTPError, errors.SafetensorsParsingError):
            pass  # a gated repository's files are closed to those who may see the hub's count
    return listing.parameters


def _written(sizes: dict[str, int], parameters: int | None, dtype: str) -> int:
    weights = sum(sizes[name] for name in weight_files(sizes))
    return sum(sizes.values()) - weights + (weights if parameters is None else parameters * BYTES[dtype])


def _require_space(size: int, what: str) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < 1.1 * size:
        need = f"needs {size / GB:.2f} GB and a tenth to spare, but the disk has {free / GB:.2f} GB free"
        raise UserError(f"{cache}: {what} {need}: {ROOM}")


def _bar_class(progress: Progress) -> type[tqdm]:
    """Return what huggingface_hub takes for its own bar: it counts the bytes written as MB of `progress`."""

    class Bar(tqdm):
        written = 0

        def __init__(self, *_: Any, **__: Any) -> None:
            super().__init__(disable=True)

        def update(self, n: float | None = 1) -> None:
            before, self.written = self.written, self.written + int(n or 0)
            progress.advance(self.written // MB - before // MB)

        def ignore(self, *_: Any, **__: Any) -> None:
            """Leave out what comes over the wire: less than what is written where content repeats."""

        update_transfer = set_transfer_postfix_str = ignore

    return Bar


def _is_unreachable(error: Exception) -> bool:
    """Whether the hub gave no answer, or one that says to come back later."""
    return not isinstance(error, errors.HfHubHTTPError) or error.response.status_code in (429, *range(500, 600))


@contextmanager
def _one_line_errors(repo: str, revision: str) -> Iterator[None]:
    """Turn what huggingface_hub raises on a person's mistake or bad luck into one line with the remedy."""
    try:
        yield
    except (errors.HTTPError, OSError, ValueError, RuntimeError) as error:
        wrapped = isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception)
        raise UserError(_explanation(error.__cause__ if wrapped else error, repo, revision)) from None


def _explanation(error: BaseException | None, repo: str, revision: str) -> str:
    said = str(getattr(error, "server_message", None) or error).strip().splitlines()
    text = next(text for kind, text in MISTAKES if isinstance(error, kind))
    if isinstance(error, errors.HfHubHTTPError):
        text = STATUSES.get(error.response.status_code, text) if text is REFUSAL else text
    text = next((signed for sign, signed in SIGNS.items() if sign in str(error)), text)
    return text.format(
        repo=repo,
        revision=revision,
        label=labelled(repo, revision),
        cache=constants.HF_HUB_CACHE,
        hub=constants.ENDPOINT,
        why=said[0] if said else type(error).__name__,
        revisions=_revisions(repo) if isinstance(error, errors.RevisionNotFoundError) else "",
    )


def _revisions(repo: str) -> str:
    try:
        refs = HfApi().list_repo_refs(repo)
    except (errors.HTTPError, OSError, ValueError):
        return "a branch, a tag"
    return ", ".join([ref.name for ref in (*refs.branches, *refs.tags)][:5]) or "a branch, a tag"
