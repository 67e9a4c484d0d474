# The scheduler. dvc.yaml says what there is to compute and DVC judges what is up to date; here each of its stages
# becomes a rule, so that Snakemake runs them in parallel, on this machine or on a cluster: `snakemake --cores 8`.
#
# `snakemake --lint` asks for a conda environment or container for each rule: every stage runs in the one environment
# that requirements.lock pins by hash, for both engines, and a second description of it would only drift from the first.

from workflow.session import exclusive, plan

if workflow.is_main_process:
    snakemake_lock = exclusive()

JOBS, THREADS = plan(run=workflow.is_main_process and not workflow.dryrun)


rule all:
    input:
        [path for job in JOBS for path in job.outputs],
    default_target: True


for job in JOBS:

    rule:
        name:
            job.rule
        input:
            [ancient(path) if job.done else path for path in [*job.inputs, job.stamp()]],
        output:
            [directory(path) for path in job.outputs],
        params:
            stage=job.name,
            card="python -m workflow.card" if job.gpus else "",
        log:
            f"logs/snakemake/{job.name}.log",
        threads: THREADS
        resources:
            gpu=job.gpus,
        shell:
            # DVC waits for its repository lock but not for outputs that another DVC process is writing: flock does.
            "flock .dvc/tmp/locks/{params.stage}"
            " {params.card} dvc --wait-for-lock repro --single-item {params.stage} 2>&1 | tee {log}"
