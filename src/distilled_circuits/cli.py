"""The command line: `distilled-circuits run`, `why`, `audit` and `diff`; a mistake is one line, never a traceback."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from distilled_circuits.errors import UserError
from distilled_circuits.failures import in_one_line
from distilled_circuits.messages import one_line
from distilled_circuits.params import load_params
from distilled_circuits.running import run_stage, use_threads


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
    audit = commands.add_parser("audit", help="hold artifacts against dvc.lock, params.yaml, their inputs and code")
    audit.add_argument("paths", nargs="*", type=Path, help="artifacts, or folders of them; everything without any")
    audit.add_argument("--json", action="store_true", help="findings and digests as JSON")
    diff = commands.add_parser("diff", help="compare the run of a revision with the working tree, or of two revisions")
    diff.add_argument("revisions", nargs="+", metavar="REV", help="git's name of a commit: HEAD, a tag, a1b2c3d")
    diff.add_argument("--json", action="store_true", help="everything, as JSON")
    options = parser.parse_args(arguments)
    try:
        if options.command == "audit":
            # Numbers are worked out again as they were computed: the number of threads is part of the result.
            use_threads(load_params(Path("params.yaml")).threads.analysis)
            from distilled_circuits.audit.run import run_audit

            return run_audit(options.paths, print, as_json=options.json)
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
    except Exception as error:
        explained = in_one_line(error, getattr(options, "stage", options.command))
        if explained is None:
            raise
        sys.stderr.write(f"distilled-circuits: {one_line(explained)}\n")
        if arguments is None:  # as a program: HDF5 would crash now in closing what it could not write
            sys.stderr.flush()
            os._exit(2)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
