"""Launcher for Slurm jobs through dask-jobqueue; each job is a worker that runs one command at a time.

Jobs that are cancelled, preempted or timed out are replaced by new ones, so that the number of jobs stays constant.
Dask's `adapt` does this; with its `scale`, a launch would wait forever for jobs that have ended.
"""

import contextlib
import copy
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import psutil

from linearized.base.directories import storage
from linearized.base.errors import UserError
from linearized.base.extras import require
from linearized.base.nearest import hint
from linearized.cluster.clients import new_credentials, told
from linearized.launch.launch_settings import WhereSettings
from linearized.launch.launchers import configure
from linearized.settings.reads import reads
from linearized.storage.files import Busy, claimed

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster
    from distributed import Client, Security

READS = reads("workers", "dashboard", "gres", "memory", "time", "partition", "interface", "sbatch")

SHORTEST = 300  # shortest time limit of a job, in seconds
MARGIN = (120, 600)  # smallest and largest time between a worker's planned end and its job's, in seconds
CREDENTIALS = ".tls-"  # prefix of the name of a launch's folder of keys


def default_cores(settings: WhereSettings) -> int:
    """Return the default number of threads of a command, which is 1."""
    return 1


def limit_seconds(time: str) -> int:
    """Return the seconds of a time limit in the form [D-]HH:MM:SS.

    Args:
        time: The time limit, such as "04:00:00".

    Raises:
        UserError: For another form, and for less than five minutes.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", time)
    if match is None:
        raise UserError(f"--time is [D-]HH:MM:SS, such as 04:00:00. Received: {time!r}.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total < SHORTEST:
        raise UserError(f"--time must be at least {SHORTEST // 60} minutes. Received: {time}.")
    return total


def lifetime_words(time: str) -> list[str]:
    """Return the flags that make a Dask worker end some minutes before the time limit of its Slurm job.

    The margin is a tenth of the limit, but at least 2 and at most 10 minutes. Dask changes it by a random amount of up
    to half the margin, so that not all workers end at once.

    Args:
        time: Time limit of the job, [D-]HH:MM:SS.
    """
    limit = limit_seconds(time)
    margin = min(max(limit // 10, MARGIN[0]), MARGIN[1])
    return ["--lifetime", f"{limit - margin}s", "--lifetime-stagger", f"{margin // 2}s"]


@contextlib.contextmanager
def client(settings: WhereSettings) -> Iterator["Client"]:
    """Start a Dask scheduler here, keep `settings.workers` Slurm jobs queued or running, and yield the client.

    The jobs are cancelled at the end of the `with` block.

    Args:
        settings: Settings workers, cores, dashboard, logs, and the settings of jobs.

    Raises:
        UserError: If sbatch is not found, Slurm refuses the job, a setting is invalid, or the scheduler cannot start.
    """
    lifetime = lifetime_words(settings.time)
    if shutil.which("sbatch") is None:
        raise UserError("--launcher=slurm runs on a machine that submits Slurm jobs; sbatch is not found here.")
    if settings.interface is not None and settings.interface not in (known := psutil.net_if_addrs()):
        raise UserError(f"There is no network interface {settings.interface}.{hint(settings.interface, known)} "
                        f"--interface is one of: {', '.join(known)}.")  # fmt: skip
    configure(settings)
    security = new_credentials("--launcher=slurm")
    dask_jobqueue = require("dask_jobqueue", "cluster", "--launcher=slurm")
    from distributed import Client

    logs = Path(settings.logs or storage() / "logs").resolve()
    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        credentials = stack.enter_context(_credentials_folder(logs))
        with told("The Slurm workers cannot start", "Look at --interface, --memory, --time and --dashboard."):
            keys = _in_files(security, credentials)
            cluster = stack.enter_context(_cluster(dask_jobqueue, settings, logs, lifetime, keys))
            _try_job(cluster.job_script())
            cluster.adapt(minimum_jobs=settings.workers, maximum_jobs=settings.workers)
            found = stack.enter_context(Client(cluster))
        yield found


def _cluster(
    dask_jobqueue: ModuleType, settings: WhereSettings, logs: Path, lifetime: list[str], security: "Security"
) -> "SLURMCluster":
    return dask_jobqueue.SLURMCluster(
        queue=settings.partition,
        cores=1,  # one task at a time; job_cpu counts the command's own threads
        processes=1,
        job_cpu=settings.cores or default_cores(settings),
        memory=settings.memory,
        walltime=settings.time,
        interface=settings.interface,
        python=sys.executable,
        job_name="linearized",
        log_directory=str(logs),
        job_extra_directives=[
            "--requeue",
            *([f"--gres={settings.gres}"] if settings.gres else []),
            *shlex.split(settings.sbatch),
        ],
        # A dashboard has no password, so it listens on its own machine only; `ssh -L` reaches it from elsewhere.
        worker_extra_args=[*lifetime, "--dashboard-address", "127.0.0.1:0", "--preload", "linearized.launch.task"],
        scheduler_options={"dashboard_address": f"127.0.0.1:{settings.dashboard}"},
        security=security,
    )


def _in_files(security: "Security", folder: Path) -> "Security":
    """Write the TLS credentials that workers need into files, and return a copy of the credentials with their paths.

    Without these files, dask-jobqueue would write temporary files, and print errors when it removes them after their
    folder is gone.

    Args:
        security: Credentials in memory.
        folder: Folder of the files, which only this user can read.
    """
    stored = copy.copy(security)
    for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        path = folder / f"{name}.pem"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - opens a file descriptor
            file.write(getattr(security, name))
        setattr(stored, name, str(path))
    return stored


@contextlib.contextmanager
def _credentials_folder(logs: Path) -> Iterator[Path]:
    """Create a folder for files with TLS keys that only this user can read, yield it, and remove it at the end.

    It is created in the folder of the logs, which jobs on other machines can read. Folders that killed launches left
    there are removed too.

    Args:
        logs: Folder of the logs.
    """
    for left in logs.glob(f"{CREDENTIALS}*"):
        with contextlib.suppress(Busy), claimed(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=CREDENTIALS, dir=logs))
    with claimed(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _try_job(script: str) -> None:
    """Raise `UserError` with Slurm's message if Slurm refuses a job.

    Otherwise Dask's `adapt` would submit a refused job again and again.

    Args:
        script: Script of the job, in the form that sbatch reads.
    """
    done = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"Slurm refuses the job: {done.stderr.strip()}. Change --partition, --time or what it asks for."
        )
