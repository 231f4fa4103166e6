"""A tiny project whose commands are counted when they really run, and held against what `plan` foretold."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import yaml
from projects import call, environment, tiny_project

from distilled_circuits.graph import load_graph
from distilled_circuits.lockfile import recorded_outputs
from distilled_circuits.plan import Step, plan

EVERYTHING = 6
"""Commands of a full run: one model, two caches, two ablations, one report."""
REPORT = "results/report.html"


class Project:
    """A tiny project with a count of the commands that ran."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder = folder if folder.exists() else tiny_project(folder, **changes)
        self.log = self.folder.with_suffix(".ran")

    def ran(self, *command: str, foretold: bool = True, **variables: str) -> list[str]:
        """Run a command (snakemake by default) and return the outputs of the stages' commands that ran, sorted.

        Nobody foretells what comes of a dvc.lock that is damaged: a run mends it first.
        """
        steps = self.plan()
        self.log.write_text("")
        call(self.folder, *(command or ("snakemake", "--cores", "2")), RAN=str(self.log), **variables)
        ran = sorted(self.log.read_text().split())
        if foretold and "pull=1" not in command:  # what others have stored is not foretold
            self.check(steps, ran)
        return ran

    def plan(self) -> list[Step]:
        """Return what is foretold."""
        return plan(load_graph(self.folder), self.folder)

    def check(self, steps: list[Step], ran: list[str]) -> None:
        """Compare what was foretold with the commands that ran and with the digests that dvc.lock has now."""
        to_run = [step for step in steps if step.action == "run"]
        commands = {step.instance.command.split()[2] for step in to_run}
        certain = {step.instance.command.split()[2] for step in to_run if not step.only_if_changed}
        assert certain <= set(ran) <= commands
        recorded = recorded_outputs((self.folder / "dvc.lock").read_text())
        known = {path: digest for step in steps for path, digest in step.outputs.items() if digest}
        assert known == {path: recorded[path] for path in known}

    def finish(self) -> str:
        """Run snakemake until it ends, twice where jobs of a killed run kept it from planning; return what it said."""
        said = call(self.folder, "snakemake", "--cores", "2", check=False, RAN=str(self.log))
        return said + call(self.folder, "snakemake", "--cores", "2", RAN=str(self.log))

    def start(self, seconds_of_work: int, name: str = "run") -> subprocess.Popen[bytes]:
        """Start snakemake in a process group of its own; `said` has what it says."""
        with self.folder.with_suffix(f".{name}").open("w") as said:
            return subprocess.Popen(
                ["snakemake", "--cores", "2"],
                cwd=self.folder,
                env={**environment(), "RAN": str(self.log), "SECONDS_OF_WORK": str(seconds_of_work)},
                start_new_session=True,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def said(self, name: str = "run") -> str:
        """Return what a run that was started said."""
        return self.folder.with_suffix(f".{name}").read_text()

    def begin(self, until: str, seconds_of_work: int) -> subprocess.Popen[bytes]:
        """Start snakemake; return once a command whose output has `until` is running."""
        self.log.write_text("")
        process = self.start(seconds_of_work)
        deadline = time.monotonic() + 120
        while until not in self.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return process

    def set(self, section: str, **values: object) -> None:
        """Change parameters."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params[section] |= values
        path.write_text(yaml.safe_dump(params))

    def clean(self) -> bool:
        """Whether DVC finds nothing that has changed."""
        return "up to date" in call(self.folder, "dvc", "status")

    def contents(self) -> dict[str, bytes]:
        """Return all results."""
        results = self.folder / "results"
        return {str(p.relative_to(results)): p.read_bytes() for p in sorted(results.rglob("*")) if p.is_file()}
