"""The command line: `distilled-circuits run STAGE axis=value ...`, `why`, `audit PATH ...`, and `diff REV [REV]`."""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from distilled_circuits.durations import record
from distilled_circuits.errors import UserError
from distilled_circuits.graph import CODE, PACKAGE, load_graph, sha256
from distilled_circuits.messages import one_line
from distilled_circuits.params import Params, load_params

REMEDIES = {
    errno.ENOSPC: "make room and run again",
    errno.EDQUOT: "make room and run again",
    errno.EACCES: "give yourself the right to it (chmod, chown) and run again",
    errno.EROFS: "mount the file system for writing, or work on another one",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "allow more open files (ulimit -n) and run again",
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one for each way to end
    """Run a command and return its exit status: 0, or 2 after a mistake that its one line explains."""
    parser = argparse.ArgumentParser(prog="distilled-circuits", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run one stage on the files present; DVC calls this")
    run.add_argument("stage", help="a stage of dvc.yaml")
    run.add_argument("item", nargs="*", metavar="axis=value", help="its item: pair=mini task=numerals")
    why = commands.add_parser("why", help="say what a run will do, for what reason and at what cost, before it does")
    why.add_argument("target", nargs="?", help="a stage, STAGE@ITEM, or the path of an output: it and what it reads")
    why.add_argument("--json", action="store_true", help="for programs: every job with its reasons, seconds and bytes")
    audit = commands.add_parser("audit", help="show what artifacts say of themselves and check their inputs' digests")
    audit.add_argument("paths", nargs="+", type=Path, help="artifacts or model directories under results/")
    diff = commands.add_parser("diff", help="compare the run of a revision with the working tree, or of two revisions")
    diff.add_argument("revisions", nargs="+", metavar="REV", help="git's name of a commit: HEAD, a tag, a1b2c3d")
    diff.add_argument("--json", action="store_true", help="everything, as JSON")
    options = parser.parse_args(arguments)
    try:
        if options.command == "audit":
            from distilled_circuits.audit import audit_artifacts

            return audit_artifacts(options.paths, print)
        if options.command == "why":
            from distilled_circuits.why import account, as_json, as_text

            found = account(load_params(Path("params.yaml")), options.target)
            print(as_json(found) if options.json else "\n".join(as_text(found)))  # noqa: T201 - what the command is for
        elif options.command == "diff":
            from distilled_circuits.diff.command import print_diff

            print_diff(options.revisions, options.json)
        else:
            run_stage(options.stage, options.item)
    except UserError as error:
        sys.stderr.write(f"distilled-circuits: {one_line(error)}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except (OSError, MemoryError) as error:
        sys.stderr.write(f"distilled-circuits: {one_line(_circumstance(error))}\n")
        return 2
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported for that name alone
            raise
        sys.stderr.write(
            f"distilled-circuits: {options.stage}: the GPU's memory is too small for this batch; lower the batch_size "
            "of this stage in params.yaml (influence, circuit, activations, mlps, patching, probes), or set device to "
            "cpu\n"
        )
        return 2
    return 0


def _circumstance(error: OSError | MemoryError) -> str:
    """Say what a full disk, a missing permission or too little memory is, and what to do; raise again what is a bug."""
    if isinstance(error, MemoryError):
        return f"too little memory ({error}): close other programs, or lower the stage's batch_size in params.yaml"
    if error.errno is None:
        raise error  # no answer of the system: a library calls its own failure so
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{os.strerror(error.errno)}: {REMEDIES.get(error.errno, 'mend that and run again')}"


def run_stage(stage: str, item: Sequence[str]) -> None:
    """Run one stage for one item with the inputs, parameters and outputs that dvc.yaml declares."""
    began = time.monotonic()
    params = load_params(Path("params.yaml"))
    graph = load_graph()
    if stage not in graph.stages:
        raise UserError(f"{stage}: no such stage, allowed: {', '.join(graph.stages)}")
    malformed = [part for part in item if "=" not in part]
    if malformed:
        raise UserError(f"{malformed[0]}: expected axis=value, for example pair=mini")
    instance = graph.stages[stage].instance(dict(part.split("=", 1) for part in item))
    _check_code(stage)
    # Before numpy and torch are imported, which read these once. The number of threads is part of the result.
    threads = params.threads.training if "threads.training" in instance.params else params.threads.analysis
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # A run that is told to stop leaves nothing half-written: `replacing` cleans up on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from distilled_circuits.stages.job import Job

    module = importlib.import_module(f"distilled_circuits.stages.{stage}")
    module.run(
        Job(
            name=instance.name,
            item=instance.item,
            params={name: select(params, name) for name in instance.params},
            inputs=_by_stem(path for path in instance.inputs if not path.startswith((f"{CODE}/", f"{PACKAGE}/"))),
            outputs=_by_stem(instance.outputs),
        )
    )
    record(instance.name, time.monotonic() - began, threads)


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


if __name__ == "__main__":
    sys.exit(main())
