"""What a job of Snakemake does before and after DVC, so that no damaged input is used and no false record stays.

`python -m distilled_circuits.around_dvc before|restored|after STAGE@ITEM [INPUT ...]` exits with 0 if all is well, with
3 where DVC has to restore inputs, and with 2 after one line that says why the job fails.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distilled_circuits.agreement import KEYS, change_since, is_recorded
from distilled_circuits.dvc_cache import Cache, cache_of
from distilled_circuits.errors import UserError
from distilled_circuits.lockfile import (
    LOCK,
    entry_of,
    first_difference,
    is_readable,
    md5,
    read_lock,
    recorded_outputs,
    without,
)
from distilled_circuits.messages import one_line
from distilled_circuits.yaml_files import parse_yaml

RESTORE = 3
"""Exit status of `before`: DVC is to restore inputs."""


def before(name: str, inputs: Sequence[str]) -> int:
    """Refuse a job whose plan is out of date; say whether its inputs are as recorded."""
    changed = change_since(name, _plan(name))
    if changed:
        raise UserError(f"{changed} changed since this run began, so {name} was not run; start snakemake again")
    difference = _difference(inputs)
    if difference:  # or another job rewrites dvc.lock or has the same input restored right now
        with _dvc_at_rest():
            difference = _difference(inputs)
    if difference:
        sys.stdout.write(f"{difference}; asking DVC\n")
    return RESTORE if difference else 0


def _difference(inputs: Sequence[str]) -> str | None:
    try:
        return first_difference(inputs)
    except OSError as error:
        return str(error)


def restored(name: str, inputs: Sequence[str]) -> int:
    """Remove what DVC restored from a damaged cache, which it does not notice, and raise UserError."""
    _refuse_damaged(name, inputs, lambda: recorded_outputs(read_lock()))
    return 0


def after(name: str, _: Sequence[str]) -> int:
    """Take back a record that is not of the plan, and damaged outputs; raise UserError where there was any."""
    plan = _plan(name)
    # Other jobs rewrite the file meanwhile: what is not plainly right is looked at once more when DVC is at rest.
    if not is_recorded(plan, _entry(name)):
        with _dvc_at_rest():
            if not is_recorded(plan, _entry(name)):
                _forget(name)
                changed = change_since(name, plan) or "params.yaml or an input"
                raise UserError(
                    f"{changed} changed while {name} was made, so it is not recorded; start snakemake again"
                )
    _refuse_damaged(name, plan["outputs"], lambda: {out["path"]: out["md5"] for out in (_entry(name) or {})["outs"]})
    return 0


def _plan(name: str) -> dict[str, Any]:
    return json.loads((KEYS / f"{name}.json").read_text(encoding="utf-8"))


def _entry(name: str) -> dict[str, Any] | None:
    return entry_of(read_lock(), name)


@contextmanager
def _dvc_at_rest() -> Iterator[None]:
    """Hold the lock under which DVC writes dvc.lock."""
    Path(".dvc/tmp").mkdir(exist_ok=True)
    with Path(".dvc/tmp/lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _forget(name: str) -> None:
    """Take an entry out of dvc.lock, and out of the runs that DVC remembers: it would come back from there."""
    entry = _entry(name)
    if entry is None:
        return
    cache = cache_of(Path()).folder
    for run in (cache / "runs").glob("*/*/*"):
        if run.is_file() and parse_yaml(run.read_text(encoding="utf-8")) == entry:
            run.unlink()
    forget_empty_runs(cache)
    rewrite_lock(without(read_lock(), name))


def forget_empty_runs(cache: Path) -> None:
    """Remove folders of runs that DVC's cache has nothing of, as when it was killed: it fails where it finds one."""
    for folder in (cache / "runs").glob("*/*"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def rewrite_lock(text: str) -> None:
    """Give dvc.lock another text, whole or not at all; nothing is no file, which is what DVC begins with.

    Without `artifacts`, whose numpy every job would import for it.
    """
    lock = Path(LOCK)
    beside = lock.with_name(f"{lock.name}.tmp-{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(lock)
    if not text:
        lock.unlink()


def _refuse_damaged(name: str, paths: Sequence[str], recorded: Callable[[], Mapping[str, str]]) -> None:
    """Remove what is not as recorded, also from DVC's cache, which trusts what it has; raise UserError then."""
    if not _damaged(paths, recorded()):
        return
    with _dvc_at_rest():
        damaged = _damaged(paths, recorded())
        for path, digest in damaged.items():
            for place in _damaged_objects(digest, cache_of(Path())):
                place.unlink()
            shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
    if damaged:
        raise UserError(
            f"{', '.join(damaged)}: damaged, and DVC did not notice; removed before {name} could use it, with what is "
            "damaged in DVC's cache; start snakemake again"
        )


def _damaged(paths: Sequence[str], recorded: Mapping[str, str]) -> dict[str, str]:
    """Return the recorded MD5 of each path that is there with another one; large files are DVC's to judge."""
    return {
        path: recorded[path] for path in paths if path in recorded and _digest(Path(path)) not in (None, recorded[path])
    }


def _digest(path: Path) -> str | None:
    """Return the MD5 of an output, None if it is not to be read, nothing if it goes while it is: DVC replaces it."""
    try:
        return md5(path) if is_readable(path) else None
    except OSError:
        return ""


def _damaged_objects(digest: str, cache: Cache) -> Iterator[Path]:
    """Yield objects of DVC's cache that are not what their names say: that of an output, and of a folder's files."""
    place = cache.place(digest)
    if place.exists() and md5(place) != digest.removesuffix(".dir"):
        yield place
    elif place.exists() and digest.endswith(".dir"):
        for file in (cache.listing(digest) or {}).values():
            yield from _damaged_objects(file, cache)


STEPS = {"before": before, "restored": restored, "after": after}


def main(arguments: Sequence[str]) -> int:
    """Do one step and return its exit status."""
    step, name, *inputs = arguments
    try:
        return STEPS[step](name, inputs)
    except (UserError, OSError) as error:
        sys.stderr.write(f"distilled-circuits: {one_line(error)}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
