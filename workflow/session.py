"""What comes before the first stage: one process at a time, valid parameters, DVC loaded once, a warm worker."""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import IO, Any, NoReturn

from bridge.command import Command
from bridge.interior import RUN, Pipeline, PipelineError
from bridge.keeper import Keeper
from bridge.plan import Job, write_plan
from bridge.worker import Worker
from tailnas.foundation.errors import UserError, one_line
from tailnas.foundation.yaml_file import read_yaml
from workflow.card import cards
from workflow.jobs import PLAN, SCRIPTS, VALIDATE, Facts, is_forced, thread_environment, warm_worker, write_stamp

PARAMS = Path("params.yaml")
STATE = Path(".tailnas")


def exclusive() -> IO[str]:
    """Wait until no other main process plans or runs in this folder. The kernel frees the lock with the process."""
    try:
        STATE.mkdir(exist_ok=True)
        lock = (STATE / "snakemake.lock").open("w")
    except OSError as error:
        stop(str(one_line(error)))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another run in this folder", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


@dataclass(frozen=True)
class Asked:
    """What Snakemake was called for, which it tells the Snakefile too late. remote: whether jobs run elsewhere."""

    dry: bool
    remote: bool


def asked() -> Asked:
    """Reads the command line with its profiles.

    Options that a user of this pipeline would regret end the process with one line, or after a question.
    """
    from snakemake.cli import parse_args

    words = parse_args(sys.argv[1:])[1]
    if words.touch:
        stop("--touch: without effect, since DVC goes by content; allowed: dvc commit, which accepts what lies there")
    if words.delete_all_output and not words.dryrun:
        if not sys.stdin.isatty():
            stop("--delete-all-output: no terminal to ask on; allowed: -n, or an answer on a terminal")
        print("Remove all outputs? `dvc checkout` brings back what is in the cache. [y/N] ", end="", flush=True)
        if input().strip().lower() not in {"y", "yes"}:
            stop("--delete-all-output: nothing was removed")
    return Asked(dry=words.dryrun or words.delete_all_output, remote=words.executor not in {None, "local"})


@dataclass
class Session:
    """The pipeline under the present params.yaml. gpus: cards to divide; one where the scheduler or the user chose."""

    pipeline: Pipeline
    jobs: list[Job]
    runtime: dict[str, Any]
    worker: Worker | None = None

    @property
    def device(self) -> str:
        return str(self.runtime["device"])

    @property
    def threads(self) -> int:
        return int(self.runtime["threads"])

    def needs_card(self, job: Job) -> bool:
        """Whether a job takes one of the machine's cards, if it has any."""
        return bool(job.meta.get("gpu")) and self.device != "cpu"

    def environment(self) -> dict[str, str]:
        """Of stages."""
        return thread_environment(self.threads)

    def start_worker(self) -> None:
        if self.worker is None:
            self.worker = warm_worker(self.threads)

    def stop_worker(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def close(self) -> None:
        """Have dvc.lock hold everything."""
        self.pipeline.close()


def opened(*, run: bool, warm: bool = True) -> Session:
    """DVC loaded and params.yaml checked, if it or the code changed since DVC recorded that it was valid.

    run: also have DVC record the check. warm: then have a worker where there is something to run. A mistake in the
    parameters ends the process with one line and status 1.
    """
    try:
        runtime = read_yaml(PARAMS)["runtime"]
        worker = warm_worker(int(runtime["threads"])) if run and warm else None  # which takes longer than DVC
        session = Session(Pipeline(), [], runtime, worker)
        if run:
            session.jobs = session.pipeline.jobs(without={VALIDATE})
            if all(job.done for job in session.jobs):
                session.stop_worker()
            if _validate(session):
                session.jobs = session.pipeline.jobs(without={VALIDATE})
            return session
        if not session.pipeline.is_done(VALIDATE):
            _check()
        session.jobs = session.pipeline.jobs(without={VALIDATE})
        return session
    except Exception as error:
        _check()  # DVC stumbles over wrong parameters too, in any way, but names no key
        if isinstance(error, PipelineError | UserError | KeyError | TypeError):
            stop(f"dvc: {error}")
        if (line := one_line(error)) is not None:
            stop(line)
        raise


def _validate(session: Session) -> bool:
    """Have the check recorded; whether it ran."""
    if session.pipeline.begin(VALIDATE) != RUN:
        return False
    job = session.pipeline.job(VALIDATE)
    worker = session.worker.address if session.worker else None
    environment = {**os.environ, **session.environment()}
    if Command(job, str(Path.cwd()), environment, worker, SCRIPTS).run():
        session.pipeline.drop(VALIDATE)
        session.pipeline.close()
        os._exit(1)  # the script has said why
    session.pipeline.end(VALIDATE)
    return True


def for_snakemake(*, run: bool, remote: bool) -> tuple[list[Job], Facts, Session]:
    """What the main process plans. run: whether it may also run it. remote: whether jobs are for other machines."""
    session = opened(run=run, warm=not remote)
    if session.device.startswith("cuda:"):
        stop(
            f"{PARAMS}: runtime.device: {session.device}; allowed: auto, cuda, cpu under Snakemake, which gives each "
            f"stage a card of its own: CUDA_VISIBLE_DEVICES={session.device[5:]} snakemake ... leaves that one"
        )
    if session.device == "cpu":
        session.jobs = [replace(job, meta={**job.meta, "gpu": 0}) for job in session.jobs]
    facts = Facts(session.threads, None if remote or session.device == "cpu" else len(cards()) or None)
    try:
        write_plan(PLAN, session.jobs, **vars(facts))
        for job in session.jobs:
            write_stamp(job)
    except OSError as error:
        stop(str(one_line(error)))
    return session.jobs, facts, session


def serve(session: Session, *, remote: bool, forced: Collection[str], all_forced: bool) -> None:
    """Answer the clients of jobs until this process ends. forced: rules and files to compute in any case."""
    terminate_in_a_thread()
    names = {job.name for job in session.jobs if all_forced or is_forced(job, forced)}
    if not remote:
        session.start_worker()
    worker = session.worker.address if session.worker else None
    jobs = {job.name: job for job in session.jobs}
    keeper = Keeper(session.pipeline, jobs, worker=worker, modules=SCRIPTS, remote=remote, forced=names)
    atexit.register(keeper.close)


def terminate_in_a_thread() -> None:
    """Snakemake's handler of SIGTERM takes a lock that the main thread, which it interrupts, may hold for good."""
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler):
        signal.signal(signal.SIGTERM, lambda *told: Thread(target=handler, args=told, daemon=True).start())


def _check() -> None:
    """Ends the process where params.yaml is not valid, which the check says in its own words."""
    if subprocess.run([sys.executable, "-m", "stages.validate", "--check"], check=False).returncode:
        os._exit(1)


def stop(message: str) -> NoReturn:
    """End with one line and status 1."""
    print(message, file=sys.stderr, flush=True)
    # Snakemake would wrap an exception in a page about the Snakefile, which is not where the mistake is.
    os._exit(1)
