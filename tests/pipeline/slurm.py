"""A Slurm of one node on the loopback interface, without an accounting database, run by tests as root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

PORTS = (26817, 26818)
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
MinJobAge=7200
KillWait=2
MailProg=/bin/true
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 CPUs=4 RealMemory=256000
PartitionName=main Nodes=node1 Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """What stands in the way of a Slurm here, in one line. Installs Debian's packages where they are missing."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        if shutil.which("apt-get") is None:
            return f"no {', '.join(missing)}, and no apt-get"
        install = "apt-get update && apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends slurm-wlm"
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(install, shell=True, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"apt-get install slurm-wlm: {(done.stderr.splitlines() or ['failed'])[-1]}"
    return None


class Slurm:
    """`environment` has its commands find it. Started in `folder`, whose path must be short: it holds a socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir(parents=True)
        configuration = folder / "slurm.conf"
        configuration.write_text(CONFIGURATION.format(folder=folder, ports=PORTS))
        wrapper = folder / "bin" / "srun"  # the executor takes SLURM_CONF away from it
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun")} "$@"\n')
        wrapper.chmod(0o755)
        self.environment = {"SLURM_CONF": str(configuration)}
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        munged = ["munged", "--foreground", "--force", "--socket", f"{folder}/munge.socket", "--key-file", str(key)]
        munged += ["--pid-file", f"{folder}/munged.pid", "--seed-file", f"{folder}/munged.seed"]
        self.daemons: list[subprocess.Popen[bytes]] = []
        self._start(*munged, "--log-file", f"{folder}/munged.log")
        self._wait(lambda: (folder / "munge.socket").exists(), "munged")
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D", "-N", "node1")
        self._wait(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T"), "an idle node")

    def _start(self, *command: str) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            daemon = subprocess.Popen(command, env={**os.environ, **self.environment}, stdout=log, stderr=log)
        self.daemons.append(daemon)

    def _wait(self, condition, what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"no {what}: {(self.folder / 'daemons.log').read_text()[-2000:]}"
            time.sleep(0.1)

    def run(self, *command: str) -> str:
        """Standard output of one of Slurm's commands."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False).stdout

    def jobs(self) -> list[dict[str, str]]:
        """Slurm's own list: JobId, JobState, StartTime, EndTime, StdOut and so on, the first to be submitted first."""
        lines = self.run("scontrol", "--oneliner", "show", "jobs").splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line.startswith("JobId=")]

    def stop(self) -> None:
        """End jobs and daemons."""
        self.run("scancel", "--user=root", "--full", "--signal=KILL")
        self.run("scancel", "--user=root")
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
