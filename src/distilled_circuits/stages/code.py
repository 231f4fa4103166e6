"""Stage `code`: note for every stage the modules that it is made of and their digests, so that edits rerun no more."""

from __future__ import annotations

from dataclasses import replace

from distilled_circuits.artifacts import digest, write_json
from distilled_circuits.imports import code_of
from distilled_circuits.stages.job import Job


def run(job: Job) -> None:
    """Write one list a stage, its modules as inputs: the same bytes until one of them changes."""
    package = job.input("distilled_circuits")
    # Versions of libraries stand in what stages write: here they would rerun everything.
    plain = replace(job.provenance("code/1"), libraries={})
    for stage in job.outputs:
        modules = {module.as_posix(): digest(module) for module in code_of(stage, package)}
        write_json(job.output(stage), replace(plain, inputs=modules), {})
