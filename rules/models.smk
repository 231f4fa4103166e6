# The models of a pair, and those that the battery compares a teacher with. The pair comes first: it takes all threads, so
# begun beside another job it would leave a core idle until that job ends. The others take long, and come early too.
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
    priority: 3
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
    priority: 3
    resources:
        gpu=gpu_of("student"),
    message:
        message_of("student")
    shell:
        repro("student")


rule replica:
    input:
        deps("replica"),
        key("replica"),
    output:
        outs("replica"),
    log:
        log_of("replica"),
    benchmark:
        benchmark_of("replica")
    threads: threads_of("replica")
    priority: 1
    resources:
        gpu=gpu_of("replica"),
    message:
        message_of("replica")
    shell:
        repro("replica")


rule rivals:
    input:
        deps("rivals"),
        key("rivals"),
    output:
        outs("rivals"),
    log:
        log_of("rivals"),
    benchmark:
        benchmark_of("rivals")
    threads: threads_of("rivals")
    priority: 1
    resources:
        gpu=gpu_of("rivals"),
    message:
        message_of("rivals")
    shell:
        repro("rivals")
