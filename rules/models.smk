# The models of a pair.
rule teacher:
    input:
        deps("teacher"),
        key("teacher"),
    output:
        outs("teacher"),
    log:
        log_of("teacher"),
    benchmark:
        benchmark_of("teacher")
    threads: threads_of("teacher")
    resources:
        gpu=gpu_of("teacher"),
    message:
        message_of("teacher")
    shell:
        repro("teacher")


rule student:
    input:
        deps("student"),
        key("student"),
    output:
        outs("student"),
    log:
        log_of("student"),
    benchmark:
        benchmark_of("student")
    threads: threads_of("student")
    resources:
        gpu=gpu_of("student"),
    message:
        message_of("student")
    shell:
        repro("student")
