"""Stage `code`: note for every other stage the modules that it is made of, with their digests."""

from __future__ import annotations

from distilled_circuits.artifacts import Provenance, digest, write_json
from distilled_circuits.imports import code_of
from distilled_circuits.stages.job import Job


def run(job: Job) -> None:
    """Write one list a stage, its modules as inputs: the same bytes until one of them changes."""
    package = job.input("distilled_circuits")
    for stage in job.outputs:
        modules = {module.as_posix(): digest(module) for module in code_of(stage, package)}
        # No versions of libraries: they stand in what stages write, and here they would rerun everything.
        noted = Provenance("code/1", job.name, params={}, inputs=modules, device="cpu", dtype="float32")
        write_json(job.output(stage), noted, {})
