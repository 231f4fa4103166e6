"""An audit finds what was changed after it was made: each of a list of planted mutations, at its artifact and check."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from projects import ROOT, environment, no_drawing, quick_probes, run_in_process, smoke_params

from distilled_circuits.artifacts import digest
from distilled_circuits.audit.digests import Digests
from distilled_circuits.audit.findings import CHECKS
from distilled_circuits.audit.schemas import SCHEMAS
from distilled_circuits.cli import main
from distilled_circuits.graph import Graph, load_graph
from distilled_circuits.lockfile import LOCK, files_of, md5
from distilled_circuits.models.recipes import train_from_scratch
from distilled_circuits.running import run_stage

PAIR = "results/pairs/mini"
TASK = f"{PAIR}/numerals"
STORY = "results/distillation/0/small/theory_of_mind"
QUESTIONS = "results/distillation/stories/theory_of_mind/questions.h5"
SMALL: dict[str, Any] = {
    "tasks": ["numerals", "words"],
    "models.mini.teacher": {
        "layers": 2, "heads": 4, "width": 32, "initial_scale": 0.15, "steps": 100, "batch_size": 16, "warmup": 10,
        "learning_rate": 0.01, "evaluate_every": 50,
    },
    "models.mini.student": {
        "layers": [0], "steps": 20, "batch_size": 16, "warmup": 5, "learning_rate": 0.005, "evaluate_every": 20,
    },
    "prompts": {"number": 16},
    "circuit": {"thresholds": [0.1, 0.2], "random_draws": 2, "curve_points": 3},
    "edges": {"prompts": 8},
    "stability": {"prompts": 8, "resamples": 2, "edge_resamples": 10},
    "heads": {"prompts": 8, "shuffles": 20, "resamples": 10},
    "patching": {"prompts": 2},
    "shift": {"prompts": 8},
    "battery": {
        "mismatched": {"layers": 1, "heads": 4, "key_value_heads": 2}, "prompts": 8, "resamples": 10,
        "draws": 10,
    },
    "noise": {
        "prompts": 8, "levels": {"stop": 1.0, "step": 1.0}, "seeds": [0],
        "readings": [{"site": "residual", "layer": 0, "scale": "relative"}],
        "survey": {"stop": 1.0, "step": 1.0, "seeds": [0]},
    },
    "family.teacher": {
        "layers": 2, "heads": 4, "width": 16, "steps": 20, "batch_size": 16, "warmup": 5, "learning_rate": 0.005,
        "evaluate_every": 10,
    },
    "family.students.small": {
        "layers": 2, "heads": 3, "width": 12, "steps": 20, "batch_size": 16, "warmup": 5, "learning_rate": 0.005,
        "evaluate_every": 10, "level": 0.01,
    },
    "distillation.runs": ["ce_circuit", "ce_random"],
    "distillation.judged": 16,
    "distillation.questions": {"test": 24, "variants": 8, "validation": 8, "circuit": 16, "training": 32},
}  # fmt: skip
"""What this file's configuration changes in that of the smoke run."""


def lock_of(graph: Graph) -> dict[str, Any]:
    """Return what DVC records of a finished run: digests of inputs and outputs, and the parameters as written."""

    def file(path: str) -> dict[str, Any]:
        place = Path(path)
        found = {"path": path, "hash": "md5", "md5": md5(place)}
        if not place.is_dir():
            return {**found, "size": place.stat().st_size}
        return {**found, "size": sum(each.stat().st_size for each in files_of(place)), "nfiles": len(files_of(place))}

    known: dict[str, dict[str, Any]] = {}
    stages = {}
    for item in graph.items:
        entry: dict[str, Any] = {"cmd": item.command}
        for key, paths in (("deps", item.inputs), ("outs", item.outputs)):
            entry[key] = [dict(known.setdefault(path, file(path))) for path in paths]
        values = {}
        for dotted in item.params:
            value = graph.content
            for part in dotted.split("."):
                value = value[part]
            values[dotted] = value
        stages[item.name] = {**entry, "params": {"params.yaml": values}} if values else entry
    return {"schema": "2.0", "stages": stages}


