# From artifacts to tables and the page that a person reads.
rule comparison:
    input:
        deps("comparison"),
        key("comparison"),
    output:
        outs_shown(
            "comparison",
            comparison=("comparison", "Numbers"),
            metrics=("metrics", "Numbers"),
            noise=("noise", "Plots"),
            training=("training", "Plots"),
            influence=("influence", "Plots"),
        ),
    log:
        log_of("comparison"),
    benchmark:
        benchmark_of("comparison")
    threads: threads_of("comparison")
    message:
        message_of("comparison")
    shell:
        repro("comparison")


rule report:
    input:
        deps("report"),
        key("report"),
    output:
        outs_shown("report", report=("page", "Report")),
    log:
        log_of("report"),
    benchmark:
        benchmark_of("report")
    threads: threads_of("report")
    message:
        message_of("report")
    shell:
        repro("report")
