"""Checkpoints from the hub and from directories: costs said first, fetches whole or refused, mistakes in one line."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from checkpoints import random_model
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from safetensors.torch import load_file, save_file

from distilled_circuits.errors import UserError
from distilled_circuits.models import hub
from distilled_circuits.models.checkpoint_files import check_weights
from distilled_circuits.models.hub import Cost, fetch, hub_cost, labelled, local_cost
from distilled_circuits.models.loading import load_model

REPO = "someone/tiny"
COMMIT, OLDER = "a" * 40, "b" * 40
TOKENIZER = {"tokenizer.json": b"{}", "tokenizer_config.json": b'{"x": 1}', "merges.txt": b"a b"}
CLUTTER = {
    "README.md": b"read",
    "tf_model.h5": b"h" * 999,
    "original/tokenizer.model": b"o" * 999,
    "model.fp16.safetensors": b"x",
}


class FakeHub:
    """What the hub answers, on localhost: files by repository and revision, and who may see them."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches = {"main": COMMIT}
        self.gated: set[str] = set()
        self.good_token: str | None = None
        self.cut: set[str] = set()
        self.broken = 0
        self.closed = False
        self.counts_parameters = False
        self.requests: list[str] = []

    def answer(self, method: str, path: str, headers) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of a request."""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        self.requests.append(f"{method} /{'/'.join(parts)}")
        api = parts[0] == "api"
        repo, kind, *rest = ["/".join(parts[2:4] if api else parts[:2]), *parts[4 if api else 2 :]]
        token = headers.get("Authorization")
        commit = self.branches.get(rest[0], rest[0]) if rest else COMMIT
        refused = self.refusal(repo, commit, token)
        if refused is None and not api and repo in self.gated and not token:
            refused = 401, {"X-Error-Code": "GatedRepo"}, b"Access to model is restricted."
        if refused is None and not api and self.closed:
            refused = 403, {"X-Error-Message": "Please enable access to gated repositories"}, b""
        if refused is not None:
            return refused
        if kind == "refs":
            branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in self.branches.items()]
            return 200, {}, json.dumps({"branches": branches, "converts": [], "tags": []}).encode()
        if api:
            return 200, {}, json.dumps(self.listing(repo, commit)).encode()
        return self.file(self.files[repo][commit], commit, "/".join(rest[1:]), headers.get("Range"))

    def refusal(self, repo: str, commit: str, token: str | None):
        """Return the answer to who may not see the repository or asks for what is not there; None to all others."""
        if self.broken:
            return self.broken, {}, b'{"error": "Internal Error"}'
        if token and token != f"Bearer {self.good_token}":
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        if repo not in self.files:
            message = b'{"error": "Invalid username or password."}'
            return (404 if token else 401), {"X-Error-Code": "RepoNotFound"}, message
        if commit not in self.files[repo]:
            return 404, {"X-Error-Code": "RevisionNotFound"}, f"Invalid rev id: {commit}".encode()
        return None

    def listing(self, repo: str, commit: str) -> dict:
        """Return what model_info says."""
        siblings = []
        for name, content in self.files[repo][commit].items():
            lfs = {"sha256": etag(name, content), "size": len(content), "pointerSize": 134} if is_large(name) else None
            siblings.append({"rfilename": name, "size": len(content), "blobId": etag("", content), "lfs": lfs})
        counted = {"safetensors": {"parameters": {"F32": 1000}, "total": 1000}} if self.counts_parameters else {}
        return {"id": repo, "sha": commit, "siblings": siblings, **counted}

    def file(self, files: dict[str, bytes], commit: str, name: str, span: str | None):
        """Return a file, a part of it, or one cut short on its way."""
        if name not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        content = files[name]
        size = {"X-Linked-Size": str(len(content))}
        found = {"ETag": f'"{etag(name, content)}"', "X-Repo-Commit": commit, **size}
        if span:
            first, last = span.removeprefix("bytes=").split("-")
            return 206, found, content[int(first) : int(last) + 1]
        return 200, found, content[: len(content) // 2] if name in self.cut else content


def is_large(name: str) -> bool:
    """Whether the hub keeps a file in large file storage."""
    return name.endswith((".safetensors", ".bin"))


def etag(name: str, content: bytes) -> str:
    """Return what the hub calls a content by: SHA-256 in large file storage, git's SHA-1 elsewhere."""
    if is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def serving(fake: FakeHub):
    """Serve a fake hub in a thread and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = fake.answer(self.command, self.path, self.headers)
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> dict[str, bytes]:
    """A tiny GPT-2 as a published repository has it, with what nobody needs beside it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    random_model("gpt2").save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 32, 32)  # the mask that GPT-2's own checkpoint stores
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    files = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    return files | TOKENIZER | CLUTTER