def hurried(recipe: Any, *rest: Any) -> Any:
    """Train for a few steps."""
    return train_from_scratch(recipe.model_copy(update={"steps": 5}), *rest)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run with its dvc.lock, made without DVC."""
    folder = tmp_path_factory.mktemp("audit") / "project"
    with pytest.MonkeyPatch.context() as patch:
        no_drawing(patch)
        quick_probes(patch)
        for stage in ("replica", "rivals"):  # nothing depends on what they have learned
            patch.setattr(f"distilled_circuits.stages.{stage}.train_from_scratch", hurried)
        run_in_process(folder, smoke_params(**SMALL), patch)
        run_stage("code", [])
        Path(LOCK).write_text(json.dumps(lock_of(load_graph())))
        nodes = [json.loads(Path(CIRCUIT).read_text())[model]["nodes"] for model in ("teacher", "student")]
        assert all(nodes), "the small models of this file have no circuit to be changed: train them for longer"
    return folder


@pytest.fixture
def project(finished, tmp_path, monkeypatch) -> Path:
    """A copy of the finished run to be changed, and the working directory; files are linked until they are edited."""
    folder = shutil.copytree(finished, tmp_path / "project", symlinks=True, copy_function=os.link)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def quick(project, monkeypatch) -> Path:
    """The same, its dvc.lock read as the JSON that it is in this file: in a tenth of the time."""
    monkeypatch.setattr("distilled_circuits.audit.record.parse_yaml", json.loads)
    return project


def audited(capsys, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command in this process; return its exit status and its JSON."""
    capsys.readouterr()
    status = main(["audit", "--json", *arguments])
    return status, json.loads(capsys.readouterr().out)


def rewrite(path: str, content: bytes) -> None:
    """Write a file anew: the one that it is linked to stays as it is."""
    Path(path).unlink()
    Path(path).write_bytes(content)


def flip(path: str, place: float = 0.5) -> None:
    """Change one bit of a file."""
    content = bytearray(Path(path).read_bytes())
    content[int(len(content) * place)] ^= 1
    rewrite(path, bytes(content))


def text(path: str, pattern: str, replacement: str) -> None:
    """Replace the first match of a pattern in a text file."""
    before = Path(path).read_text()
    after = re.sub(pattern, replacement, before, count=1, flags=re.DOTALL)
    assert after != before, pattern
    rewrite(path, after.encode())


def in_json(path: str, change: Callable[[Any], None]) -> None:
    """Change the content of a JSON artifact."""
    content = json.loads(Path(path).read_text())
    change(content)
    rewrite(path, json.dumps(content, indent=1, ensure_ascii=False).encode())


def in_hdf5(path: str, change: Callable[[h5py.File], None]) -> None:
    """Change an HDF5 artifact in place."""
    rewrite(path, Path(path).read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)


def in_provenance(path: str, change: Callable[[Any], None]) -> None:
    """Change what an artifact says of itself."""
    if not path.endswith(".h5"):
        in_json(path, lambda content: change(content["provenance"]))
        return

    def edit(file: h5py.File) -> None:
        said = json.loads(file.attrs["provenance"])
        change(said)
        file.attrs["provenance"] = json.dumps(said)

    in_hdf5(path, edit)


def in_lock(change: Callable[[Any], None]) -> None:
    """Change dvc.lock."""
    content = json.loads(Path(LOCK).read_text())  # JSON is YAML, and quicker to read and write
    change(content["stages"])
    rewrite(LOCK, json.dumps(content).encode())


def forge(*paths: str) -> None:
    """Make dvc.lock say of outputs what they are now, as made and as read: bytes no longer tell."""

    def sign(stages: Any) -> None:
        for entry in stages.values():
            for file in (*entry["deps"], *entry["outs"]):
                if file["path"] in paths or any(path.startswith(f"{file['path']}/") for path in paths):
                    file["md5"] = md5(Path(file["path"]))
                    files = files_of(Path(file["path"])) if "nfiles" in file else [Path(file["path"])]
                    file["size"] = sum(each.stat().st_size for each in files)

    in_lock(sign)


def forged(change: Callable[[], None], *paths: str) -> Callable[[], None]:
    """Return a change after which dvc.lock is made to match."""

    def both() -> None:
        change()
        forge(*paths)

    return both


