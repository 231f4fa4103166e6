# What rules need to know of dvc.yaml: files, parameters, commands. Nothing about stages stands here.
import fcntl
import os
import time
from pathlib import Path

import psutil
from snakemake.exceptions import WorkflowError

from distilled_circuits.errors import UserError
from distilled_circuits.artifacts import write_text
from distilled_circuits.graph import load_graph, place_of, sorted_lock
from distilled_circuits.params import load_params


def or_stop(read, *arguments):
    """Turn a mistake in params.yaml or dvc.yaml into one line instead of a traceback."""
    try:
        return read(*arguments)
    except UserError as error:
        raise WorkflowError(str(error)) from None


graph = or_stop(load_graph)


def made_inputs(stage):
    """A stage's inputs that other stages make; the repository's files among them are part of its key."""
    return [path for declared in graph.stages[stage].inputs for path in graph.made(declared)]


def deps(stage):
    return [place_of(path) for path in made_inputs(stage)]


def outs(stage):
    """A stage's outputs as Snakemake files; a model directory is represented by its model.json."""
    return [place_of(path) for path in graph.stages[stage].wildcard_outputs()]


def key(stage):
    """The small file that changes when a stage's command or parameters do."""
    return f".snakemake/keys/{graph.stages[stage].wildcard_name()}.json"


def repro(stage):
    """The job: DVC decides by content whether to run, restore or do nothing, and writes dvc.lock itself.

    First the inputs are held against dvc.lock and restored where they differ, so that a damaged one is never consumed.
    That is what a repro of the whole upstream would do, which fails while another job reads the same input: DVC asks
    for a write lock on every stage that it passes. What DVC says goes into the log, progress and errors on the screen.
    """
    inputs = " ".join(made_inputs(stage))
    restore = f"dvc --wait-for-lock checkout --force {inputs} && " if inputs else ""
    job = f"{restore}dvc --wait-for-lock repro --single-item {graph.stages[stage].wildcard_name()}"
    return f": > {{log}}; ({job}) 2>&1 >> {{log}} | tee -a {{log}}".replace("{", "{wildcards.").replace(
        "{wildcards.log}", "{log}"
    )


def message_of(stage):
    return f"{graph.stages[stage].wildcard_name()}: {graph.stages[stage].description}".replace("{", "{wildcards.")


def log_of(stage):
    return f"logs/{graph.stages[stage].wildcard_name()}.log"


def benchmark_of(stage):
    return f"logs/benchmarks/{graph.stages[stage].wildcard_name()}.tsv"


def every(*stages):
    """All outputs of all items of some stages."""
    return [place_of(out) for stage in stages for item in graph.stages[stage].instances() for out in item.outputs]


def write_keys():
    """Rewrite a key only when its content changes: without keys a clone with new parameters has nothing to do."""
    for instance in graph.instances():
        file = Path(f".snakemake/keys/{instance.name}.json")
        content = or_stop(graph.key, instance)
        if not file.exists() or file.read_text() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)


def refuse_second_run():
    """Hold a lock that dies with this process: a second run would delete outputs that the first one reads."""
    global run_lock
    Path(".snakemake").mkdir(exist_ok=True)
    run_lock = open(".snakemake/run.lock", "w")
    try:
        fcntl.flock(run_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise WorkflowError("another snakemake run is at work in this folder: wait until it ends or stop it") from None


def jobs_left_behind():
    """Processes in this folder of jobs whose snakemake was killed: only asked while no living run holds the lock."""
    marks = [(p.pid, p.info["cwd"], " ".join(p.info["cmdline"] or [])) for p in psutil.process_iter(["cwd", "cmdline"])]
    return [pid for pid, cwd, command in marks if cwd == os.getcwd() and "dvc --wait-for-lock" in command]


def wait_for_jobs_left_behind():
    """Let orphaned jobs finish: DVC records what they made, and two of a kind would block each other."""
    left = jobs_left_behind()
    if left:
        logger.info(f"Jobs of a killed run are still at work; waiting for processes {', '.join(map(str, left))}.")
    while jobs_left_behind():
        time.sleep(0.5)


wildcard_constraints:
    pair=r"\w+",
    task=r"\w+",
    condition=r"\w+",
    seed=r"\d+",


write_keys()


onstart:
    refuse_second_run()
    wait_for_jobs_left_behind()


onsuccess:
    lock = Path("dvc.lock")
    if lock.exists() and sorted_lock(lock.read_text()) != lock.read_text():
        write_text(lock, sorted_lock(lock.read_text()))
