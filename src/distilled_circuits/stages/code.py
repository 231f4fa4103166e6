"""Stage `code`: note for every other stage the modules that it is made of, with their digests."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from distilled_circuits.artifacts import Provenance, digest, to_json, write_text
from distilled_circuits.imports import code_of
from distilled_circuits.stages.job import Job


def run(job: Job) -> None:
    """Write one list a stage, its modules as inputs: the same bytes until one of them changes."""
    package = job.input("distilled_circuits")
    for stage in job.outputs:
        write_text(job.output(stage), noted(stage, package))


def noted(stage: str, package: Path, root: Path = Path()) -> str:
    """Return what is written of a stage whose modules are in `package`; paths are relative to `root`."""
    modules = {module.relative_to(root).as_posix(): digest(module) for module in code_of(stage, package)}
    # No versions of libraries: they stand in what stages write, and here they would rerun everything.
    provenance = Provenance("code/1", "code", params={}, inputs=modules, device="cpu", dtype="float32")
    return to_json({"provenance": asdict(provenance)})
