"""Shards of a Gram matrix as jobs of a real Slurm on this machine, on loopback addresses alone."""

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from linearized import open_gram
from linearized.base.directories import KEYS
from linearized.launch import guard

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120  # seconds; every wait of these tests is bounded
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SYSTEM = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
MISSING = [name for name in PROGRAMS if shutil.which(name, path=SYSTEM) is None]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f"Slurm is not installed (slurm-wlm, munge): no {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd needs root"),
]

CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldAddr=127.0.0.1
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=2,sched_min_interval=100000
KillWait=2
JobRequeue=1
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 Sockets=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def until(true, what, doing=lambda: ""):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}\n{doing()}"
        time.sleep(0.1)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def processes_of(folder):
    """All processes that were started with this Slurm's configuration in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SLURM_CONF", "").startswith(f"{folder}/") and process.status() != "zombie":
                found.append(process)
    return found


@pytest.fixture
def slurm():
    """A Slurm of one node with four CPUs; gives the environment that its commands need. Leaves no process."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: the path of a socket has at most 107 letters
    environment = {**os.environ, "PATH": SYSTEM, "SLURM_CONF": str(folder / "slurm.conf")}
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, ports=free_ports(2)))
    (folder / "key").write_bytes(secrets.token_bytes(128))
    (folder / "key").chmod(0o600)
    files = {"key-file": "key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
    munge = [f"--{flag}={folder / name}" for flag, name in {**files, "seed-file": "munge.seed"}.items()]
    daemons = []

    def start(*command):
        with (folder / f"{command[0]}.out").open("wb") as out:
            daemons.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out))

    def told():
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in folder.glob("*.*") if path.is_file())

    def said(*command):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout.strip()

    def queued():
        return said("squeue", "-h")

    try:
        start("munged", "--foreground", "--force", *munge)
        until((folder / "munge.socket").exists, "munged", told)
        start("slurmctld", "-D")
        start("slurmd", "-D", "-N", "localhost")
        until(lambda: said("sinfo", "-h", "-o", "%T") == "idle", "Slurm's node", told)
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, timeout=60, check=False)
        end = time.monotonic() + 30
        while queued() and time.monotonic() < end:  # while slurmd is there to end its jobs
            time.sleep(0.2)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
        for process in processes_of(folder):
            with contextlib.suppress(psutil.Error):
                process.kill()
        until(lambda: not processes_of(folder), "what Slurm started to end")
        shutil.rmtree(folder)


SETTINGS = ["--kernel=POLYNOMIAL", "--dataset=DIGITS", "--num_train=400", "--num_test=100", "--num_shards=12"]
KERNEL_GEN = [sys.executable, "-m", "kernel_gen", *SETTINGS]


def storage(folder):
    """The environment of a storage of its own."""
    folder.mkdir()
    (folder / "directories.txt").write_text("".join(f"{key} {key}\n" for key in KEYS))
    return {"DIRECTORIES": str(folder / "directories.txt"), "DASK_CONFIG": str(folder / "dask")}


def shards(folder):
    return sorted(folder.glob("ntk_dir/*/shard_*.h5"))


def launch(environment, *words):
    """`linearized launch` on two Slurm jobs."""
    flags = ["--launcher=slurm", "--workers=2", "--interface=lo", "--memory=500MiB", "--dashboard=0", "--retries=8"]
    return subprocess.Popen(
        [sys.executable, "-m", "linearized", "launch", *flags, *words],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def guards(environment):
    """The processes that watch over a command, in the jobs of this Slurm."""
    found = []
    for process in processes_of(Path(environment["SLURM_CONF"]).parent):
        with contextlib.suppress(psutil.Error):  # it may end meanwhile
            if guard.__file__ in process.cmdline():
                found.append(process)
    return found


def open_to_others(environment):
    """Of all that this Slurm and its jobs listen on, what is no loopback address, and whose it is."""
    found = []
    for process in processes_of(Path(environment["SLURM_CONF"]).parent):
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.ip != "127.0.0.1":
                    found.append((process.cmdline(), connection.laddr))
    return found


def test_shards_survive_a_killed_worker_cancelled_jobs_and_a_flipped_bit(slurm, tmp_path):
    alone, cluster = tmp_path / "alone", tmp_path / "cluster"
    subprocess.run(KERNEL_GEN, cwd=ROOT, env={**os.environ, **storage(alone)}, check=True, timeout=PATIENCE)
    assert len(shards(alone)) == 12

    environment = {**slurm, **storage(cluster)}
    listed = subprocess.run(
        [*KERNEL_GEN, "--list"], cwd=ROOT, env=environment, check=True, timeout=PATIENCE, capture_output=True, text=True
    )
    commands = listed.stdout.splitlines()
    assert len(commands) == 12
    # Shards this small are done at once: each waits first, so that there is something to kill.
    todo = tmp_path / "todo.txt"
    todo.write_text("".join(f"bash -c {shlex.quote(f'sleep 3; {command}')}\n" for command in commands))

    logs = f"--logs={cluster / 'logs'}"
    running = launch(environment, logs, f"--commands={todo}")
    try:
        until(lambda: len(shards(cluster)) >= 2, "two shards", lambda: running.poll())
        assert open_to_others(environment) == []
        until(lambda: guards(environment), "a command")
        command = guards(environment)[0]
        worker = command.parent()
        os.kill(worker.pid, signal.SIGKILL)
        until(lambda: not command.is_running(), "the command of the killed worker to end")

        until(lambda: len(shards(cluster)) >= 5, "five shards")
        until(lambda: len(guards(environment)) == 2, "two commands")
        subprocess.run(["scancel", "--user=root"], env=environment, check=True, timeout=PATIENCE)
        assert len(shards(cluster)) < 12
        out, err = running.communicate(timeout=2 * PATIENCE)
    finally:
        running.kill()
    assert running.returncode == 0, err
    assert "12 of 12 done" in out
    assert len(shards(cluster)) == 12

    damaged = shards(cluster)[3]
    content = bytearray(damaged.read_bytes())
    content[-100] ^= 1
    damaged.write_bytes(content)
    before = {path: path.stat().st_mtime_ns for path in shards(cluster)}
    again = launch(environment, logs, "--expand", "--", *KERNEL_GEN)
    out, err = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, err
    assert "1 of 1 done" in out
    assert {path for path in before if path.stat().st_mtime_ns != before[path]} == {damaged}

    one, two = (open_gram(shards(folder)[0].parent) for folder in (alone, cluster))
    np.testing.assert_array_equal(one.to_memory(), two.to_memory())
    jobs = subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True, timeout=60, check=True)
    until(lambda: not guards(environment), "all commands to end")
    assert all(line.split()[4] == "CG" for line in jobs.stdout.splitlines())  # none but what is ending


@pytest.mark.parametrize("flag", ["--partition=nowhere", "--gres=gpu:7", "--cores=64", "--sbatch=--no-such-flag"])
def test_a_job_that_slurm_refuses_is_told(slurm, tmp_path, flag):
    environment = {**slurm, **storage(tmp_path / "here")}
    _, err = launch(environment, f"--logs={tmp_path}", flag, "--", "true").communicate(timeout=PATIENCE)
    assert "error: Slurm refuses the job: " in err and err.count("\n") == 1, err
