# The scheduler. dvc.yaml says what there is to compute and DVC judges what is up to date; here each of its stages
# becomes a rule, so that Snakemake runs them in parallel, on this machine or on a cluster: `snakemake --cores 8`.
#
# `snakemake --lint` asks for a conda environment or container for each rule: every stage runs in the one environment
# that requirements.lock pins by hash, for both engines, and a second description of it would only drift from the first.

import sys

from workflow.jobs import needs, planned, stamp, warm_up

if workflow.is_main_process:
    from workflow.session import asked, exclusive, for_snakemake, serve

    ASKED = asked()
    snakemake_lock = exclusive()
    JOBS, FACTS, session = for_snakemake(run=not ASKED.dry, remote=ASKED.remote)
    if FACTS.gpus and "gpu" not in workflow.global_resources:
        workflow.global_resources["gpu"] = FACTS.gpus
    RULES, GROUPED = JOBS, ASKED.remote
else:  # a cluster's job: it plans nothing, and Snakemake's command line names the rules that it may run
    JOBS, FACTS = planned()
    RULES, GROUPED = [job for job in JOBS if job.rule in sys.argv], True
    if str(config.get("warm")).lower() == "true":
        warm_up(RULES, FACTS)

OUTPUTS = {job.name: list(job.outputs) for job in JOBS}


onstart:
    wanted = workflow.dag_settings
    serve(
        session,
        remote=ASKED.remote,
        forced={*wanted.forcerun, *(wanted.targets if wanted.forcetargets else ())},
        all_forced=wanted.forceall,
    )


rule all:
    input:
        [path for job in RULES for path in job.outputs],
    default_target: True


for job in RULES:

    rule:
        name:
            job.rule
        input:
            [
                ancient(path) if job.done else path
                for path in [
                    *(path for before in job.after for path in OUTPUTS[before]),
                    stamp(job),
                ]
            ],
        output:
            [directory(path) if folder else path for path, folder in job.outputs.items()],
        params:
            stage=job.name,
            card="python -m workflow.card" if job.meta.get("gpu") else "",
        log:
            f"logs/snakemake/{job.name}.log",
        threads: FACTS.threads
        group:
            job.meta.get("group") if GROUPED else None
        resources:
            **needs(job),
        shell:
            "{params.card} python -m bridge.client {params.stage} 2>&1 | tee {log}"