def edit_module(module: str) -> None:
    """Give the project a package of its own, with one module edited."""
    Path("src").unlink()
    shutil.copytree(ROOT / "src", "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    text(f"src/distilled_circuits/{module}", r"\Z", "# edited\n")


def says(change: Callable[[Any], None]) -> Callable[[], None]:
    """Return a change of what one artifact says of itself, with dvc.lock made to match."""
    return forged(lambda: in_provenance(MLPS, change), MLPS)


def set_value(name: str, index: Any, value: Any) -> Callable[[h5py.File], None]:
    """Return a change of one value of a dataset."""

    def change(file: h5py.File) -> None:
        file[name][index] = value

    return change


def replace_dataset(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    """Return a change of a whole dataset, its axes keeping their names."""

    def change(file: h5py.File) -> None:
        values, labels = file[name][()], [axis.label for axis in file[name].dims]
        del file[name]
        dataset = file.create_dataset(name, data=make(values))
        for axis, label in zip(dataset.dims, labels, strict=True):
            axis.label = label

    return change


def put(*keys: Any, value: Any) -> Callable[[Any], None]:
    """Return a change of the value at nested keys."""

    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def add(*keys: Any, by: float) -> Callable[[Any], None]:
    """Return a change of the number at nested keys."""

    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] += by

    return change


def swap(one: str, other: str) -> None:
    """Exchange two files."""
    first, second = Path(one).read_bytes(), Path(other).read_bytes()
    rewrite(one, second)
    rewrite(other, first)


def new_weights(folder: str) -> None:
    """Change a model's weights, and model.json so that it lists them."""
    flip(f"{folder}/model.safetensors", 0.9)
    sha = digest(Path(f"{folder}/model.safetensors"))
    in_json(f"{folder}/model.json", put("files", "model.safetensors", value=sha))


TEACHER = f"{PAIR}/teacher"
RUN = f"{STORY}/runs/ce_circuit/0"
MLPS, INFLUENCE, CIRCUIT = f"{TASK}/mlps.h5", f"{TASK}/influence.h5", f"{TASK}/circuit.json"
TABLE = "results/plots/noise.csv"
KINDS = [
    *(f"{TASK}/{name}.h5" for name in ("activations", "influence", "evaluation", "edges", "heads", "roles", "mlps")),
    *(f"{TASK}/{name}.h5" for name in ("shift", "sampling", "battery", "noise")),
    *(f"{TASK}/{name}.json" for name in ("prompts", "circuit", "circuit_teacher", "stability", "roles_played")),
    *(f"{TASK}/alignment.json", QUESTIONS),
    *(f"{STORY}/{name}.json" for name in ("mapping", "untrained", "sweeps/ce_random", "verdicts")),
    *("results/comparison.json", "results/metrics.yaml", TABLE, "results/report.html", "results/code/mlps.json"),
    *(f"{TEACHER}/{name}" for name in ("model.safetensors", "config.json", "tokenizer.json")),
    f"{RUN}/model.safetensors",
]
"""One of each kind of file that stages write."""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", KINDS, ids=lambda path: Path(path).name)
def test_a_flipped_bit_is_found(path, capsys):
    """In each kind of file; a file of a model directory is found at its directory."""
    artifact = str(Path(path).parent) if Path(path).parent.name in ("teacher", "0") else path
    flip(path)
    status, found = audited(capsys, artifact)
    first = found["findings"][0]
    assert status == 1
    assert (first["artifact"], first["check"], first["place"]) == (artifact, "bytes", "md5")


EDITS: dict[str, tuple[Callable[[], None], str, str]] = {
    # What the list of bytes above does not have.
    "an artifact is missing": (lambda: Path(f"{TASK}/edges.h5").unlink(), f"{TASK}/edges.h5", "bytes"),
    "a file of a model is missing": (lambda: Path(f"{TEACHER}/config.json").unlink(), TEACHER, "bytes"),
    "a file more in a model": (lambda: Path(f"{TEACHER}/more.txt").touch(), TEACHER, "bytes"),
    "a file that no stage makes": (lambda: Path(f"{TASK}/old.h5").touch(), f"{TASK}/old.h5", "bytes"),
    "a half-written file": (lambda: Path(f"{TASK}/mlps.h5.tmp-7").touch(), f"{TASK}/mlps.h5.tmp-7", "bytes"),
    "tasks swapped": (
        lambda: swap(INFLUENCE, f"{PAIR}/words/influence.h5"), INFLUENCE, "bytes",
    ),
    # dvc.lock
    "md5 in dvc.lock": (
        lambda: in_lock(put("mlps@mini-words", "outs", 0, "md5", value="0" * 32)), f"{PAIR}/words/mlps.h5", "bytes",
    ),
    "size in dvc.lock": (lambda: in_lock(put("mlps@mini-words", "outs", 0, "size", value=5)), LOCK, "bytes"),
    "command in dvc.lock": (lambda: in_lock(put("report", "cmd", value="true")), LOCK, "bytes"),
    "entry gone from dvc.lock": (lambda: in_lock(lambda stages: stages.pop("noise@mini-numerals")), LOCK, "bytes"),
    "output gone from dvc.lock": (
        lambda: in_lock(lambda stages: _drop(stages["edges@mini-words"]["outs"], f"{PAIR}/words/edges.h5")),
        f"{PAIR}/words/edges.h5", "bytes",
    ),
    "output more in dvc.lock": (
        lambda: in_lock(lambda stages: stages["report"]["outs"].append({"path": "x", "md5": "0", "size": 1})), LOCK,
        "bytes",
    ),
    "malformed entry in dvc.lock": (lambda: in_lock(put("report", "outs", 0, "size", value="big")), LOCK, "bytes"),
    "input's md5 in dvc.lock": (
        lambda: in_lock(put("mlps@mini-words", "deps", 1, "md5", value="0" * 32)), f"{PAIR}/words/mlps.h5", "inputs",
    ),
    "word lists' md5 in dvc.lock": (
        lambda: in_lock(lambda stages: _dep(stages["teacher@mini"], "data/lexicon").update(md5="0" * 32)), TEACHER,
        "inputs",
    ),
    "input gone from dvc.lock": (
        lambda: in_lock(lambda stages: stages["report"]["deps"].pop()), LOCK, "inputs",
    ),
    "input more in dvc.lock": (
        lambda: in_lock(lambda stages: stages["report"]["deps"].append({"path": "x", "md5": "0", "size": 1})), LOCK,
        "inputs",
    ),
    "parameter in dvc.lock": (
        lambda: in_lock(put("circuit@mini-words", "params", "params.yaml", "circuit", "threshold", value=0.5)),
        f"{PAIR}/words/circuit.json", "parameters",
    ),
    "parameter out of range in dvc.lock": (
        lambda: in_lock(put("circuit@mini-words", "params", "params.yaml", "circuit", "threshold", value=-3)),
        f"{PAIR}/words/circuit.json", "parameters",
    ),
    "parameter gone from dvc.lock": (
        lambda: in_lock(lambda stages: stages["circuit@mini-words"]["params"]["params.yaml"].pop("circuit")),
        f"{PAIR}/words/circuit.json", "parameters",
    ),
    # parameters
    "parameter in params.yaml": (
        lambda: text("params.yaml", r" threshold: 0\.20?\b", " threshold: 0.3"), CIRCUIT, "parameters",
    ),
    "parameter in an HDF5 artifact": (
        says(put("params", "mlps", "similar", value=0.1)),
        MLPS, "parameters",
    ),
    "parameter in a JSON artifact": (
        forged(
            lambda: in_provenance(f"{TASK}/alignment.json", put("params", "alignment.draws", value=11)),
            f"{TASK}/alignment.json",
        ),
        f"{TASK}/alignment.json", "parameters",
    ),
    "parameter gone from an artifact": (
        says(lambda said: said["params"].pop("mlps")),
        MLPS, "parameters",
    ),
    "seed in an artifact": (
        says(put("seeds", "resampled prompts", value=99)),
        MLPS, "parameters",
    ),
    "stage in an artifact": (
        says(put("stage", value="mlps@mini-words")),
        MLPS, "parameters",
    ),
    "tasks swapped, dvc.lock too": (
        forged(lambda: swap(MLPS, f"{PAIR}/words/mlps.h5"), MLPS, f"{PAIR}/words/mlps.h5"),
        MLPS, "parameters",
    ),
    # inputs
    "an input's digest in an artifact": (
        says(put("inputs", TEACHER, value="0" * 64)),
        MLPS, "inputs",
    ),
    "an input not named by an artifact": (
        says(lambda said: said["inputs"].pop(TEACHER)),
        MLPS, "inputs",
    ),
    "a foreign input named by an artifact": (
        says(put("inputs", "/etc/passwd", value="0")),
        MLPS, "inputs",
    ),
    "weights named by an artifact": (
        says(put("models", "teacher", "weights", value="0")),
        MLPS, "inputs",
    ),
    "stale input, recorded as made": (
        lambda: (in_provenance(INFLUENCE, put("device", value="cuda")),
                 in_lock(lambda stages: _out(stages["influence@mini-numerals"]))),
        CIRCUIT, "inputs",
    ),
    "word lists edited": (lambda: flip("data/lexicon/names.txt"), TEACHER, "inputs"),
    "weights and model.json": (lambda: new_weights(TEACHER), TEACHER, "bytes"),
    "weights, model.json and dvc.lock": (
        forged(lambda: new_weights(f"{PAIR}/student"), f"{PAIR}/student"), f"{TASK}/prompts.json", "inputs",
    ),
    "weights and dvc.lock": (
        forged(lambda: flip(f"{TEACHER}/model.safetensors", 0.9), f"{TEACHER}/model.safetensors"), TEACHER, "inputs",
    ),
    # code
    "a module edited": (
        lambda: edit_module("roles/patching.py"), "results/code/roles.json", "code",
    ),
    "a module gone from its list": (
        forged(
            lambda: in_provenance("results/code/mlps.json", lambda said: said["inputs"].popitem()),
            "results/code/mlps.json",
        ),
        "results/code/mlps.json", "code",
    ),
    "a list of modules, and as made in dvc.lock": (
        lambda: (in_provenance("results/code/mlps.json", put("device", value="cuda")),
                 in_lock(lambda stages: _out(stages["code"]))),
        MLPS, "inputs",
    ),
}  # fmt: skip


OF_MANY = {
    "a file that no stage makes",
    "a half-written file",
    "tasks swapped",
    "size in dvc.lock",
    "entry gone from dvc.lock",
    "parameter in params.yaml",
    "stale input, recorded as made",
    "word lists edited",
    "weights, model.json and dvc.lock",
    "a module edited",
}
"""Edits for which everything is audited, because much follows from them; else the artifact alone."""


def _dep(entry: dict[str, Any], path: str) -> dict[str, Any]:
    return next(file for file in entry["deps"] if file["path"] == path)


def _drop(files: list[dict[str, Any]], path: str) -> None:
    files[:] = [file for file in files if file["path"] != path]


def _out(entry: dict[str, Any]) -> None:
    """Make an entry say of its outputs what they are now."""
    for file in entry["outs"]:
        file["md5"], file["size"] = md5(Path(file["path"])), Path(file["path"]).stat().st_size


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_found(edit, capsys):
    """The first finding names the artifact and the check, however much follows from the edit."""
    change, artifact, check = EDITS[edit]
    change()
    named = "results/report.html" if artifact == LOCK else artifact
    status, found = audited(capsys, *([] if edit in OF_MANY else [named]))
    assert status == 1
    assert (found["findings"][0]["artifact"], found["findings"][0]["check"]) == (artifact, check)


VALUES: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    # path, change of its content, and the place that is named
    "NaN": (INFLUENCE, set_value("teacher/ablated", (2, 3), np.nan), "teacher/ablated"),
    "another component": (
        INFLUENCE, replace_dataset("student/components", lambda v: v[::-1]), "student/components",
    ),
    "a prompt less": (INFLUENCE, replace_dataset("teacher/unablated", lambda v: v[:-1]), "teacher/unablated"),
    "dataset missing": (INFLUENCE, lambda file: file.pop("teacher/ablated"), "teacher/ablated"),
    "dataset more": (INFLUENCE, lambda file: file.create_dataset("teacher/x", data=1.0), "teacher/x"),
    "another type": (
        INFLUENCE, replace_dataset("teacher/unablated", lambda v: v.astype("i4")), "teacher/unablated",
    ),
    "positive log probability": (
        INFLUENCE, set_value("teacher/ablated_log_probability", (0, 0), 0.5), "ablated_log_probability",
    ),
    "attention beside one": (f"{TASK}/activations.h5", set_value("teacher/pattern", (1, 0, 0, 5, 2), 0.9), "pattern"),
    "attention to what comes": (
        f"{TASK}/activations.h5",
        set_value("teacher/pattern", (1, 0, 0, 0, slice(0, 2)), [0.5, 0.5]),
        "pattern",
    ),
    "one activation": (f"{TASK}/activations.h5", set_value("teacher/z", (3, 1, 4, 2, 0), 5.0), "teacher/residual"),
    "weights of the output": (
        f"{TASK}/activations.h5", set_value("student/output_weights", (0, 0, 0, 0), 3.0), "student/output_weights",
    ),
    "a node less": (CIRCUIT, lambda content: content["teacher"]["nodes"].pop(), "teacher.nodes"),
    "a node that the model has not": (CIRCUIT, put("teacher", "nodes", 0, value="L9H9"), "teacher.nodes"),
    "a decision turned round": (
        CIRCUIT, put("student", "trace", 0, "removed", value="yes"), "student.trace[0].removed",
    ),
    "what a decision leaves": (CIRCUIT, put("teacher", "trace", 0, "retained", value=0.01), "teacher.trace[0]"),
    "full model of the circuit": (f"{TASK}/evaluation.h5", set_value("teacher/full", 0, 99.0), "teacher/"),
    "an edge kept": (
        f"{TASK}/edges.h5", replace_dataset("teacher/kept", lambda v: ~v), "teacher/kept",
    ),
    "an edge renamed": (
        f"{TASK}/edges.h5", lambda file: file["teacher/edges"].__setitem__(0, "L2H0->MLP0"), "teacher/edges",
    ),
    "an edge's score": (
        f"{TASK}/circuit_teacher.json", lambda c: c["edges"][_scored(c)].update(score=7.0), "edges.",
    ),
    "share of a node": (f"{TASK}/stability.json", put("teacher", "edges", "jaccard", "mean", value=1.2), "jaccard"),
    "a role played": (f"{TASK}/heads.h5", replace_dataset("teacher/plays", lambda v: ~v), "teacher/plays"),
    "the mean pattern": (f"{TASK}/heads.h5", set_value("teacher/mean_pattern", (0, 0, 3, 1), 0.77), "mean_pattern"),
    "the cost of a head": (
        f"{TASK}/roles_played.json", add("teacher", "previous_token", "alone", "value", by=1.0), "alone",
    ),
    "the best head": (f"{TASK}/roles_played.json", put("teacher", "previous_token", "score", value=0.999), "score"),
    "a patched run": (f"{TASK}/roles.h5", set_value("student/patching/clean", 0, 50.0), "student/patching/clean"),
    "a probe beyond one": (
        f"{TASK}/roles.h5", set_value("teacher/probes/all_elements/residual_reached", (0, 0), 1.5), "residual_reached",
    ),
    "similarity of MLPs": (MLPS, set_value("similarity", (0, 0), 0.123), "similarity"),
    "what a layer adds": (
        MLPS, set_value("teacher/attribution_at_last/mlp", (2, 1), 44.0), "attribution_at_last",
    ),
    "a shifted prompt": (f"{TASK}/shift.h5", set_value("usual/teacher/full", 1, 50.0), "usual/teacher/full"),
    "a score": (f"{TASK}/alignment.json", add("variants", "printed", "score", by=0.01), "variants.printed.score"),
    "a matched similarity": (
        f"{TASK}/alignment.json", add("presets", "recommended", "matches", 0, "similarity", by=0.05), "recommended",
    ),
    "an influence": (
        f"{TASK}/alignment.json", add("presets", "printed", "matches", 0, "teacher_influence", by=0.05), "printed",
    ),
    "a matched component": (
        f"{TASK}/alignment.json", lambda c: _exchange_students(c["presets"]["printed"]["matches"]), "printed",
    ),
    "what a variant is": (
        f"{TASK}/alignment.json", put("variants", "printed", "parts", "top", value=6), "variants.printed.parts",
    ),
    "resamples": (f"{TASK}/sampling.h5", set_value("mean_agreement", (0, slice(None)), 0.0), "mean_agreement"),
    "the teacher with itself": (f"{TASK}/battery.h5", set_value("score", (0, 0, 0, 0), 0.9), "score, printed, itself"),
    "a level of noise": (f"{TASK}/noise.h5", set_value("main/level", 1, 0.4), "main/level"),
    "without noise": (f"{TASK}/noise.h5", set_value("main/score", (0, 0, 0, 0), 0.9), "main/score"),
    "a prompt less in JSON": (f"{TASK}/prompts.json", lambda c: c["prompts"]["teacher"].pop(), "prompts"),
    "a word that is none": (f"{TASK}/prompts.json", put("prompts", "teacher", 1, "answer_id", value=10**6), "answer"),
    "a question twice": (
        QUESTIONS, lambda file: file["test/ids"].__setitem__(0, file["test/ids"][1]), "prompts that are in two splits",
    ),
    "a choice": (QUESTIONS, set_value("test/answer", 0, 0), "test/answer"),
    "a pair of heads": (
        f"{STORY}/mapping.json", put("mappings", "impact", "pairs", 0, "teacher", value="L2H9"), "pairs",
    ),
    "an answer": (f"{STORY}/untrained.json", put("teacher", "full", 3, value=2), "teacher.full"),
    "an accuracy": (
        f"{STORY}/verdicts.json", add("models", "ce_circuit", "full", "value", by=0.1), "models.ce_circuit",
    ),
    "a verdict": (f"{STORY}/verdicts.json", put("verdict", "verdict", value="replicated"), "verdict"),
    "a p value": (
        f"{STORY}/verdicts.json", add("contrasts", "C4", "seeds", 0, "tests", 0, "p", by=-0.2), "contrasts.C4",
    ),
    "a trial": (f"{STORY}/sweeps/ce_random.json", put("trials", 0, "accuracy", value=1.5), "trials[0].accuracy"),
    "a loss": (f"{RUN}/model.json", add("seeds", 0, "runs", 0, "log", 0, "loss", by=1.0), "loss"),
    "a number of the report": (
        "results/comparison.json",
        add("pairs", "mini", "tasks", "numerals", "logit_difference", "teacher", "value", by=0.01), "logit_difference",
    ),
    "a score of the report": (
        "results/comparison.json",
        add("pairs", "mini", "tasks", "words", "alignment", "variants", "released", "score", "value", by=0.01),
        "alignment.released",
    ),
    "a step of training": (f"{TEACHER}/model.json", put("training", 1, "step", value=0), "training"),
    "layers in config.json": (f"{TEACHER}/config.json", put("n_layer", value=7), "layers with weights"),
    "words in config.json": (f"{TEACHER}/config.json", put("vocab_size", value=5), "wte.weight"),
}  # fmt: skip


