"""The graph through a real Slurm: the same dvc.lock as on one machine; jobs ask for what their stage needs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml
from projects import call, copy_of, environment, project, smoke_params, tiny_project
from slurm import NoSlurm, one_node

from distilled_circuits.lockfile import without

pytest.importorskip("snakemake_executor_plugin_slurm")
ON_CLUSTER = ("snakemake", "--workflow-profile", "profiles/slurm")
ON_ONE_NODE = (*ON_CLUSTER, "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2")
QUICK = (
    "--seconds-between-status-checks",
    "2",
    "--latency-wait",
    "10",
    "--default-resources",
    "mem_mb=500",
    "runtime=20",
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The variable by which a Slurm of one node is found; a reason to skip where there can be none."""
    try:
        with one_node(tmp_path_factory.mktemp("slurm")) as variables:
            yield variables
    except NoSlurm as reason:
        pytest.skip(str(reason))


def requests(said: str) -> dict[str, tuple[str, ...]]:
    """Return memory, time and GPUs that the jobs of each rule asked for, from what Slurm says of them."""
    found = {}
    for job in said.split("\n\n"):
        rule = re.search(r"Comment=rule_(\w+?)(?:_wildcards|$)", job, re.MULTILINE)
        if rule:
            gpus = re.search(r"TresPerJob=gres:gpu:(\d+)", job)
            asked = (re.search(rf"{key}=(\S+)", job)[1] for key in ("MinMemoryNode", "TimeLimit"))
            found[rule[1]] = (*asked, gpus[1] if gpus else "0")
    return found


def test_shards_through_slurm_end_in_the_lock_of_a_local_run(slurm, finished_run, tmp_path):
    """A sweep that DVC does not know any more is made again by jobs of sbatch: not a byte differs."""
    folder, made = copy_of(finished_run, tmp_path / "copy"), "results/pairs/mini/numerals/influence.h5"
    before = (folder / "dvc.lock").read_text(), (folder / made).read_bytes()
    (folder / "dvc.lock").write_text(without(before[0], "influence@mini-numerals"))
    shutil.rmtree(folder / ".dvc/cache/runs")
    (folder / made).unlink()
    said = call(folder, *ON_ONE_NODE, made, *QUICK, "--config", "shards={influence: 2}", "gpu=true", **slurm)
    assert len(re.findall("has been submitted with SLURM jobid", said)) == 3
    assert all(log.read_text() for log in folder.glob("logs/influence@*-of-2.log"))
    assert ((folder / "dvc.lock").read_text(), (folder / made).read_bytes()) == before
    asked = requests(call(folder, "scontrol", "--details", "show", "jobs", **slurm))
    assert asked["influence"] == asked["influence_shard"] == ("500M", "04:00:00", "1")


@pytest.mark.long
def test_the_graph_through_slurm_ends_in_the_lock_of_a_local_run(slurm, tmp_path):
    """All stages as jobs of sbatch, influence and distillation in shards: not a byte differs, nothing is left to do."""
    params = yaml.safe_dump(smoke_params(**{"distillation.seeds": ["0-1"]}), sort_keys=False)
    local, cluster = (project(tmp_path / name, params) for name in ("local", "cluster"))
    call(local, "snakemake", "--cores", "2")
    split = ("--config", "shards={influence: 4, distillation: 2}", "gpu=true")
    said = call(cluster, *ON_ONE_NODE, *QUICK, *split, **slurm)
    assert len(re.findall("has been submitted with SLURM jobid", said)) > 30
    for shard in (*cluster.glob("logs/influence@*_4-of-4.log"), *cluster.glob("logs/distillation@*_2-of-2.log")):
        assert shard.read_text(), f"{shard.name}: the shard was computed"
    assert "everything is computed here" not in "".join(log.read_text() for log in cluster.glob("logs/*.log"))
    assert (cluster / "dvc.lock").read_text() == (local / "dvc.lock").read_text()
    assert not [path for path in (cluster / ".snakemake/shards").rglob("*") if path.is_file()]
    asked = requests(call(cluster, "scontrol", "--details", "show", "jobs", **slurm))
    assert asked["distillation"] == asked["distillation_shard"] == ("4000M", "04:00:00", "1")
    assert asked["prompts"] == ("500M", "00:20:00", "0")
    assert "Nothing to be done" in call(cluster, *ON_ONE_NODE, *QUICK, *split, **slurm)
    assert "up to date" in call(cluster, "dvc", "status")


@pytest.mark.long
def test_a_run_that_was_killed_waits_for_its_jobs_in_the_queue(slurm, tmp_path):
    """They go on without it; the next run lets them end, and no command runs twice."""
    folder, ran = tiny_project(tmp_path / "tiny"), tmp_path / "ran"
    variables = {**slurm, "RAN": str(ran), "SECONDS_OF_WORK": "15"}
    command = (*ON_ONE_NODE, *QUICK)
    first = subprocess.Popen(command, cwd=folder, env={**environment(), **variables}, stderr=subprocess.DEVNULL)
    while not ran.exists():
        assert first.poll() is None, "it ended before its first job began"
        time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    said = call(folder, *command, **{**variables, "SECONDS_OF_WORK": "0"})
    assert re.search(r"Jobs of a killed run are still at work; waiting for .*Slurm job \d+", said)
    assert sorted(ran.read_text().split()) == sorted(set(ran.read_text().split()))
    assert len(ran.read_text().split()) == 6
    assert "up to date" in call(folder, "dvc", "status")
