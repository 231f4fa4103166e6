"""A run that is killed again and again: SIGKILL at random moments, each time the same command again.

`python tests/kills.py FOLDER KILLS SEED` does it on the tiny graph and prints what was killed when.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import yaml
from counted import Project
from projects import call, environment

PARTS = {
    "stage": ("work.py", "distilled-circuits run "),
    "dvc": ("dvc --wait-for-lock", "dvc repro"),
    "look": ("around_dvc",),
}
"""Kinds of processes below snakemake, innermost first, and what their command lines have."""
VICTIMS = ("everything", "everything", "snakemake", *PARTS)


class Chain:
    """Runs of one project that are killed, with a count of victims and of what was at work then."""

    def __init__(self, folder: Path, seed: int, work: str = "0.4") -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.variables = {"RAN": str(folder.with_suffix(".ran")), "SECONDS_OF_WORK": work}
        self.said = folder.with_suffix(".said")
        self.killed: Counter[tuple[str, str]] = Counter()
        self.cut_locks = 0

    def kill_once(self, longest: float) -> bool:
        """Start snakemake and kill it or a part of it after a random time; False if it ended before."""
        with self.said.open("w") as said:
            process = subprocess.Popen(
                ["snakemake", "--cores", "2"],
                cwd=self.folder,
                env={**environment(), **self.variables},
                start_new_session=True,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        try:
            status = process.wait(timeout=self.random.uniform(0.3, longest))
        except subprocess.TimeoutExpired:
            self._kill(process)
            self._look_at_lock()
            return True
        assert status == 0 or "start again" in self.said.read_text(), self.said.read_text()[-5000:]
        return False

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        alive = at_work(process.pid)
        victim = self.random.choice([victim for victim in VICTIMS if victim not in PARTS or victim in alive])
        if victim == "everything":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            pid = self.random.choice(alive.get(victim, [process.pid]))
            os.kill(pid, signal.SIGKILL)
        process.wait()
        assert "Traceback" not in self.said.read_text(), self.said.read_text()[-5000:]
        self.killed[victim, next(iter(alive), "planning")] += 1

    def _look_at_lock(self) -> None:
        lock = self.folder / "dvc.lock"
        try:
            self.cut_locks += lock.exists() and not yaml.safe_load(lock.read_text())
        except yaml.YAMLError:
            self.cut_locks += 1


def at_work(pid: int) -> dict[str, list[int]]:
    """Return the processes below snakemake by what they are, innermost first; none while it plans."""
    found: dict[str, list[int]] = {}
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return found
    for part, marks in PARTS.items():
        for process in below:
            try:
                command = process.cmdline()
            except psutil.Error:
                continue
            if command and "python" in command[0] and any(mark in " ".join(command) for mark in marks):
                found.setdefault(part, []).append(process.pid)
    return found


def killed_chain(folder: Path, kills: int, seed: int, longest: float = 15) -> tuple[Project, Chain]:
    """Kill a tiny project's runs so many times, changing its model's seed whenever one ends; then let it finish."""
    project = Project(folder)
    chain = Chain(project.folder, seed)
    generation = 0
    while chain.killed.total() < kills:
        if not chain.kill_once(longest) and (project.folder / "results/report.html").exists():
            generation += 1
            project.set("model", seed=generation)
    said = project.finish()
    assert "Traceback" not in said
    return project, chain


def is_as_undisturbed(project: Project, folder: Path) -> bool:
    """Whether a project's results and dvc.lock are those of one whose stages ran one after the other, undisturbed."""
    expected = Project(folder)
    (expected.folder / "params.yaml").write_text((project.folder / "params.yaml").read_text())
    expected.ran("dvc", "repro")
    locks = [yaml.safe_load((each.folder / "dvc.lock").read_text()) for each in (project, expected)]
    return locks[0] == locks[1] and project.contents() == expected.contents()


if __name__ == "__main__":
    place, number, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    done, chain = killed_chain(place / "killed", number, first)
    assert is_as_undisturbed(done, place / "undisturbed")
    assert "up to date" in call(done.folder, "dvc", "status")
    for (victim, work), times in sorted(chain.killed.items()):
        print(f"{victim} killed while {work} was at work: {times}")
    print(f"{chain.killed.total()} kills, dvc.lock cut short {chain.cut_locks} times; nothing lost")
