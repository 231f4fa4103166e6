# How the stages of dvc.yaml are run: in parallel, with threads, GPU, logs and benchmarks. What they are stands there.
from snakemake.utils import min_version

min_version("9.27")


configfile: "params.yaml"


report: "rules/captions/report.rst"


include: "rules/common.smk"

params_checked = or_stop(load_params, Path("params.yaml"))


include: "rules/resources.smk"
include: "rules/models.smk"
include: "rules/distilled_circuits.smk"
include: "rules/circuit_distillation.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        every("report"),
