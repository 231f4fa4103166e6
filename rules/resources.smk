# What jobs take of the machine: threads as in params.yaml, and the one GPU where there is one.

# Jobs keep the memory that they free: glibc hands large arrays back to the kernel, and pays for their pages anew each time.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))


def threads_of(stage):
    kind = "training" if "threads.training" in graph.stages[stage].params else "analysis"
    return getattr(params_checked.threads, kind)


def gpu_of(stage):
    """1 for a stage that computes on a device, if that is a GPU: jobs then take turns on the card, or ask a cluster for one.

    `--config gpu=true` says that the nodes of a cluster have one where the machine that submits has none.
    """
    found = config.get("gpu", shutil.which("nvidia-smi") is not None)
    there = params_checked.device == "cuda" or (params_checked.device == "auto" and found)
    return int(there and "device" in graph.stages[stage].params)


def before_noise(wildcards):
    """Priority 1 for a job on a task whose noise experiment is still to come: that is the longest chain of jobs."""
    return int(wildcards.task in params_checked.noise.tasks)


def with_several_maps(wildcards):
    """Priority 1 for a condition that trains several students for each seed: begun last it would leave cores idle."""
    condition = params_checked.conditions[wildcards.condition]
    return int(condition.mapping == "random" and condition.maps > 1)
