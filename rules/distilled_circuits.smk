# Distilled Circuits (arXiv 2505.10822): from prompts to the alignment score and its validation.
# `noise` is the longest job after training, so it and what it waits for go first.
rule prompts:
    input:
        deps("prompts"),
        key("prompts"),
    output:
        outs("prompts"),
    log:
        log_of("prompts"),
    benchmark:
        benchmark_of("prompts")
    threads: threads_of("prompts")
    priority: before_noise
    message:
        message_of("prompts")
    shell:
        repro("prompts")


rule activations:
    input:
        deps("activations"),
        key("activations"),
    output:
        outs("activations"),
    log:
        log_of("activations"),
    benchmark:
        benchmark_of("activations")
    threads: threads_of("activations")
    priority: before_noise
    resources:
        gpu=gpu_of("activations"),
    message:
        message_of("activations")
    shell:
        repro("activations")


rule influence_shard:
    input:
        deps("influence"),
        key("influence"),
    output:
        temp(shard_of("influence")),
    log:
        log_of_shard("influence"),
    benchmark:
        benchmark_of_shard("influence")
    threads: threads_of("influence")
    priority: before_noise
    resources:
        gpu=gpu_of("influence"),
    message:
        message_of_shard("influence")
    shell:
        run_shard("influence")


rule influence:
    input:
        deps("influence"),
        key("influence"),
        shards_of("influence"),
    output:
        outs("influence"),
    log:
        log_of("influence"),
    benchmark:
        benchmark_of("influence")
    threads: threads_of("influence")
    priority: before_noise
    resources:
        gpu=gpu_of("influence"),
    message:
        message_of("influence")
    shell:
        repro("influence")


rule circuit:
    input:
        deps("circuit"),
        key("circuit"),
    output:
        outs_shown("circuit", circuit=("circuit", "Circuits")),
    log:
        log_of("circuit"),
    benchmark:
        benchmark_of("circuit")
    threads: threads_of("circuit")
    resources:
        gpu=gpu_of("circuit"),
    message:
        message_of("circuit")
    shell:
        repro("circuit")


rule edges:
    input:
        deps("edges"),
        key("edges"),
    output:
        outs("edges"),
    log:
        log_of("edges"),
    benchmark:
        benchmark_of("edges")
    threads: threads_of("edges")
    resources:
        gpu=gpu_of("edges"),
    message:
        message_of("edges")
    shell:
        repro("edges")


rule stability:
    input:
        deps("stability"),
        key("stability"),
    output:
        outs("stability"),
    log:
        log_of("stability"),
    benchmark:
        benchmark_of("stability")
    threads: threads_of("stability")
    resources:
        gpu=gpu_of("stability"),
    message:
        message_of("stability")
    shell:
        repro("stability")


rule heads:
    input:
        deps("heads"),
        key("heads"),
    output:
        outs("heads"),
    log:
        log_of("heads"),
    benchmark:
        benchmark_of("heads")
    threads: threads_of("heads")
    resources:
        gpu=gpu_of("heads"),
    message:
        message_of("heads")
    shell:
        repro("heads")


rule mlps:
    input:
        deps("mlps"),
        key("mlps"),
    output:
        outs("mlps"),
    log:
        log_of("mlps"),
    benchmark:
        benchmark_of("mlps")
    threads: threads_of("mlps")
    resources:
        gpu=gpu_of("mlps"),
    message:
        message_of("mlps")
    shell:
        repro("mlps")


rule roles:
    input:
        deps("roles"),
        key("roles"),
    output:
        outs("roles"),
    log:
        log_of("roles"),
    benchmark:
        benchmark_of("roles")
    threads: threads_of("roles")
    resources:
        gpu=gpu_of("roles"),
    message:
        message_of("roles")
    shell:
        repro("roles")


rule shift:
    input:
        deps("shift"),
        key("shift"),
    output:
        outs("shift"),
    log:
        log_of("shift"),
    benchmark:
        benchmark_of("shift")
    threads: threads_of("shift")
    resources:
        gpu=gpu_of("shift"),
    message:
        message_of("shift")
    shell:
        repro("shift")


rule alignment:
    input:
        deps("alignment"),
        key("alignment"),
    output:
        outs_shown("alignment", alignment=("alignment", "Alignment")),
    log:
        log_of("alignment"),
    benchmark:
        benchmark_of("alignment")
    threads: threads_of("alignment")
    message:
        message_of("alignment")
    shell:
        repro("alignment")


rule sampling:
    input:
        deps("sampling"),
        key("sampling"),
    output:
        outs("sampling"),
    log:
        log_of("sampling"),
    benchmark:
        benchmark_of("sampling")
    threads: threads_of("sampling")
    message:
        message_of("sampling")
    shell:
        repro("sampling")


rule battery:
    input:
        deps("battery"),
        key("battery"),
    output:
        outs("battery"),
    log:
        log_of("battery"),
    benchmark:
        benchmark_of("battery")
    threads: threads_of("battery")
    resources:
        gpu=gpu_of("battery"),
    message:
        message_of("battery")
    shell:
        repro("battery")


rule noise:
    input:
        deps("noise"),
        key("noise"),
    output:
        outs("noise"),
    log:
        log_of("noise"),
    benchmark:
        benchmark_of("noise")
    threads: threads_of("noise")
    priority: 2
    resources:
        gpu=gpu_of("noise"),
    message:
        message_of("noise")
    shell:
        repro("noise")
