"""Flags that commands with a folder of results share: name of the folder, time between checkpoints, and shards."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from linearized.base.directories import directory
from linearized.settings.config import Settings, setting

EXPERIMENT_HELP = "the experiment: a folder of results below nn_dir (of kernels: below rkhs_dir)"
CHECKPOINT_HELP = "seconds of work that a killed run may lose; 0: none"
NUM_LAYERS_HELP = "number of hidden layers"
MEMORY_HELP = "GiB of memory to work with; 0: half of what is free"
MOST_GIB = 2.0**20
KERNEL_ITERATIONS = 2000  # default number of products with K
MOST_STEPS = 10**6  # maximum of iterations or epochs
MOST_SECONDS = 10.0**7


@dataclasses.dataclass(frozen=True)
class RunSettings(Settings):
    """Settings that name a run and its folder, and set the time between checkpoints of the run."""

    GROUP = "Run"

    exp_name: str = setting("test", EXPERIMENT_HELP, identity=False, name=True)
    job_id: int = setting(
        -1, "a number of your cluster's, added to the run's name; -1: none", minimum=-1, maximum=2**63 - 1
    )
    checkpoint_seconds: float = setting(30.0, CHECKPOINT_HELP, minimum=0.0, maximum=MOST_SECONDS, identity=False)


@dataclasses.dataclass(frozen=True)
class KernelRunSettings(RunSettings):
    """Settings that name a kernel's run and its folder; base class of settings that also have data and a kernel.

    Attributes:
        PREFIX: Text with which the names of the runs start.
    """

    PREFIX: ClassVar[str] = ""

    def run_name(self) -> str:
        """Return the name of the folder of the result, for settings of a single noise level.

        It is unique to the settings that determine the result.
        """
        job = f"_job{self.job_id}" if self.job_id >= 0 else ""
        return f"{self.PREFIX}{self.data_name()}_{self.label()}_noise{self.noise_ind}_{self.key()}{job}"

    def folder(self) -> Path:
        """Return the path of the folder in which the result is stored, for settings of a single noise level.

        It is `rkhs_dir` of directories.txt, then the experiment's name, then `run_name()`.
        """
        return directory("rkhs_dir") / self.exp_name / self.run_name()


@dataclasses.dataclass(frozen=True)
class ShardSettings(Settings):
    """Settings of a job that is divided into shards, files that several processes can make.

    They select the shard to make, the number of threads, and the time to wait for another job on the same shard, or
    list the commands of the unfinished shards.
    """

    GROUP = "Run"

    shard: int = setting(
        -1, "the shard to compute, from 0; -1: all that are not finished", minimum=-1, maximum=10**6, identity=False
    )
    wait: float = setting(
        0.0, "seconds to wait for another job on the same shard", minimum=0.0, maximum=MOST_SECONDS, identity=False
    )
    threads: int = setting(
        0, "tiles computed side by side, 0: one for each core", minimum=0, maximum=4096, identity=False
    )
    list: bool = setting(False, "print the commands of the unfinished shards, one on each line", identity=False)
