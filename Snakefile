# The scheduler. dvc.yaml says what there is to compute and DVC judges what is up to date; here each of its stages
# becomes a rule, so that Snakemake runs them in parallel, on this machine or on a cluster: `snakemake --cores 8`.
#
# `snakemake --lint` asks for a conda environment or container for each rule: every stage runs in the one environment
# that requirements.lock pins by hash, for both engines, and a second description of it would only drift from the first.

from workflow.jobs import stamp
from workflow.session import exclusive, for_snakemake, planned, serve

if workflow.is_main_process:
    snakemake_lock = exclusive()
    JOBS, FACTS, session = for_snakemake(run=not workflow.dryrun, remote=workflow.non_local_exec)
    if FACTS.gpus and "gpu" not in workflow.global_resources:
        workflow.global_resources["gpu"] = FACTS.gpus
else:
    JOBS, FACTS = planned()

OUTPUTS = {job.name: list(job.outputs) for job in JOBS}


onstart:
    asked = workflow.dag_settings
    serve(
        session,
        remote=workflow.non_local_exec,
        forced={*asked.forcerun, *(asked.targets if asked.forcetargets else ())},
        all_forced=asked.forceall,
    )


rule all:
    input:
        [path for job in JOBS for path in job.outputs],
    default_target: True


for job in JOBS:

    rule:
        name:
            job.rule
        input:
            [
                ancient(path) if job.done else path
                for path in [*(path for before in job.after for path in OUTPUTS[before]), stamp(job)]
            ],
        output:
            [directory(path) if folder else path for path, folder in job.outputs.items()],
        params:
            stage=job.name,
            card="python -m workflow.card" if job.meta.get("gpu") else "",
        log:
            f"logs/snakemake/{job.name}.log",
        threads: FACTS.threads
        resources:
            gpu=int(job.meta.get("gpu", 0)),
        shell:
            "{params.card} python -m bridge.client {params.stage} 2>&1 | tee {log}"
