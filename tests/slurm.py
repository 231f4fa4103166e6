"""A Slurm of one node on this machine, with two GPUs that are none: all files of its daemons are in one folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from projects import environment

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "sinfo", "scontrol", "sacct")
GPUS = ("/dev/null", "/dev/zero")
SECONDS = 30
"""So long we wait for a daemon to answer."""


class NoSlurm(Exception):  # noqa: N818 - a reason to skip
    """Why there is no Slurm here."""


def program(name: str) -> str | None:
    """Return a program's path; daemons are where an ordinary user's PATH does not look."""
    return shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin")


@contextlib.contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """Start a Slurm, yield the variable that its commands are found by, stop it; raise NoSlurm if that cannot be."""
    missing = [name for name in DAEMONS + COMMANDS if program(name) is None]
    if missing:
        raise NoSlurm(f"{', '.join(missing)} not installed (Debian: apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        raise NoSlurm("slurmd runs other users' jobs, so it is started by root alone")
    for name in ("state", "spool", "log", "bin"):
        (folder / name).mkdir(parents=True)
    configuration = folder / "slurm.conf"
    configuration.write_text(_configuration(folder))
    (folder / "gres.conf").write_text("AutoDetect=off\n" + "".join(f"Name=gpu File={file}\n" for file in GPUS))
    for name in COMMANDS:  # jobs are started without SLURM_CONF, which the executor takes away
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {program(name)} "$@"\n')
        command.chmod(0o755)
    variables = {"PATH": f"{folder / 'bin'}{os.pathsep}{environment()['PATH']}"}
    running: list[subprocess.Popen] = []
    try:
        running.append(_munged(folder))
        running.append(_start(folder, "slurmctld", "-D", "-f", str(configuration), "-c"))
        running.append(_start(folder, "slurmd", "-D", "-f", str(configuration), "-N", "node"))
        _wait(lambda: "idle" in _said(folder, "sinfo", "--noheader", "--format=%T"), folder, running)
        yield variables
    finally:
        if len(running) == 3:
            _said(folder, "scancel", "--user=root")
        for daemon in reversed(running):
            daemon.terminate()
        for daemon in reversed(running):
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(SECONDS)
            daemon.kill()


def _configuration(folder: Path) -> str:
    host, ports = socket.gethostname(), [_free_port(), _free_port()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1
MinJobAge=3600
GresTypes=gpu
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory={memory} Gres=gpu:{len(GPUS)}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def _munged(folder: Path) -> subprocess.Popen:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    files = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "log/munged.log", "seed-file": "munge.seed"}
    options = [f"--{name}={folder / file}" for name, file in files.items()]
    daemon = _start(folder, "munged", "--foreground", "--force", f"--key-file={key}", *options)
    _wait((folder / "munge.socket").exists, folder, [daemon])
    return daemon


def _start(folder: Path, name: str, *options: str) -> subprocess.Popen:
    with (folder / "log" / f"{name}.said").open("w") as said:
        return subprocess.Popen([program(name), *options], stdout=said, stderr=subprocess.STDOUT)


def _wait(ready: object, folder: Path, running: list[subprocess.Popen]) -> None:
    until = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > until or any(daemon.poll() is not None for daemon in running):
            said = [f"{path.name}: {path.read_text()[-300:].strip()}" for path in sorted((folder / "log").iterdir())]
            raise NoSlurm(f"Slurm's daemons do not start here: {'; '.join(said)}")
        time.sleep(0.2)


def _said(folder: Path, name: str, *options: str) -> str:
    return subprocess.run([folder / "bin" / name, *options], capture_output=True, text=True, check=False).stdout


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
