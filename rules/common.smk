# What rules need to know of dvc.yaml: files, parameters, commands. Nothing about stages stands here.
import fcntl
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import psutil

from distilled_circuits.artifacts import write_text
from distilled_circuits.graph import CODE, load_graph, places_of
from distilled_circuits.lockfile import sorted_lock


graph = or_stop(load_graph)
os.environ["PULL"] = "--pull" if config.get("pull") else ""  # docs/team.md: fetch what others have computed
before_jobs = []  # what else is done when a run starts, after everybody else's jobs have ended
MANY = 20  # inputs from which on a stage without a matrix has all outputs restored: no other job runs beside it


def made_inputs(stage):
    """A stage's inputs that other stages make; the repository's files and the stage's modules are part of its key."""
    declared = [path for path in graph.stages[stage].inputs if not path.startswith(f"{CODE}/")]
    return [made for path in declared for made in graph.made(path)]


def deps(stage):
    """The same as Snakemake sees them: directories by the files that stand for them."""
    return [place for path in made_inputs(stage) for place in places_of(path)]


def outs(stage):
    """A stage's outputs as Snakemake files."""
    return [place for path in graph.stages[stage].wildcard_outputs() for place in places_of(path)]


def outs_shown(stage, **captions):
    """The same; those named here, without suffix, are in `snakemake --report`: `name=(caption, category)`."""
    axes = {axis: f"{{{axis}}}" for axis in graph.stages[stage].axes}

    def shown(place):
        caption, category = captions[Path(place).stem]
        labels = {"file": Path(place).name, **axes}
        return report(place, caption=f"captions/{caption}.rst", category=category, labels=labels)

    return [shown(place) if Path(place).stem in captions else place for place in outs(stage)]


def key(stage):
    """The small file that changes when a stage's declaration, parameters, code or word lists do."""
    return f".snakemake/keys/{graph.stages[stage].wildcard_name()}.json"


def repro(stage):
    """The job: DVC decides by content whether to run, restore or do nothing, and writes dvc.lock itself.

    First the inputs are held against dvc.lock and restored where they differ, so that a damaged one is never consumed.
    That is what a repro of the whole upstream would do, which fails while another job reads the same input: DVC asks
    for a write lock on every stage that it passes. What DVC says goes into the log, progress and errors on the screen.
    """
    return in_log(f"{restored(stage)}dvc --wait-for-lock repro $PULL --single-item {graph.stages[stage].wildcard_name()}")


def restored(stage):
    """The part of a job's command that holds its inputs against dvc.lock."""
    inputs = made_inputs(stage)
    # DVC reads dvc.lock anew for each path: a minute and more for a stage that gathers all, of which it is asked at once.
    gathers = not graph.stages[stage].axes and len(inputs) > MANY
    targets = "--allow-missing" if gathers else " ".join(inputs)
    # Inputs are nearly always as recorded, and a look of ours takes 0.2 s where DVC's takes five.
    intact = f"python -m distilled_circuits.lockfile {' '.join(inputs)}"
    return f"({intact} || dvc --wait-for-lock checkout --force {targets}) && " if inputs else ""


def in_log(command):
    """A command as Snakemake runs it: what it says goes into the log, errors on the screen too."""
    in_wildcards = command.replace("{", "{wildcards.")
    return f": > {{log}}; ({in_wildcards}) 2>&1 >> {{log}} | tee -a {{log}}"


def message_of(stage):
    return f"{graph.stages[stage].wildcard_name()}: {graph.stages[stage].description}".replace("{", "{wildcards.")


def log_of(stage):
    return f"logs/{graph.stages[stage].wildcard_name()}.log"


def benchmark_of(stage):
    return f"logs/benchmarks/{graph.stages[stage].wildcard_name()}.tsv"


def every(*stages):
    """All outputs of all items of some stages."""
    made = [out for stage in stages for item in graph.stages[stage].instances() for out in item.outputs]
    return [place for out in made for place in places_of(out)]


def write_keys():
    """Rewrite a key only when its content changes: without keys a clone with new parameters has nothing to do."""
    for instance in graph.items:
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
        stop("another snakemake run is at work in this folder: wait until it ends or stop it")


def jobs_left_behind():
    """Processes in this folder of jobs whose snakemake was killed: only asked while no living run holds the lock."""
    marks = [(p.pid, p.info["cwd"], " ".join(p.info["cmdline"] or [])) for p in psutil.process_iter(["cwd", "cmdline"])]
    here = [f"process {pid}" for pid, cwd, command in marks if cwd == os.getcwd() and "dvc --wait-for-lock" in command]
    return here + cluster_jobs_left_behind()


def cluster_jobs_left_behind():
    """The same in a cluster's queue: Slurm jobs that a snakemake in this folder submitted, which are named by its run."""
    if shutil.which("squeue") is None:
        return []
    asked = ["squeue", "--me", "--noheader", "--format=%i %j %Z"]
    said = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    submitted = re.findall(r"^(\S+) \S*[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12} (.+)$", said, re.MULTILINE)
    own = os.environ.get("SLURM_JOB_ID")
    return [f"Slurm job {job}" for job, folder in submitted if folder == os.getcwd() and job != own]


def wait_for_jobs_left_behind():
    """Let orphaned jobs finish: DVC records what they made, and two of a kind would block each other."""
    left = jobs_left_behind()
    if left:
        logger.info(f"Jobs of a killed run are still at work; waiting for {', '.join(left)}.")
    while left:
        time.sleep(2 if "Slurm" in left[-1] else 0.5)
        left = jobs_left_behind()
    # DVC takes a killed process that nobody has reaped yet for a living one, and its locks for held; killed while it
    # wrote them, it left a file that it cannot read.
    locks = Path(".dvc/tmp/rwlock")
    holders = set(map(int, re.findall(r'"pid": (\d+)', locks.read_text()))) if locks.exists() else set()
    if not any(is_alive(pid) for pid in holders):
        locks.unlink(missing_ok=True)


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def set_aside_abandoned():
    """Remove outputs of pairs, tasks or seeds that params.yaml no longer runs: a folder of results shall have nothing
    else. They stay in DVC's cache, and come back from there when they are run again.
    """
    lock = Path("dvc.lock")
    for path in graph.abandoned(lock.read_text()) if lock.exists() else []:
        if Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)


wildcard_constraints:
    pair=r"\w+",
    task=r"\w+",
    teacher=r"\w+",
    student=r"\w+",
    condition=r"\w+",
    seeds=r"[\d-]+",
    replica=r"\d+",


if workflow.is_main_process:  # and not in a job of a cluster, which reads the rules anew and runs none of the hooks below
    write_keys()


onstart:
    refuse_second_run()
    wait_for_jobs_left_behind()
    set_aside_abandoned()
    for prepare in before_jobs:
        prepare()


onsuccess:
    lock = Path("dvc.lock")
    if lock.exists() and sorted_lock(lock.read_text()) != lock.read_text():
        write_text(lock, sorted_lock(lock.read_text()))
