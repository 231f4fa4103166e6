"""What a machine lacks is said in one line, whoever says it in whatever words; mistakes of the code stay tracebacks."""

import errno
import subprocess
import sys

import numpy as np
import pytest
from test_faults import MAY_MOUNT, NAMESPACE

from distilled_circuits.cli import main
from distilled_circuits.failures import in_one_line

WRITERS = {
    "HDF5": "with write_hdf5(path, said) as file: file.put('a', np.zeros(10**6), ['x'])",
    "HDF5 in slices": "with write_hdf5(path, said) as file:\n"
    "  rows = file.create('a', (64, 10**5), ['x', 'y'])\n  for row in range(64): rows[row] = 1.0",
    "JSON": "write_json(path, said, {'a': list(range(10**6))})",
    "safetensors": "path.parent.mkdir(); save_file({'a': np.zeros(10**6)}, path)",
}
WRITE = """
import sys, numpy as np
from pathlib import Path
from safetensors.numpy import save_file
from distilled_circuits import cli
from distilled_circuits.artifacts import Provenance, write_hdf5, write_json
path, said = Path('small/folder/a'), Provenance('a/1', 'a', {}, {}, 'cpu', 'float32')
statement = sys.argv.pop()
cli.run_stage = lambda *_: exec(statement)
sys.exit(cli.main())
"""


@MAY_MOUNT
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_in_the_words_of_each_writer(writer, tmp_path):
    """A disk of 2 MB is too small: one line, no crash, and no part of a file stays where its readers look."""
    (tmp_path / "write.py").write_text(WRITE)
    script = (
        'mkdir small; mount -t tmpfs -o size=2m none small; "$0" write.py run noise "$1" || echo $?; ls small/folder'
    )
    done = subprocess.run(
        [*NAMESPACE, script, sys.executable, WRITERS[writer]], cwd=tmp_path, check=True, text=True, capture_output=True
    )
    assert done.stderr.startswith("distilled-circuits: noise: the disk is full")
    assert done.stderr.count("\n") == 1
    status, *kept = done.stdout.split()
    assert status == "2"
    assert (
        kept == [] or writer == "safetensors"
    )  # models are written into a folder beside their own (models/loading.py)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "results/a.h5"), "the disk is full (results/a.h5)"),
        (RuntimeError("Can't flush (file write failed: errno = 28)"), "the disk is full: make room"),
        (OSError(errno.EROFS, "Read-only file system", "results/a.h5"), "(results/a.h5): read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied", "results"), "(results): permission denied"),
        (np._core._exceptions._ArrayMemoryError((2**40,), np.dtype("float64")), "not enough memory (Unable to"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "the GPU's memory is too small"),
    ],
    ids=["disk", "disk in words", "read-only", "forbidden", "memory", "GPU"],
)
def test_what_the_machine_lacks_is_one_line(error, said, monkeypatch, capsys):
    """And the command line ends with status 2, as for a mistake of a person's."""

    def fails(*_):
        raise error

    monkeypatch.setattr("distilled_circuits.cli.run_stage", fails)
    assert main(["run", "noise"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("distilled-circuits: noise: ")
    assert said in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("a"), ZeroDivisionError("b"), OSError("c"), KeyError("d")])
def test_mistakes_of_the_code_are_none_of_these(error, monkeypatch):
    """They keep their traceback, which whoever mends them needs."""
    assert in_one_line(error, "noise") is None

    def fails(*_):
        raise error

    monkeypatch.setattr("distilled_circuits.cli.run_stage", fails)
    with pytest.raises(type(error)):
        main(["run", "noise"])
