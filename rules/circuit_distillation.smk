# Circuit Distillation (arXiv 2509.25002): pairing heads and training on their activations.
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


rule distillation:
    input:
        deps("distillation"),
        key("distillation"),
    output:
        outs("distillation"),
    log:
        log_of("distillation"),
    benchmark:
        benchmark_of("distillation")
    threads: threads_of("distillation")
    resources:
        gpu=gpu_of("distillation"),
    message:
        message_of("distillation")
    shell:
        repro("distillation")