def _scored(content: dict[str, Any]) -> str:
    return next(name for name, edge in content["edges"].items() if edge["score"])


def _exchange_students(rows: list[dict[str, Any]]) -> None:
    other = next(row for row in rows if row["student"] != rows[0]["student"])
    rows[0]["student"], other["student"] = other["student"], rows[0]["student"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("edit", VALUES)
def test_an_edited_value_is_found_by_what_must_hold_of_it(edit, capsys):
    """Although dvc.lock says that the bytes are as made: only the content tells, at the place that was edited."""
    path, change, place = VALUES[edit]
    artifact = str(Path(path).parent) if path.endswith(("model.json", "config.json")) else path
    edit_file = in_hdf5 if path.endswith(".h5") else in_json
    edit_file(path, change)
    if path.endswith("config.json"):
        in_json(f"{artifact}/model.json", put("files", "config.json", value=digest(Path(path))))
    forge(path)
    status, found = audited(capsys, artifact)
    of_content = [each for each in found["findings"] if each["check"] == "invariants"]
    assert status == 1
    assert of_content[0]["artifact"] == artifact
    assert place in of_content[0]["place"]


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "HDF5 cut short": (INFLUENCE, lambda content: content[: len(content) // 2]),
    "HDF5 emptied": (INFLUENCE, lambda _: b""),
    "JSON cut short": (CIRCUIT, lambda content: content[: len(content) // 2]),
    "JSON of another form": (CIRCUIT, lambda _: b'{"provenance": {"schema": ["circuit/2"]}}'),
    "JSON of lists": (CIRCUIT, lambda _: b"[" * 2000),
    "JSON without content": (f"{TASK}/alignment.json", lambda _: b'{"provenance": {"schema": "alignment/2"}}'),
    "JSON with NaN": (f"{TASK}/stability.json", lambda content: content.replace(b"1.0", b"NaN", 1)),
    "no text": (f"{TASK}/prompts.json", lambda _: b"\xff\xfe\x00"),
    "another schema": (MLPS, lambda _: Path(f"{TASK}/edges.h5").read_bytes()),
    "weights cut short": (f"{TEACHER}/model.safetensors", lambda content: content[:1000]),
    "a header of weights without end": (f"{TEACHER}/model.safetensors", lambda content: b"\xff" * 8 + content[8:]),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_a_finding_and_no_traceback(damage, capsys):
    """Whatever is in it, and when dvc.lock says that it is as made."""
    path, change = DAMAGE[damage]
    rewrite(path, change(Path(path).read_bytes()))
    forge(path)
    artifact = TEACHER if path.startswith(TEACHER) else path
    status, found = audited(capsys, artifact)
    assert status == 1
    assert "invariants" in {each["check"] for each in found["findings"] if each["artifact"] == artifact}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("trick", ["link", "storage", "filter", "size"])
def test_nothing_outside_an_artifact_is_read(trick, capsys):
    """Links to other files, storage elsewhere, filters (which HDF5 loads code for), and sizes beyond the file's."""

    def change(file: h5py.File) -> None:
        del file["teacher/unablated"]
        if trick == "link":
            file["teacher/unablated"] = h5py.ExternalLink(f"{PAIR}/words/influence.h5", "teacher/unablated")
        elif trick == "storage":
            file.create_dataset("teacher/unablated", (8,), "f4", external=[("params.yaml", 0, 32)])
        elif trick == "filter":
            file.create_dataset("teacher/unablated", data=np.zeros(8, "f4"), chunks=(8,), compression="gzip")
        else:
            file.create_dataset("teacher/unablated", (2**36,), "f4", chunks=(2**10,))

    in_hdf5(INFLUENCE, change)
    forge(INFLUENCE)
    found = audited(capsys, INFLUENCE)[1]["findings"]
    assert [each["place"] for each in found if each["check"] == "invariants"] == ["content"]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("damage", ["", "stages: [", "stages: 3", "stages: {teacher@mini: 4}", "a: &a [*a]"])
def test_a_damaged_lock_is_a_finding(damage, capsys):
    """And what it does not record any more is named."""
    rewrite(LOCK, damage.encode())
    status, found = audited(capsys, "results/report.html")
    assert status == 1
    assert found["findings"][0]["artifact"] == LOCK


@pytest.mark.usefixtures("project")
def test_a_finished_run_is_clean_and_says_so_alike(capsys):
    """Exit status 0, the same JSON twice, every output in the order of the graph with its stage and digests."""
    status, found = audited(capsys)
    assert (status, found["findings"]) == (0, [])
    assert found["mismatches"] == dict.fromkeys(CHECKS, 0)
    assert [each["path"] for each in found["artifacts"]] == list(load_graph().outputs)
    mlps = next(each for each in found["artifacts"] if each["path"] == MLPS)
    assert (mlps["stage"], mlps["schema"]) == ("mlps@mini-numerals", "mlps/2")
    assert (mlps["md5"], mlps["sha256"]) == (md5(Path(mlps["path"])), digest(Path(mlps["path"])))
    assert audited(capsys) == (status, found)


@pytest.mark.usefixtures("project")
def test_a_person_reads_lines(capsys):
    """Of a named artifact what it says of itself, not of all in a folder; one line a mismatch, then the counts."""
    flip(MLPS, 0.9)
    capsys.readouterr()
    assert main(["audit", MLPS]) == 1
    *said, finding, last = capsys.readouterr().out.splitlines()
    assert f"{TASK}/mlps.h5: mlps/2, made by mlps@mini-numerals" in said
    assert any(line.startswith("  libraries: ") and '"h5py"' in line for line in said)
    assert finding.startswith(f"{TASK}/mlps.h5: ")
    assert re.search(r"1 artifact of 1 stage, mismatches: bytes 1, parameters 0, inputs 0, code 0, ", last)
    assert main(["audit", TASK]) == 1
    assert "libraries" not in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_paths_stand_for_what_is_below_them(capsys):
    """A folder for its artifacts and a file of a model for the model; what is no artifact is a line and status 2."""
    below = audited(capsys, f"{PAIR}/words", str(Path.cwd() / TEACHER / "config.json"))[1]["artifacts"]
    assert [each["path"] for each in below][:2] == [TEACHER, f"{PAIR}/words/prompts.json"]
    assert all(each["path"].startswith((TEACHER, f"{PAIR}/words/")) for each in below)
    for path, said in (("results/no.h5", "no such file"), ("params.yaml", "no artifact of a stage")):
        assert main(["audit", path]) == 2
        assert said in capsys.readouterr().err
    Path(LOCK).unlink()
    assert main(["audit"]) == 2
    assert "dvc.lock: records nothing yet" in capsys.readouterr().err


def test_dvc_and_heavy_libraries_are_not_needed(finished):
    """A child in which none of them can be imported audits the run."""
    blocked = ("dvc", "torch", "transformers", "matplotlib", "pandas", "sklearn")
    code = f"""
import sys
from importlib.abc import MetaPathFinder
class Nowhere(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name)
sys.meta_path.insert(0, Nowhere())
from distilled_circuits.cli import main
main(["audit", "--json"])
"""
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=finished, env=environment(), check=True, capture_output=True
    )
    assert json.loads(told.stdout)["clean"]


def test_every_schema_that_a_stage_writes_has_invariants():
    """Read from the stages' texts, where a schema is a name and a version."""
    written = {
        schema
        for module in (ROOT / "src/distilled_circuits/stages").glob("*.py")
        for schema in re.findall(r'"([a-z_]+/\d+)"', module.read_text())
    }
    shards = {schema for schema in written if "_share/" in schema}  # gone when their stage has gathered them
    assert len(shards) == 2
    assert written - shards == set(SCHEMAS)


def test_digests_are_dvcs_and_those_of_artifacts(tmp_path):
    """Of files and folders, and a file that was read once is not read again."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_text("1")
    (tmp_path / "a/b/two").write_text("2" * 3_000_000)
    with Digests() as digests:
        for path in (tmp_path / "a", tmp_path / "a/one", tmp_path / "a/b/two"):
            assert digests.md5(path) == md5(path)
            assert digests.sha256(path) == digest(path)
        (tmp_path / "a/one").write_text("other")
        assert digests.md5(tmp_path / "a/one") != md5(tmp_path / "a/one")
