"""Throw-away projects to run pipelines in: a copy of this one with a small configuration, and a tiny graph."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from sklearn.dummy import DummyClassifier

from distilled_circuits.graph import load_graph
from distilled_circuits.running import run_stage

ROOT = Path(__file__).resolve().parent.parent
SMOKE: dict[str, Any] = {
    "tasks": ["numerals"],
    "threads": {"training": 1, "analysis": 1},
    "models.mini.teacher": {
        "layers": 3, "heads": 4, "width": 32, "initial_scale": 0.15, "steps": 150, "batch_size": 16, "warmup": 10,
        "learning_rate": 0.005, "evaluate_every": 50,
    },
    "models.mini.student": {
        "layers": [0, 2], "steps": 60, "batch_size": 16, "warmup": 5, "learning_rate": 0.005, "evaluate_every": 20,
    },
    "prompts": {"number": 16},
    "circuit": {"thresholds": [0.1, 0.2], "random_draws": 2, "curve_points": 4},
    "edges": {"prompts": 8},
    "stability": {"prompts": 8, "resamples": 2, "edge_resamples": 20},
    "heads": {"prompts": 24, "shuffles": 25, "resamples": 20},
    "mlps": {"resamples": 20},
    "patching": {"prompts": 4},
    "probes": {"splits": 2},
    "shift": {"prompts": 8},
    "alignment": {"draws": 10, "resamples": 10, "sizes": [8], "subsets": 2},
    "noise": {
        "prompts": 8, "levels": {"stop": 1.0, "step": 0.5}, "seeds": [0, 1],
        "readings": [{"site": "residual", "layer": 1, "scale": "relative"}],
        "survey": {"stop": 1.0, "step": 1.0, "seeds": [0]},
    },
    "battery": {
        "mismatched": {"layers": 2, "heads": 4, "key_value_heads": 2}, "prompts": 8, "resamples": 10, "draws": 10,
    },
    "family.teacher": {
        "layers": 3, "heads": 4, "width": 32, "steps": 80, "batch_size": 16, "warmup": 5, "learning_rate": 0.005,
        "evaluate_every": 10,
    },
    "family.pace.theory_of_mind": {"raise_at": 0.01},
    "family.tuning.entity_tracking": {"steps": 4},
    "family.tuning.theory_of_mind": {"steps": 4},
    "family.students.small": {
        "layers": 2, "heads": 3, "width": 24, "steps": 80, "batch_size": 16, "warmup": 5, "learning_rate": 0.005,
        "evaluate_every": 10, "level": 0.2,
    },
    "distillation": {
        "tasks": ["theory_of_mind"], "runs": ["ce_circuit", "ce_random", "direct"], "seeds": ["0"], "judged": 32,
        "resamples": 50,
    },
    "distillation.questions": {"test": 48, "variants": 16, "validation": 16, "circuit": 24, "training": 32},
    "distillation.circuits": {"random_draws": 2, "completeness_draws": 3},
    "distillation.training": {
        "prompts": {"entity_tracking": 32, "theory_of_mind": 32}, "steps": 4, "batch_size": 16, "warmup": 2,
        "log_every": 2,
    },
    "distillation.sweep": {
        "conditions": ["ce_random", "ce_circuit"], "learning_rates": [0.001], "weights": [0.1],
        "weighted": ["ce_random"], "sizes": [16], "sized": ["ce_circuit"],
    },
    "comparison": {"resamples": 50},
}  # fmt: skip
"""What the smoke configuration changes in params.yaml: the whole graph in about a minute."""


def environment() -> dict[str, str]:
    """Return the environment of a child: this Python's programs first, no hub, no options of the caller."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE", "PYTEST"))}
    return {**kept, "PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}


def call(folder: Path, *command: str, check: bool = True, **variables: str) -> str:
    """Run a command in a project and return what it printed; fail with its output."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environment(), **variables},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0 or not check, f"{' '.join(command)} in {folder}:\n{done.stdout[-6000:]}"
    return done.stdout


def git_init(folder: Path) -> None:
    """Make a folder a git repository with all its files committed."""
    call(folder, "git", "init", "--quiet")
    git_commit(folder, "start")


def git_commit(folder: Path, message: str) -> None:
    """Commit all files of a repository that are not ignored."""
    call(folder, "git", "add", "--all")
    call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", message)


def smoke_params(**changes: Any) -> dict[str, Any]:
    """Return params.yaml with the smoke configuration, and with other values at dotted names."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for dotted, value in {**SMOKE, **changes}.items():
        *parents, last = dotted.split(".")
        place = params
        for part in parents:
            place = place[part]
        place[last] = {**place[last], **value} if isinstance(value, dict) and last in place else value
    return params


def run_in_process(folder: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every stage of the graph in `folder`, one after the other in this process: no DVC, no new imports."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "src").exists():
        for name in ("lexicon", "circuits", "tasks"):
            shutil.copytree(ROOT / "data" / name, folder / "data" / name, dirs_exist_ok=True)
        shutil.copy(ROOT / "data/published_numbers.json", folder / "data")
        (folder / "src").symlink_to(ROOT / "src")
        shutil.copy(ROOT / "dvc.yaml", folder)
        _copy_tracked_results(folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    monkeypatch.chdir(folder)
    for item in load_graph().items:
        if item.name != "code":
            run_stage(item.name.partition("@")[0], [f"{axis}={value}" for axis, value in item.item.items()])


def quick_probes(patch: pytest.MonkeyPatch) -> None:
    """Let stage `roles` fit probes that only guess, for tests that do not look at what they reach."""
    patch.setattr("distilled_circuits.roles.probes.LogisticRegression", lambda **_: DummyClassifier())


def no_drawing(patch: pytest.MonkeyPatch) -> None:
    """Let stage `report` write a page without figures, whose drawing takes longer than all the rest."""
    page = SimpleNamespace(run=lambda job: job.output("report").write_text("a page"))
    patch.setitem(sys.modules, "distilled_circuits.stages.report", page)


def _copy_tracked_results(folder: Path) -> None:
    """Copy what git keeps of results/: the folder that circuit distillation writes into is there without it."""
    (folder / "results/distillation").mkdir(parents=True)
    shutil.copy(ROOT / "results/distillation/README.md", folder / "results/distillation")


def smoke_project(folder: Path) -> Path:
    """Copy this project without its results into `folder`, with the smoke configuration."""
    return project(folder, yaml.safe_dump(smoke_params(), sort_keys=False))


def project(folder: Path, params: str) -> Path:
    """Copy this project without its results into `folder`, with a params.yaml of this text."""
    folder.mkdir(parents=True)
    for name in ("src", "rules", "profiles", "data"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "external")
        )
    for name in ("Snakefile", "dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    _copy_tracked_results(folder)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    (folder / "params.yaml").write_text(params)
    git_init(folder)
    return folder


def copy_of(finished_run: Path, folder: Path) -> Path:
    """Copy a finished run, with DVC's cache and Snakemake's memory, to where it may be changed."""
    return shutil.copytree(finished_run, folder, symlinks=True)


TINY_GRAPH = """
stages:
  model:
    matrix: {pair: "${pairs}"}
    cmd: python work.py results/pairs/${item.pair}/model/model.json
    deps: [work.py]
    params: [model]
    outs: ["results/pairs/${item.pair}/model"]
  cache:
    matrix: {pair: "${pairs}", task: "${tasks}"}
    cmd: python work.py results/pairs/${item.pair}/${item.task}/cache.h5 results/pairs/${item.pair}/model/model.json
    deps: [work.py, "results/pairs/${item.pair}/model"]
    params: [cache]
    outs: ["results/pairs/${item.pair}/${item.task}/cache.h5"]
  ablate:
    matrix: {pair: "${pairs}", task: "${tasks}"}
    cmd: >-
      python work.py results/pairs/${item.pair}/${item.task}/ablate.h5
      results/pairs/${item.pair}/${item.task}/cache.h5
    deps: [work.py, "results/pairs/${item.pair}/${item.task}/cache.h5"]
    params: [ablate]
    outs: ["results/pairs/${item.pair}/${item.task}/ablate.h5"]
  report:
    cmd: python work.py results/report.html
    deps: [work.py, results/pairs]
    params: [pairs, tasks, report]
    outs: [results/report.html]
"""
TINY_PARAMS = {
    "pairs": ["a"],
    "tasks": ["num", "word"],
    "megabytes": 2,
    "model": {"seed": 0},
    "cache": {"n": 100},
    "ablate": {"threshold": 0.2},
    "report": {"title": "t"},
}
TINY_RULES = (
    'include: "rules/errors.smk"\ninclude: "rules/common.smk"\nrule all:\n    input: every(*graph.stages)\n'
    + "".join(
        f"""rule {stage}:
    input: deps("{stage}"), key("{stage}")
    output: outs("{stage}")
    log: log_of("{stage}")
    message: message_of("{stage}")
    shell: repro("{stage}")
"""
        for stage in ("model", "cache", "ablate", "report")
    )
)
TINY_WORK = '''"""Stands in for a stage: python work.py OUT [IN]; $RAN gets a line for each command that really ran."""
import os, pathlib, sys, time
import yaml
out, *inputs = (pathlib.Path(part) for part in sys.argv[1:])
with open(os.environ["RAN"], "a") as log:
    log.write(f"{out}\\n")
params = yaml.safe_load(open("params.yaml"))
time.sleep(float(os.environ.get("SECONDS_OF_WORK", 0)))
if os.environ.get("FAILS", "no such job") in str(out):
    how = os.environ.get("FAILS_HOW", "exit")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("half")
    os.kill(os.getpid(), 9) if how == "kill" else 1 / 0 if how == "raise" else None
    sys.exit(f"{out}: the loss is nan at step 7")
name = out.parent.name if out.name == "model.json" else out.stem
if name == "report":
    inputs = sorted(pathlib.Path("results/pairs").rglob("ablate.h5"))
text = f"{out} {params[name]} " + "".join(path.read_text()[:200] for path in inputs)
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(text + "x" * (params["megabytes"] * 1_000_000))
if out.name == "model.json":
    out.with_name("model.safetensors").write_text("weights of " + text)
'''


def tiny_project(folder: Path, **changes: Any) -> Path:
    """Make a project with this project's own rules: a model that all read, two stages by task, a report on all."""
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    (folder / "rules").mkdir()
    for name in ("common.smk", "errors.smk", "run_lock.smk"):
        shutil.copy(ROOT / "rules" / name, folder / "rules")
    (folder / "dvc.yaml").write_text(TINY_GRAPH)
    (folder / "Snakefile").write_text(TINY_RULES)
    (folder / "work.py").write_text(TINY_WORK)
    (folder / "params.yaml").write_text(yaml.safe_dump({**TINY_PARAMS, **changes}))
    (folder / ".gitignore").write_text(".snakemake/\nlogs/\n/results/\n")
    call(folder, "git", "init", "--quiet")
    call(folder, "dvc", "init", "--quiet")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    git_init(folder)
    return folder
