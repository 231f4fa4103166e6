"""Running one stage for one item: it is handed what dvc.yaml declares, if its code is what DVC will record."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from distilled_circuits.durations import record
from distilled_circuits.errors import UserError
from distilled_circuits.graph import CODE, PACKAGE, load_graph, sha256
from distilled_circuits.params import Params, load_params

SPLIT = ("influence", "distillation")
"""Stages whose work can be computed in shards."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_stage(stage: str, item: Sequence[str]) -> None:
    """Run one stage for one item with the inputs, parameters and outputs that dvc.yaml declares, or a shard of it."""
    began = time.monotonic()
    params = load_params(Path("params.yaml"))
    graph = load_graph()
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
    _check_code(stage)
    # Before numpy and torch are imported, which read these once. The number of threads is part of the result.
    threads = params.threads.training if "threads.training" in instance.params else params.threads.analysis
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(threads))
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
    name = instance.name if shard is None else f"{instance.name}_{shard.replace('/', '-of-')}"
    record(name, time.monotonic() - began, threads)


def _compute(stage: str, job: Any, shard: str | None) -> None:
    """Compute a stage whole, or one shard of it."""
    module = importlib.import_module(f"distilled_circuits.stages.{stage}")
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


def _check_code(stage: str) -> None:
    """Refuse to run code that is not what DVC is about to record: a module edited since the run began.

    Raises UserError that names the module; what was made would be taken for the old code's, now and from DVC's cache.
    """
    noted = Path(CODE) / f"{stage}.json"
    if not noted.exists():  # of stage `code` itself, and of a stage that is run by hand
        return
    # A new import is an edit of a module that is noted already.
    try:
        modules = dict(json.loads(noted.read_text(encoding="utf-8"))["provenance"]["inputs"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{noted}: damaged; delete it and start snakemake again") from None
    for module, recorded in modules.items():
        path = Path(module)
        if not path.exists() or sha256(path) != recorded:
            raise UserError(f"{module}: edited since this run began, so {stage} was not run; start snakemake again")


def select(params: Params, dotted: str) -> object:
    """Return the validated value at a dotted name: an attribute of a section, or a key of `models` or `conditions`."""
    value: object = params
    for part in dotted.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def _by_stem(paths: Iterable[str]) -> dict[str, Path]:
    return {Path(path).stem: Path(path) for path in paths}
