"""Settings of `linearized launch`: which commands run, where, and how often they are tried."""

import dataclasses
from collections.abc import Mapping

from linearized.base.extras import MOST_WORKERS, SCHEDULER_HELP
from linearized.launch import LAUNCHERS
from linearized.settings.config import Settings, setting
from linearized.settings.reads import Declarations, declared


@dataclasses.dataclass(frozen=True)
class WhereSettings(Settings):
    """Settings for where commands run and how often they are tried; each launcher reads a subset of them."""

    launcher: str = setting("local", "where to run", choices=LAUNCHERS)
    workers: int = setting(
        2, "commands that run at the same time, each on a worker (a Slurm job) of its own", minimum=1,
        maximum=MOST_WORKERS,
    )  # fmt: skip
    retries: int = setting(
        3, "more tries after a failure (not after code 2) or a worker's death", minimum=0, maximum=1000
    )
    logs: str = setting(
        "",
        "folder of the logs, one file a command; empty: beside what it makes (its --folder), else logs "
        "in ./storage, or in $LINEARIZED_STORAGE",
    )
    dashboard: int = setting(
        8787, "local, slurm: port of the live dashboard; 0: any free one", minimum=0, maximum=65535
    )
    gpus: str = setting("", "local, plain: the GPUs, such as 0,1, a worker each, in the place of --workers")
    cores: int = setting(0, "threads of a command; 0: local, this machine's share, slurm, one", minimum=0, maximum=4096)
    cold: bool = setting(
        False, "local, plain: a new process for every command, also for those of the suite, which are otherwise forks "
        "of one process a worker that has imported their modules",
    )  # fmt: skip
    scheduler: str = setting("", SCHEDULER_HELP)
    gres: str = setting("", "slurm: what a job needs, such as gpu:1")
    memory: str = setting("4GiB", "slurm: memory of a job")
    time: str = setting("04:00:00", "slurm: time limit of a job, [D-]HH:MM:SS")
    partition: str | None = setting(None, "slurm: partition; none: the cluster's default")
    interface: str | None = setting(None, "slurm: network interface that jobs reach this machine by, such as ib0")
    sbatch: str = setting("", "slurm: more words for sbatch, such as '--account=lab --constraint=a100'")

    @classmethod
    def kinds(cls) -> Declarations:
        """Return `Settings.kinds` with the entry "launcher", which maps each launcher to the settings that it reads."""
        return {**super().kinds(), "launcher": declared(LAUNCHERS)}

    def chosen(self) -> Mapping[str, str | None]:
        """Return `Settings.chosen` with the entry "launcher", the name of the selected launcher."""
        return {**super().chosen(), "launcher": self.launcher}


@dataclasses.dataclass(frozen=True)
class LaunchSettings(WhereSettings):
    """Settings of `linearized launch`: which commands to run, and the settings of where and how often to run them."""

    expand: bool = setting(False, "the command after --, with --list added, prints the commands to run, one a line")
    grid: tuple = setting(
        (),
        "flag=values, any number of times: noise_ind=0:15, model=RF,NT; the command after -- runs for each combination",
    )
    commands: str | None = setting(None, "a file of commands, one a line; - reads them from standard input")
