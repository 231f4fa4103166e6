"""The command line: `distilled-circuits run`, `why`, `audit` and `diff`; a mistake is one line, never a traceback."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from distilled_circuits.errors import UserError
from distilled_circuits.messages import one_line
from distilled_circuits.params import load_params
from distilled_circuits.running import run_stage

REMEDIES = {
    errno.ENOSPC: "make room and run again",
    errno.EDQUOT: "make room and run again",
    errno.EACCES: "give yourself the right to it (chmod, chown) and run again",
    errno.EROFS: "mount the file system for writing, or work on another one",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "allow more open files (ulimit -n) and run again",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 2 after a mistake that its one line explains."""
    parser = argparse.ArgumentParser(prog="distilled-circuits", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run one stage on the files present; DVC calls this")
    run.add_argument("stage", help="a stage of dvc.yaml")
    run.add_argument("item", nargs="*", metavar="axis=value", help="its item: pair=mini task=numerals; shard=K/N of it")
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


if __name__ == "__main__":
    sys.exit(main())
