"""Stage `influence`: the logit difference of every prompt with every component ablated, for both models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from distilled_circuits.artifacts import HDF5Writer, Provenance, open_hdf5, write_hdf5
from distilled_circuits.circuits.ablation import PromptTensors
from distilled_circuits.circuits.batching import measured_batch_size
from distilled_circuits.circuits.chunks import Chunk, chunks_of, merged
from distilled_circuits.circuits.estimate import estimate_sweep
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.errors import UserError
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.components import all_components
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Dimensions, Lens
from distilled_circuits.lens.self_check import self_check
from distilled_circuits.models.loading import choose_device, load_config, load_model
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import prompt_tensors, replacement_of, to_numpy
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.stages.shares import WHOLE, Share

ENGINES = {"hooks": HookLens, "bridge": BridgeLens}
CHECKED_PROMPTS = 16
"""So many prompts are swept in float32 too, when the type is another one."""
SHARE = "influence_share/1"
"""Schema of what one share of a sweep gave."""

Piece = dict[str, np.ndarray]
"""Arrays as in the artifact by `MODEL/NAME`, NaN where other shares sweep; logit differences in float32 as `exact`."""


def run(job: Job) -> None:
    """Sweep teacher and student with the ablation of the settings."""
    gather(job, [compute(job)])


def provenance(job: Job) -> Provenance:
    """Return what the artifact is to say of itself."""
    chosen = job.param("influence").dtype
    stored = {str(load_config(job.input(name)).dtype).removeprefix("torch.") for name in MODELS}
    computed = " and ".join(sorted(stored)) if chosen == "stored" else chosen
    return job.provenance("influence/2", device=choose_device(job.param("device")), dtype=computed)


def compute(job: Job, share: Share = WHOLE) -> Piece:
    """Return a share of both sweeps, which are cut as one list: most shares then load one model."""
    device = choose_device(job.param("device"))
    asked = {name: _Asked(job, name, device) for name in MODELS}
    sizes = {name: each.batch_size(share) for name, each in asked.items()}
    work = [(name, exact, chunk) for name, each in asked.items() for exact, chunk in each.chunks(sizes[name])]
    own = share.part(work, lambda part: part[2].cost)
    piece: Piece = {f"{name}/batch_size": np.asarray(size) for name, size in sizes.items()}
    total = sum(len(chunk.components) * asked[name].share_of(chunk) for name, exact, chunk in own if not exact)
    with track(round(total), f"{job.name} components{share.label}") as progress:
        for name, each in asked.items():  # one model in memory at a time
            for exact in (False, True):
                chunks = [chunk for model, kind, chunk in own if (model, kind) == (name, exact)]
                if chunks:
                    found = each.sweep(chunks, sizes[name], share.label, progress.advance, exact=exact)
                    piece |= {f"{name}/{key}": values for key, values in found.items()}
    return piece


def save(piece: Piece, description: Provenance, folder: Path) -> None:
    """Write a share's piece to a folder."""
    with write_hdf5(folder / "sweep.h5", description) as file:
        for name, values in piece.items():
            file.put(name, values, [""] * values.ndim)


def load(folder: Path) -> Piece:
    """Return a share's piece from its folder."""
    with open_hdf5(folder / "sweep.h5", SHARE) as file:
        names = [f"{model}/{name}" for model in file for name in file[model]]
        return {name: file[name].asstr()[:] if file[name].dtype.kind == "O" else file[name][()] for name in names}


def gather(job: Job, pieces: Sequence[Piece]) -> None:
    """Write the artifact of all shares' pieces."""
    whole = _joined(pieces)
    with write_hdf5(job.output("influence"), provenance(job)) as file:
        for name in MODELS:
            _put(file, job, name, {key.partition("/")[2]: whole[key] for key in whole if key.startswith(f"{name}/")})


def _joined(pieces: Sequence[Piece]) -> Piece:
    whole: Piece = {}
    for piece in pieces:
        for key, values in piece.items():
            known = whole.get(key)
            whole[key] = (
                values if known is None or values.dtype.kind != "f" else np.where(np.isnan(known), values, known)
            )
    for key, values in whole.items():
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise UserError(f"{key}: the shares leave out a part: delete .snakemake/shards and run again")
    return whole


def _put(file: HDF5Writer, job: Job, name: str, found: Mapping[str, np.ndarray]) -> None:
    """Write logit differences (`unablated`, `ablated`) and log-probabilities of the answer."""
    sizes = Dimensions.of(load_config(job.input(name)))
    file.put(f"{name}/dtype", str(found["dtype"][0]), ())
    file.put(f"{name}/components", [str(each) for each in all_components(sizes.layers, sizes.heads)], ("component",))
    file.put(f"{name}/unablated", found["unablated"], ("prompt",))
    file.put(f"{name}/ablated", found["ablated"], ("component", "prompt"))
    file.put(f"{name}/unablated_log_probability", found["unablated_log_probability"], ("prompt",))
    file.put(f"{name}/ablated_log_probability", found["ablated_log_probability"], ("component", "prompt"))
    file.put(f"{name}/batch_size", found["batch_size"], ())
    if "exact" in found:
        error = found["ablated"][:, : found["exact"].shape[1]] - found["exact"]
        file.put(f"{name}/error_against_float32", error, ("component", "prompt"))