@pytest.fixture
def fake(monkeypatch, tmp_path, checkpoint):
    """A fake hub with one repository, which huggingface_hub takes for the hub, and an empty cache."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    the_hub = FakeHub()
    the_hub.files[REPO] = {COMMIT: dict(checkpoint)}
    with serving(the_hub) as url:
        point_to(monkeypatch, url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield the_hub
        close_session()


def point_to(monkeypatch, url: str) -> None:
    """Set the hub's address, in place of HF_ENDPOINT, which is read once."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    close_session()


def needed(checkpoint: dict[str, bytes]) -> int:
    """Return the bytes of what is fetched of a checkpoint."""
    return sum(len(content) for name, content in checkpoint.items() if name not in CLUTTER)


def weights_cached(tmp_path) -> list[Path]:
    """Return the weights in the cache's snapshots."""
    return [*(tmp_path / "cache").glob("*/snapshots/*/*.safetensors"), *(tmp_path / "cache").rglob("*.incomplete")]


def shards(checkpoint: dict[str, bytes], tmp_path) -> dict[str, bytes]:
    """Return a checkpoint with its weights in two shards and their index."""
    (tmp_path / "whole").write_bytes(checkpoint["model.safetensors"])
    weights = load_file(tmp_path / "whole")
    names = sorted(weights)
    files, where = {}, {}
    for number, part in enumerate((names[:9], names[9:]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, tmp_path / "part", {"format": "pt"})
        files[shard] = (tmp_path / "part").read_bytes()
        where |= dict.fromkeys(part, shard)
    index = json.dumps({"metadata": {}, "weight_map": where}).encode()
    rest = {name: content for name, content in checkpoint.items() if name != "model.safetensors"}
    return rest | files | {"model.safetensors.index.json": index}


def written_to(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files to a new folder."""
    folder.mkdir()
    for name, content in files.items():
        if "/" not in name:
            (folder / name).write_bytes(content)
    return folder


def test_costs_are_known_before_any_download(fake, checkpoint, tmp_path):
    """Only what is needed is counted; a model directory has the parameters, not old buffers, in the wanted dtype."""
    parameters = sum(parameter.numel() for parameter in random_model("gpt2").parameters())
    small = needed(checkpoint) - len(checkpoint["model.safetensors"])
    for dtype, width in (("float32", 4), ("bfloat16", 2)):
        assert hub_cost(REPO, "main", dtype) == Cost(needed(checkpoint), 0, parameters * width + small)
    assert not (tmp_path / "cache").exists()
    assert not any(request.startswith("HEAD") for request in fake.requests)
    line = Cost(548_105_171, 0, 497_759_232).describe(labelled("openai-community/gpt2", "607a30d" + "0" * 33))
    assert line == "openai-community/gpt2@607a30d: 0.55 GB to fetch, 0.00 GB cached, 0.50 GB to write"
    assert labelled(REPO, "main") == "someone/tiny@main"


def test_parameters_are_taken_from_the_hub_where_no_header_can_be_read(fake, checkpoint):
    """Gated files and shards cost what the hub counts, pickles what their file has, to the run's directory."""
    small = needed(checkpoint) - len(checkpoint["model.safetensors"])
    fake.gated.add(REPO)
    fake.counts_parameters = True
    assert hub_cost(REPO, COMMIT, "float32").written == small + 4 * 1000
    fake.counts_parameters = False
    pickled = {name: content for name, content in checkpoint.items() if name != "model.safetensors"}
    fake.files[REPO][COMMIT] = pickled | {"pytorch_model.bin": b"p" * 77}
    assert hub_cost(REPO, COMMIT, "float32") == Cost(small + 77, 0, small + 77)


def test_a_fetch_fills_the_cache_and_a_second_needs_no_network(fake, checkpoint, tmp_path, monkeypatch):
    """The snapshot has exactly the needed files; afterwards neither its hash nor its branch asks the hub."""
    snapshot = fetch(REPO, "main")
    assert snapshot.revision == COMMIT
    assert snapshot.folder == tmp_path / "cache/models--someone--tiny/snapshots" / COMMIT
    assert {file.name for file in snapshot.folder.iterdir()} == set(checkpoint) - set(CLUTTER)
    assert all(file.read_bytes() == checkpoint[file.name] for file in snapshot.folder.iterdir())
    fake.requests.clear()
    assert fetch(REPO, COMMIT) == snapshot
    assert hub_cost(REPO, COMMIT, "float32").fetched == 0
    assert fake.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(REPO, "main") == snapshot
    cost = hub_cost(REPO, "main", "float32")
    assert (cost.fetched, cost.cached) == (0, needed(checkpoint))
    assert cost.written == local_cost(snapshot.folder, "float32").written
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fake.broken = 503
    assert hub_cost(REPO, "main", "float32") == cost
    assert fake.requests == [f"GET /api/models/{REPO}/revision/main"]
    point_to(monkeypatch, "http://127.0.0.1:9")
    assert fetch(REPO, "main") == snapshot


def test_what_another_revision_brought_is_cached(fake, checkpoint):
    """A commit that changes the configuration alone costs its configuration; the older one stays."""
    older = fetch(REPO, "main")
    config = checkpoint["config.json"] + b"\n"
    fake.files[REPO][OLDER] = checkpoint | {"config.json": config}
    fake.branches["main"] = OLDER
    cost = hub_cost(REPO, "main", "float32")
    assert (cost.fetched, cost.cached) == (len(config), needed(checkpoint) - len(checkpoint["config.json"]))
    fake.requests.clear()
    assert fetch(REPO, "main").revision == OLDER
    assert [request for request in fake.requests if request.startswith("GET /someone")] == [
        f"GET /{REPO}/resolve/{OLDER}/config.json"
    ]
    assert fetch(REPO, COMMIT) == older


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("lost", ["tokenizer", "weights"])
def test_a_snapshot_that_lacks_something_is_completed(checkpoint, monkeypatch, lost):
    """Without its tokenizer, or with weights cut short, a cached snapshot is not taken for whole, and is mended."""
    snapshot = fetch(REPO, COMMIT)
    if lost == "tokenizer":
        for name in TOKENIZER:
            (snapshot.folder / name).unlink()
    else:
        (snapshot.folder / "model.safetensors").resolve().write_bytes(checkpoint["model.safetensors"][:-1])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set and .* has no whole someone/tiny@aaaaaaa: unset it"):
        fetch(REPO, COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert fetch(REPO, COMMIT) == snapshot
    assert {file.name: file.read_bytes() for file in snapshot.folder.iterdir()} == {
        name: content for name, content in checkpoint.items() if name not in CLUTTER
    }


def test_a_branch_that_is_gone_is_not_served_from_the_cache(fake):
    """The cache stands in for a hub that cannot be reached, not for one that says no."""
    fetch(REPO, "main")
    fake.branches = {"next": COMMIT}
    with pytest.raises(UserError, match="someone/tiny has no revision main: next or a commit's 40 digits"):
        fetch(REPO, "main")


def gate(fake):
    """Close the repository's files."""
    fake.gated.add(REPO)


def close(fake):
    """Close the files to tokens that may not read what is gated."""
    fake.closed = True


def wrong_token(_):
    """Log in with a token that the hub does not know."""
    Path(constants.HF_TOKEN_PATH).write_text("hf_wrong")


def without(name):
    """Return what takes a file out of the repository."""
    return lambda fake: fake.files[REPO][COMMIT].pop(name)


def answering(status):
    """Return what makes every answer this error."""
    return lambda fake: setattr(fake, "broken", status)


LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
MISTAKES = {
    "misspelt": (None, "a/tinny", "main", f"shows no model a/tinny: mend the name or, if it is private, {LOG_IN}"),
    "malformed": (None, "a/b/c", "main", "'a/b/c' names no repository of the hub: owner/name is wanted"),
    "revision": (None, REPO, "v9", "tiny has no revision v9: main or a commit's 40 digits are wanted"),
    "hash": (None, REPO, "c" * 40, f"has no revision {'c' * 40}: main or a commit's 40 digits"),
    "gated": (gate, REPO, "main", f"gated: accept the licence at https://huggingface.co/someone/tiny and {LOG_IN}"),
    "token": (wrong_token, REPO, "main", rf"refuses the token \(Invalid credentials.*: {LOG_IN}, or unset it"),
    "config": (without("config.json"), REPO, COMMIT, "someone/tiny@aaaaaaa has no config.json"),
    "weights": (without("model.safetensors"), REPO, "main", "someone/tiny@main has no weights that transformers loads"),
    "403": (
        answering(403),
        REPO,
        "main",
        r"may not read someone/tiny@main \(.*\): see https://huggingface.co/settings",
    ),
    "closed": (close, REPO, "main", r"may not read someone/tiny@main \(Please enable access"),
    "503": (answering(503), REPO, "main", r"refuses someone/tiny@main \(.*\): try again later, or fetch on another"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_with_the_remedy(fake, tmp_path, mistake):
    """Names, rights and repositories that have not what is needed; nothing that looks like a model stays behind."""
    spoil, repo, revision, message = MISTAKES[mistake]
    if spoil is not None:
        spoil(fake)
    with pytest.raises(UserError, match=message) as caught:
        fetch(repo, revision)
    assert "\n" not in str(caught.value)
    assert weights_cached(tmp_path) == []
    if mistake not in ("gated", "closed"):  # what they cost is public: known before the licence is accepted
        with pytest.raises(UserError, match=message):
            hub_cost(repo, revision, "float32")


def test_a_token_opens_a_gated_repository(fake):
    """Who has accepted the licence and logged in fetches it."""
    gate(fake)
    fake.good_token = "hf_good"  # noqa: S105
    Path(constants.HF_TOKEN_PATH).write_text("hf_good")
    assert fetch(REPO, "main").revision == COMMIT


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_the_ways_out_are_said(fake, monkeypatch, offline):
    """Offline mode, or a hub that nobody answers for: another machine or a local directory help."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    point_to(monkeypatch, "http://127.0.0.1:9")
    reason = "HF_HUB_OFFLINE is set and .*: unset it" if offline else r"cannot reach the hub at http://127.*: connect"
    way_out = "`hf download someone/tiny --revision main` and copy the cache, or point the pair to a local directory"
    for call in (lambda: hub_cost(REPO, "main", "float32"), lambda: fetch(REPO, "main")):
        with pytest.raises(UserError, match=f"{reason}, or fetch on another machine with {way_out}") as caught:
            call()
        assert "\n" not in str(caught.value)
    assert fake.requests == []


@pytest.mark.usefixtures("fake")
def test_too_little_disk_is_said_before_anything_is_written(checkpoint, tmp_path, monkeypatch):
    """How much is needed, where, and how to move the cache; what is cached needs no room."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed(checkpoint)))
    with pytest.raises(UserError, match=r"cache: someone/tiny@main needs .* GB free: make room, or set HF_HOME"):
        fetch(REPO, "main")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    snapshot = fetch(REPO, "main")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert fetch(REPO, "main") == snapshot


def test_a_download_cut_short_leaves_nothing_that_looks_whole(fake, tmp_path):
    """The weights are not in the snapshot, and the next run fetches them."""
    fake.cut.add("model.safetensors")
    with pytest.raises(UserError, match=r"someone/tiny@main: the download was truncated \(.*\): run again"):
        fetch(REPO, "main")
    assert weights_cached(tmp_path) == []
    fake.cut.clear()
    check_weights(fetch(REPO, "main").folder)


def test_a_file_that_is_listed_and_not_there_is_named(fake, monkeypatch, tmp_path):
    """A hub that contradicts itself ends in one line too; the weights, which come last, are not there yet."""
    whole = fake.listing(REPO, COMMIT)
    monkeypatch.setattr(fake, "listing", lambda *_: whole)
    del fake.files[REPO][COMMIT]["merges.txt"]
    with pytest.raises(UserError, match=r"someone/tiny@main lacks a file that the hub lists \(.*\): take another"):
        fetch(REPO, "main")
    assert weights_cached(tmp_path) == []


TROUBLES = {
    "full": (OSError(errno.ENOSPC, "No space left on device"), "cache: the disk is full: make room, or set HF_HOME"),
    "rights": (PermissionError(errno.EACCES, "Permission denied"), r"cannot be fetched to .*cache \(.*denied\): mend"),
    "transfer": (
        RuntimeError("Data processing error:\n broken"),
        r"cannot be fetched to .* \(Data processing error:\)",
    ),
}


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("trouble", TROUBLES)
def test_troubles_of_the_machine_are_one_line_too(monkeypatch, trouble):
    """What the disk and the transfer library raise while files are written."""
    error, message = TROUBLES[trouble]

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    with pytest.raises(UserError, match=message) as caught:
        fetch(REPO, "main")
    assert "\n" not in str(caught.value)


def test_published_weights_that_are_not_whole_are_refused(fake, checkpoint, tmp_path):
    """A file shorter than its header says, and a shard that the index names, after the fetch as in a directory."""
    whole = checkpoint["model.safetensors"]
    fake.files[REPO][COMMIT]["model.safetensors"] = whole[:-4]
    message = rf"model\.safetensors: truncated: its header promises {len(whole)} bytes, it has {len(whole) - 4}"
    with pytest.raises(UserError, match=message):
        fetch(REPO, COMMIT)
    sharded = shards(checkpoint, tmp_path)
    fake.files[REPO][OLDER] = dict(sharded)
    assert load_model(fetch(REPO, OLDER).folder, torch.device("cpu")).config.n_layer == 3
    missing = "model-00002-of-00002.safetensors"
    fake.files[REPO]["d" * 40] = {name: content for name, content in sharded.items() if name != missing}
    with pytest.raises(UserError, match=f"{missing}: missing, though model.safetensors.index.json names it"):
        fetch(REPO, "d" * 40)


def test_a_missing_tensor_is_named_when_the_model_is_loaded(fake, checkpoint, tmp_path):
    """A file that is whole and does not fill the model is found out by its loading."""
    (tmp_path / "whole").write_bytes(checkpoint["model.safetensors"])
    weights = load_file(tmp_path / "whole")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, tmp_path / "part", {"format": "pt"})
    fake.files[REPO][COMMIT]["model.safetensors"] = (tmp_path / "part").read_bytes()
    folder = fetch(REPO, "main").folder
    with pytest.raises(UserError, match=r"missing keys: transformer\.h\.1\.mlp\.c_fc\.weight"):
        load_model(folder, torch.device("cpu"))


def test_a_local_directory_costs_its_copy(checkpoint, tmp_path):
    """Nothing is fetched or cached; shards and one file weigh the same."""
    whole = written_to(tmp_path / "one", checkpoint)
    sharded = written_to(tmp_path / "two", shards(checkpoint, tmp_path))
    cost = local_cost(whole, "bfloat16")
    assert (cost.fetched, cost.cached) == (0, 0)
    assert local_cost(sharded, "bfloat16") == cost
    parameters = sum(parameter.numel() for parameter in random_model("gpt2").parameters())
    assert local_cost(whole, "float32").written - cost.written == 2 * parameters


DAMAGES = {
    "model.safetensors": (b"x", r"model\.safetensors: truncated, or no safetensors file \(1 bytes\)"),
    "longer": (b"\2\0\0\0\0\0\0\0{}more", r"damaged: its header promises 10 bytes, it has 14"),
    "header": (b"\x09\0\0\0\0\0\0\0{}", "truncated, or no safetensors file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.*run `git lfs pull`"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_of_a_directory_are_named(checkpoint, tmp_path, damage):
    """Cut in the header, longer than it says, or never fetched from large file storage."""
    content, message = DAMAGES[damage]
    folder = written_to(tmp_path / "model", checkpoint | {"model.safetensors": content})
    with pytest.raises(UserError, match=message):
        local_cost(folder, "float32")


def test_what_a_directory_lacks_is_named(checkpoint, tmp_path):
    """No directory, no weights, no configuration, an index of nothing; pickles pass when they are there."""
    with pytest.raises(UserError, match="nowhere: no such directory"):
        local_cost(tmp_path / "nowhere", "float32")
    folder = written_to(tmp_path / "model", checkpoint)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        local_cost(folder, "float32")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    check_weights(folder)
    (folder / "pytorch_model.bin").unlink()
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(UserError, match=r"index\.json: it does not say which shard"):
        check_weights(folder)


def test_megabytes_are_counted_while_they_are_written(fake, monkeypatch, tmp_path):
    """The progress has as many MB as are fetched, and counts each once."""
    save_file({"weight": torch.zeros(1_200_000)}, tmp_path / "large")
    fake.files[REPO][COMMIT]["model.safetensors"] = (tmp_path / "large").read_bytes()
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 300_000)
    seen, totals = [], []

    @contextmanager
    def track(total, label):
        totals.append((total, label))
        yield type("Counter", (), {"advance": staticmethod(seen.append)})

    monkeypatch.setattr(hub, "track", track)
    fetch(REPO, "main")
    assert totals == [(5, "someone/tiny@main, MB")]
    assert sum(seen) == 4  # whole ones, of 4.8
    assert max(seen) == 1


@pytest.mark.usefixtures("fake")
def test_the_environment_is_all_that_is_needed(tmp_path):
    """A fresh process finds hub and cache by HF_ENDPOINT and HF_HOME, and imports neither torch nor transformers."""
    code = (
        "import sys; from distilled_circuits.models.hub import *\n"
        f"print(fetch({REPO!r}, 'main').folder)\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    for offline in "01":
        environment = {**os.environ, "HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path / "home")}
        environment |= {"HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_TELEMETRY": "1"}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        folder, imported = run.stdout.splitlines()
        assert Path(folder) == tmp_path / "home/hub/models--someone--tiny/snapshots" / COMMIT
        assert imported == "[]"
