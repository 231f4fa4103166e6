"""The check of inputs: what artifacts were made from against the files present, and dvc.lock against itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distilled_circuits.artifacts import read_plain_json
from distilled_circuits.audit.findings import DAMAGED, Finding, shown
from distilled_circuits.audit.project import Project
from distilled_circuits.audit.record import FROM_HISTORY, File
from distilled_circuits.graph import CODE, PACKAGE, Instance
from distilled_circuits.lockfile import LOCK

CHECK = "inputs"
RERUN = "run `snakemake`, which makes it again from what is there"
WEIGHTS = "model.safetensors"


def check_inputs(project: Project, item: Instance) -> Iterator[Finding]:
    """Hold the digests of a stage's inputs, in dvc.lock and in its artifacts, against what is there."""
    if item.name in project.record.entries:
        yield from recorded_inputs(project, item)
    for path in item.outputs:
        said = project.provenance(path)
        if said is not None and not path.startswith(f"{CODE}/"):
            yield from named_inputs(project, item, path, said)
            yield from named_models(project, item, path, said)
        if Path(path).is_dir():
            yield from listed_files(project, path)


def recorded_inputs(project: Project, item: Instance) -> Iterator[Finding]:
    """Require that what dvc.lock says a stage read is what it says another made, or the file that is there."""
    found = project.entry(item).inputs
    artifact = item.outputs[0]
    for path in item.inputs:
        # Modules are held one by one by the check of code: an edit elsewhere in the package changes no result.
        if path == str(PACKAGE):
            continue
        if path not in found:
            yield Finding(LOCK, CHECK, f"{item.name}.deps", path, "no record of it", FROM_HISTORY)
        elif path in project.makers:
            made = project.record.outputs.get(path)
            if made is not None and made != found[path]:
                expected, what = f"{_digest(made)} (as made)", f"{_digest(found[path])} (as read)"
                yield Finding(artifact, CHECK, f"{path} in dvc.lock", expected, what, RERUN)
        elif not Path(path).exists():
            yield Finding(artifact, CHECK, path, "a file or folder", "nothing", "restore it from git")
        elif (now := _present(project, path)) != found[path]:
            yield Finding(artifact, CHECK, path, f"{_digest(found[path])} (dvc.lock)", _digest(now), RERUN)
    for path in sorted(set(found) - set(item.inputs)):
        yield Finding(LOCK, CHECK, f"{item.name}.deps", "what dvc.yaml declares", path, FROM_HISTORY)


def named_inputs(project: Project, item: Instance, path: str, said: Mapping[str, Any]) -> Iterator[Finding]:
    """Require that an artifact names its stage's inputs, all outputs of others among them, with their SHA-256."""
    named = said.get("inputs")
    if not isinstance(named, Mapping):
        yield Finding(path, CHECK, "provenance.inputs", "a digest for each input", shown(named), RERUN)
        return
    declared = [part for part in item.inputs if not part.startswith((f"{CODE}/", f"{PACKAGE}/"))]
    for name in declared:
        if name in project.makers and name not in named:
            yield Finding(path, CHECK, "provenance.inputs", name, "no digest of it", RERUN)
    for name, recorded in named.items():
        if not any(name == part or name.startswith(f"{part}/") for part in declared) or ".." in Path(name).parts:
            yield Finding(path, CHECK, "provenance.inputs", "an input of its stage", shown(name), RERUN)
        elif not Path(name).exists():
            yield Finding(path, CHECK, name, "the file that it was made from", "nothing", RERUN)
        elif (now := project.digests.sha256(Path(name))) != recorded:
            yield Finding(path, CHECK, name, f"SHA-256 {shown(recorded)} (as read)", now, RERUN)


def named_models(project: Project, item: Instance, path: str, said: Mapping[str, Any]) -> Iterator[Finding]:
    """Require that the weights that an artifact names are those of the models among its inputs."""
    models = said.get("models")
    folders = {Path(part).name: Path(part) for part in item.inputs if (Path(part) / "model.json").exists()}
    if not isinstance(models, Mapping) or set(models) != set(folders):
        yield Finding(path, CHECK, "provenance.models", shown(sorted(folders)), shown(models), RERUN)
        return
    for name, folder in folders.items():
        weights = folder / WEIGHTS
        now = project.digests.sha256(weights) if weights.exists() else None
        recorded = models[name].get("weights") if isinstance(models[name], Mapping) else models[name]
        if now != recorded:
            yield Finding(
                path, CHECK, f"models.{name}.weights", f"SHA-256 {shown(recorded)} (as read)", shown(now), RERUN
            )


def listed_files(project: Project, folder: str) -> Iterator[Finding]:
    """Require that the files of a model directory have the SHA-256 that its model.json lists."""
    try:
        files = dict(read_plain_json(Path(folder) / "model.json")["files"])
    except DAMAGED:  # the check of invariants says so
        return
    for name, recorded in files.items():
        place = Path(folder) / name
        if place.parent != Path(folder) or not place.exists():
            yield Finding(folder, CHECK, f"model.json, {shown(name)}", "a file of the directory", "none", RERUN)
        elif (now := project.digests.sha256(place)) != recorded:
            yield Finding(
                folder, CHECK, name, f"SHA-256 {shown(recorded)} (model.json)", now, f"delete {folder}; {RERUN}"
            )


def _present(project: Project, path: str) -> File:
    size, number = project.digests.size(Path(path))
    return File(path=path, md5=project.digests.md5(Path(path)), size=size, nfiles=number)


def _digest(file: File) -> str:
    return f"{file.md5}, {file.size} bytes"