@dataclass(frozen=True)
class _Asked:
    """What is asked of one model."""

    job: Job
    name: str
    device: torch.device

    @cached_property
    def prompts(self) -> PromptTensors:
        return prompt_tensors(self.job.input("prompts"), self.name, self.device)

    @property
    def dtype(self) -> torch.dtype | None:
        chosen = self.job.param("influence").dtype
        return None if chosen == "stored" else getattr(torch, chosen)

    def lens(self, dtype: torch.dtype | None = None) -> Lens:
        model = load_model(self.job.input(self.name), self.device, dtype)
        return ENGINES[self.job.param("influence").engine](model, self.prompts.read_at)

    def _checked(self) -> Lens:
        """Return the lens of the sweep after a check of the model as it is stored, loaded once where that is one."""
        lens = self.lens()
        self_check(lens)
        if self.dtype in {None, lens.model.dtype}:
            return lens
        del lens  # one model in memory at a time
        return self.lens(self.dtype)

    def batch_size(self, share: Share) -> int:
        """Return the number of rows of a pass, measured once for all shares where it is `auto`."""
        chosen = self.job.param("influence").batch_size
        return share.agree(f"batch_size_{self.name}", self._measured) if chosen == "auto" else chosen

    def _measured(self) -> int:
        lens = self.lens(self.dtype)
        return measured_batch_size(lens, self.prompts) if isinstance(lens, HookLens) else len(self.prompts)

    def share_of(self, chunk: Chunk) -> float:
        """Return the share of the prompts that a chunk has."""
        return (chunk.stop - chunk.start) / len(self.prompts)

    def chunks(self, size: int) -> list[tuple[bool, Chunk]]:
        """Return the chunks of the sweep, and where the type is bfloat16 those of the one in float32 (True)."""
        shape, restarted = (
            Dimensions.of(load_config(self.job.input(self.name))),
            self.job.param("influence").engine == "hooks",
        )
        checked = min(CHECKED_PROMPTS, len(self.prompts)) if self.dtype == torch.bfloat16 else 0
        numbers = ((False, len(self.prompts)), (True, checked))
        return [
            (exact, chunk) for exact, number in numbers if number
            for chunk in chunks_of(number, shape, size, restarted=restarted)
        ]  # fmt: skip

    def sweep(
        self, chunks: Sequence[Chunk], size: int, label: str, advance: Callable[[float], None], *, exact: bool
    ) -> Piece:
        """Return the results of some chunks in arrays of the whole sweep's shape."""
        if exact:
            first = self.prompts.rows(0, CHECKED_PROMPTS)
            return {"exact": self._results(self.lens(torch.float32), first, chunks, size, lambda _: None)["ablated"]}
        lens = self._checked()
        if isinstance(lens, HookLens) and chunks[0] == self.chunks(size)[0][1]:  # the share that begins says it for all
            expected = estimate_sweep(lens, *self.prompts.ids.shape, size).describe()
            sys.stderr.write(f"{self.job.name} {self.name}{label and ', all shares together'}: {expected}\n")
        found = self._results(lens, self.prompts, chunks, size, advance)
        return {"dtype": np.asarray([str(lens.model.dtype).removeprefix("torch.")]), **found}

    def _results(
        self, lens: Lens, asked: PromptTensors, chunks: Sequence[Chunk], size: int, advance: Callable[[float], None]
    ) -> Piece:
        means, kind = self.job.input("activations"), self.job.param("influence").ablation
        replaced = replacement_of(means, self.name, kind, lens, self.prompts)
        place = {component: index for index, component in enumerate(lens.components)}
        found: Piece = {}
        for chunk in merged(chunks):
            share = self.share_of(chunk)
            part = influence_sweep(
                lens,
                asked.rows(chunk.start, chunk.stop),
                replaced,
                size,
                components=chunk.components,
                log_probabilities=True,
                advance=lambda count, share=share: advance(count * share),
            )
            rows = [place[component] for component in chunk.components]
            for key, values in vars(part).items():
                shape = (len(place), len(asked))[2 - values.dim() :]
                whole = found.setdefault(key, np.full(shape, np.nan, np.float32))
                prompts = slice(chunk.start, chunk.stop)
                whole[(rows, prompts) if values.dim() == 2 else prompts] = to_numpy(values)
        return found
