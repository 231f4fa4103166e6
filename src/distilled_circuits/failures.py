"""What a machine lacks, in one line: memory of the GPU, memory, room on a disk, a folder that can be written to."""

from __future__ import annotations

import errno
import os

NO_ROOM = ("No space left on device", "Disk quota exceeded", f"errno = {errno.ENOSPC}")
"""How HDF5, safetensors and others word it; not all of them say it as an OSError."""
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
REMEDIES = {
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "allow more open files (ulimit -n) and run again",
}


def in_one_line(error: BaseException, stage: str) -> str | None:
    """Return what a person can do about an error of the machine's, or None for one that is a mistake of the code's."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for that name alone
        return (
            f"{stage}: the GPU's memory is too small for this batch; lower the batch_size of this stage in params.yaml "
            "(influence, circuit, activations, mlps, patching, probes), or set device to cpu"
        )
    if isinstance(error, MemoryError):
        return f"{stage}: not enough memory ({error}): close other programs, or run fewer jobs at once (--cores)"
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or any(words in str(error) for words in NO_ROOM):
        return f"{stage}: the disk is full{_of(error)}: make room, then start again; nothing half-written was kept"
    if number in NOT_WRITABLE:
        return f"{stage}: cannot read or write{_of(error)}: {str(error.strerror).lower()}; allow it, then start again"
    if isinstance(error, OSError) and number is not None:  # without one it is no answer of the system's
        where = f"{error.filename}: " if error.filename else ""
        return f"{stage}: {where}{os.strerror(number)}: {REMEDIES.get(number, 'mend that and run again')}"
    return None


def _of(error: BaseException) -> str:
    return f" ({error.filename})" if getattr(error, "filename", None) else ""
