# How the stages of dvc.yaml are run: in parallel, with threads, GPU, logs and benchmarks. What they are stands there.
from pathlib import Path

from snakemake.utils import min_version

from distilled_circuits.params import load_params

min_version("9.27")


report: "rules/captions/report.rst"


include: "rules/errors.smk"


params_checked = or_stop(load_params, Path("params.yaml"))  # before anything reads it


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/code.smk"
include: "rules/shards.smk"
include: "rules/models.smk"
include: "rules/distilled_circuits.smk"
include: "rules/circuit_distillation.smk"
include: "rules/report.smk"


rule code:  # done by then (rules/code.smk): this says so
    input:
        key("code"),
    output:
        NOTED,
    log:
        "logs/code.noted.log",
    message:
        message_of("code")
    shell:
        "touch {output} 2> {log}"


rule all:  # every output, so that a deleted intermediate is restored even when nobody reads it now
    default_target: True
    input:
        every(*(stage for stage in graph.stages if stage != "code")),
        NOTED,
