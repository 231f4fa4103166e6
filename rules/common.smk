# What rules need to know of dvc.yaml: files, parameters, commands. Nothing about stages stands here.
import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import psutil

from distilled_circuits.agreement import KEYS, is_recorded, key_text
from distilled_circuits.around_dvc import forget_empty_runs, rewrite_lock
from distilled_circuits.dvc_cache import cache_of
from distilled_circuits.graph import CODE, load_graph, places_of
from distilled_circuits.lockfile import LOCK, first_difference, lock_stages, problem_of, read_lock, sorted_lock, whole_entries


include: "run_lock.smk"


graph = or_stop(load_graph)
os.environ |= {"PULL": "--pull" if config.get("pull") else ""}  # docs/team.md: fetch what others have computed
before_jobs = []  # what else is done when a run starts, after everybody else's jobs have ended
LOOK = "python -m distilled_circuits.around_dvc"
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
    return f"{KEYS}/{graph.stages[stage].wildcard_name()}.json"


def repro(stage):
    """The job: DVC decides by content whether to run, restore or do nothing, and writes dvc.lock itself.

    First the inputs are held against dvc.lock and restored where they differ, so that a damaged one is never consumed.
    That is what a repro of the whole upstream would do, which fails while another job reads the same input: DVC asks
    for a write lock on every stage that it passes. Last, what DVC recorded is held against what the job was planned
    with (around_dvc.py). What DVC says goes into the log, progress and errors on the screen.
    """
    name = graph.stages[stage].wildcard_name()
    return in_log(f"{begin(stage)} && dvc --wait-for-lock repro $PULL --single-item {name} && {LOOK} after {name}")


def begin(stage):
    """The part of a job's command that refuses a plan out of date, and holds its inputs against dvc.lock."""
    name, inputs = graph.stages[stage].wildcard_name(), made_inputs(stage)
    # DVC reads dvc.lock anew for each path: a minute and more for a stage that gathers all, of which it is asked at once.
    gathers = not graph.stages[stage].axes and len(inputs) > MANY
    targets = "--allow-missing" if gathers else " ".join(inputs)
    # Inputs are nearly always as recorded, and a look of ours takes 0.2 s where DVC's takes five.
    restore = f"dvc --wait-for-lock checkout --force {targets} && {LOOK} restored {name} {' '.join(inputs)}"
    return f"({LOOK} before {name} {' '.join(inputs)} || ([ $? = 3 ] && {restore}))"


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
    """Rewrite a key only when its content changes: without keys a clone with new parameters has nothing to do.

    A run that is at work keeps its keys: whoever plans or starts beside it sees its plan.
    """
    plans = [json.loads(or_stop(graph.key, item)) for item in graph.items]
    lock = take_run_lock()
    if lock is None:
        logger.info("Another snakemake run is at work in this folder: this is what that one was planned with.")
        return
    if not jobs_left_behind():
        mend_lock()
    recorded = lock_stages(read_lock())
    read = {made for item in graph.items for path in item.inputs for made in graph.made(path)}
    for item, plan in zip(graph.items, plans):
        write_key(item, plan, recorded.get(item.name), [out for out in item.outputs if out not in read])
    lock.close()


def write_key(item, plan, entry, unread):
    """Outputs that dvc.lock does not know count as a change: it was lost, or is another revision's. So do damaged ones
    that no job reads; every job looks at what it reads itself. An older output only waits for its job.
    """
    file = KEYS / f"{item.name}.json"
    before = file.read_text() if file.exists() else ""
    known = entry is not None and not (unread and first_difference(unread))
    made = [Path(out).stat().st_mtime if Path(out).exists() else 0 for out in item.outputs]
    lost = all(made) and not (known and (is_recorded(plan, entry) or (file.exists() and min(made) < file.stat().st_mtime)))
    content = key_text(plan, before, lost=lost, now=time.time())
    if content != before:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    KEYS_AS_WRITTEN[file] = content


def set_aside_abandoned():
    """Remove outputs of pairs, tasks or seeds that params.yaml no longer runs: a folder of results shall have nothing
    else. They stay in DVC's cache, and come back from there when they are run again.
    """
    for path in graph.abandoned(read_lock()):
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


if workflow.is_main_process:  # not for each job that a cluster runs: the run that sent it has planned
    refuse_read_only()
    or_stop(write_keys)


onstart:
    refuse_second_run()
    wait_for_jobs_left_behind()
    set_aside_abandoned()
    for prepare in before_jobs:
        prepare()


onsuccess:
    text = read_lock()
    in_order = sorted_lock(text)
    if in_order != text:
        rewrite_lock(in_order)
