# Circuit Distillation (arXiv 2509.25002): a family of models, their circuits, and students trained on their teacher's.
# The models take long and all threads, so they come first; what needs them runs beside the first paper's stages.
rule questions:
    input:
        deps("questions"),
        key("questions"),
    output:
        outs("questions"),
    log:
        log_of("questions"),
    benchmark:
        benchmark_of("questions")
    threads: threads_of("questions")
    priority: 4
    message:
        message_of("questions")
    shell:
        repro("questions")


rule pretraining:
    input:
        deps("pretraining"),
        key("pretraining"),
    output:
        outs("pretraining"),
    log:
        log_of("pretraining"),
    benchmark:
        benchmark_of("pretraining")
    threads: threads_of("pretraining")
    priority: 4
    resources:
        gpu=gpu_of("pretraining"),
    message:
        message_of("pretraining")
    shell:
        repro("pretraining")


rule tuning:
    input:
        deps("tuning"),
        key("tuning"),
    output:
        outs("tuning"),
    log:
        log_of("tuning"),
    benchmark:
        benchmark_of("tuning")
    threads: threads_of("tuning")
    priority: 4
    resources:
        gpu=gpu_of("tuning"),
    message:
        message_of("tuning")
    shell:
        repro("tuning")


rule base:
    input:
        deps("base"),
        key("base"),
    output:
        outs("base"),
    log:
        log_of("base"),
    benchmark:
        benchmark_of("base")
    threads: threads_of("base")
    priority: 4
    resources:
        gpu=gpu_of("base"),
    message:
        message_of("base")
    shell:
        repro("base")


rule mapping:
    input:
        deps("mapping"),
        key("mapping"),
    output:
        outs("mapping"),
    log:
        log_of("mapping"),
    benchmark:
        benchmark_of("mapping")
    threads: threads_of("mapping")
    resources:
        gpu=gpu_of("mapping"),
    message:
        message_of("mapping")
    shell:
        repro("mapping")


rule distillation_shard:
    input:
        deps("distillation"),
        key("distillation"),
    output:
        temp(shard_of("distillation")),
    log:
        log_of_shard("distillation"),
    benchmark:
        benchmark_of_shard("distillation")
    threads: threads_of("distillation")
    priority: with_several_maps
    resources:
        gpu=gpu_of("distillation"),
    message:
        message_of_shard("distillation")
    shell:
        run_shard("distillation")


rule distillation:
    input:
        deps("distillation"),
        key("distillation"),
        shards_of("distillation"),
    output:
        outs("distillation"),
    log:
        log_of("distillation"),
    benchmark:
        benchmark_of("distillation")
    threads: threads_of("distillation")
    priority: with_several_maps
    resources:
        gpu=gpu_of("distillation"),
    message:
        message_of("distillation")
    shell:
        repro("distillation")


rule sweep:
    input:
        deps("sweep"),
        key("sweep"),
    output:
        outs("sweep"),
    log:
        log_of("sweep"),
    benchmark:
        benchmark_of("sweep")
    threads: threads_of("sweep")
    resources:
        gpu=gpu_of("sweep"),
    message:
        message_of("sweep")
    shell:
        repro("sweep")


rule verdicts:
    input:
        deps("verdicts"),
        key("verdicts"),
    output:
        outs_shown("verdicts", verdicts=("verdicts", "Circuit distillation")),
    log:
        log_of("verdicts"),
    benchmark:
        benchmark_of("verdicts")
    threads: threads_of("verdicts")
    message:
        message_of("verdicts")
    shell:
        repro("verdicts")
