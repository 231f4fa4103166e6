# What rules need to know of shards, jobs of their own for parts of a stage's work: `snakemake --config shards=4`.
from distilled_circuits.running import SPLIT
from distilled_circuits.seed_ranges import seeds_of


def number_of_shards(stage):
    """What `--config` says: `shards=4` for all that can be split, `shards='{influence: 4, distillation: 3}'` for each."""
    said = config.get("shards", 1)
    if isinstance(said, dict):
        unknown = sorted(set(said) - set(SPLIT))
        if unknown:
            stop(f"shards: {unknown[0]} cannot be split, only {' and '.join(SPLIT)} can")
        said = said.get(stage, 1)
    if not str(said).isdecimal() or int(said) < 1:
        stop(f"shards: {stage}: {said} is no number of shards, allowed: 1 (none) and more")
    return int(said)


def shard_of(stage):
    """What a shard leaves for its stage's job, which takes it and deletes it."""
    return f".snakemake/shards/{graph.stages[stage].wildcard_name()}/{{shard}}-of-{{shards}}/shard.json"


def shards_of(stage):
    """The shards that a stage's job waits for; of seeds no more than there are."""

    def needed(wildcards):
        most = len(seeds_of(wildcards.seeds)) if stage == "distillation" else number_of_shards(stage)
        number = min(most, number_of_shards(stage))
        return expand(shard_of(stage), **wildcards, shard=range(1, number + 1), shards=number) if number > 1 else []

    return needed


def log_of_shard(stage):
    return f"logs/{graph.stages[stage].wildcard_name()}_{{shard}}-of-{{shards}}.log"


def benchmark_of_shard(stage):
    return f"logs/benchmarks/{graph.stages[stage].wildcard_name()}_{{shard}}-of-{{shards}}.tsv"


def message_of_shard(stage):
    return f"{message_of(stage)} Shard {{wildcards.shard}} of {{wildcards.shards}}."


def run_shard(stage):
    """The job: the shard where the stage will really run; nothing where DVC finds it up to date or restores it."""
    name = graph.stages[stage].wildcard_name()
    axes = " ".join(f"{axis}={{{axis}}}" for axis in graph.stages[stage].axes)
    compute = f"distilled-circuits run {stage} {axes} shard={{shard}}/{{shards}}"
    planned = f"[ \"$(python -m distilled_circuits.plan {name})\" = run ]"
    return in_log(f"{begin(stage)} && if {planned}; then {compute}; else : > {shard_of(stage)}; fi")


wildcard_constraints:
    shard=r"\d+",
    shards=r"\d+",
