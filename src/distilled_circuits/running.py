"""Running one stage for one item: it is handed what dvc.yaml declares, if its code is what DVC will record."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from distilled_circuits.agreement import change_since, module_since
from distilled_circuits.durations import record
from distilled_circuits.errors import UserError
from distilled_circuits.graph import CODE, PACKAGE, Instance, sha256
from distilled_circuits.lockfile import files_of
from distilled_circuits.params import Params, load_params_and_graph

SPLIT = ("influence", "distillation")
"""Stages whose work can be computed in shards."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SELDOM = 20_000
"""New objects after which a stage's process looks for garbage: at Python's 700 an eighth of a short stage went there,
for torch and transformers make hundreds of thousands that stay."""


def run_stage(stage: str, item: Sequence[str]) -> None:
    """Run one stage for one item with the inputs, parameters and outputs that dvc.yaml declares, or a shard of it."""
    began = time.monotonic()
    params, graph = load_params_and_graph()
    if stage not in graph.stages:
        raise UserError(f"{stage}: no such stage, allowed: {', '.join(graph.stages)}")
    malformed = [part for part in item if "=" not in part]
    if malformed:
        raise UserError(f"{malformed[0]}: expected axis=value, for example pair=mini")
    chosen = dict(part.split("=", 1) for part in item)
    shard = chosen.pop("shard", None)
    if shard is not None and stage not in SPLIT:
        raise UserError(f"{stage}: cannot be split into shards, only {' and '.join(SPLIT)} can")
    instance = graph.stages[stage].instance(chosen)
    plan = graph.plan(instance)
    made = {path: _state(Path(path)) for path in instance.inputs if path.startswith("results/")}
    _refuse_changes(instance, plan, made, "was not run")
    # The number of threads is part of the result.
    threads = params.threads.training if "threads.training" in instance.params else params.threads.analysis
    use_threads(threads)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # A run that is told to stop leaves nothing half-written: `replacing` cleans up on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from distilled_circuits.stages.job import Job

    job = Job(
        name=instance.name,
        item=instance.item,
        params={name: select(params, name) for name in instance.params},
        inputs=_by_stem(path for path in instance.inputs if not path.startswith((f"{CODE}/", f"{PACKAGE}/"))),
        outputs=_by_stem(instance.outputs),
    )
    _compute(stage, job, shard)
    try:
        _refuse_changes(instance, plan, made, "is not kept")
    except UserError:
        for path in map(Path, instance.outputs if shard is None else ()):  # a shard fits no longer, and is left aside
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise
    name = instance.name if shard is None else f"{instance.name}_{shard.replace('/', '-of-')}"
    record(name, time.monotonic() - began, threads)


def use_threads(number: int) -> None:
    """Set the number of threads before numpy and torch are imported, which read it once."""
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(number))


def _compute(stage: str, job: Any, shard: str | None) -> None:
    """Compute a stage whole, or one shard of it."""
    module = _module(stage)
    if stage not in SPLIT:
        module.run(job)
        return
    from distilled_circuits.shards import run_shard, run_whole

    noted = Path(CODE) / f"{stage}.json"
    code = sha256(noted) if noted.exists() else None
    if shard is None:
        run_whole(module, job, code)
    else:
        run_shard(module, job, shard, code)


def _module(stage: str) -> Any:
    """Import a stage's module; garbage is looked for seldom from then on, and never in what the import made."""
    name = f"distilled_circuits.stages.{stage}"
    if name not in sys.modules:
        gc.disable()
        try:
            importlib.import_module(name)
            gc.freeze()
            gc.set_threshold(SELDOM, 10, 10)
        finally:
            gc.enable()
    return sys.modules[name]


def _refuse_changes(instance: Instance, plan: dict[str, Any], made: dict[str, Any], consequence: str) -> None:
    """Raise UserError that names what was edited since the run began: parameter, file, module or other stage's output.

    DVC reads them once more when the command has ended: what was made of the old would be recorded, in dvc.lock and in
    DVC's cache, as made of the new.
    """
    changed = (
        module_since(instance.name.partition("@")[0])
        or change_since(instance.name, plan)
        or next((path for path, state in made.items() if _state(Path(path)) != state), None)
    )
    if changed:
        raise UserError(
            f"{changed}: edited since this run began, so {instance.name} {consequence}; start snakemake again"
        )


def _state(path: Path) -> list[tuple[str, int, int]]:
    """Return size and time of an input's files: reading them all twice would take as long as some stages."""
    files = sorted(files_of(path)) if path.is_dir() else [path] if path.exists() else []
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def select(params: Params, dotted: str) -> object:
    """Return the validated value at a dotted name: an attribute of a section, or a key of `models` or `conditions`."""
    value: object = params
    for part in dotted.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def _by_stem(paths: Iterable[str]) -> dict[str, Path]:
    return {Path(path).stem: Path(path) for path in paths}
