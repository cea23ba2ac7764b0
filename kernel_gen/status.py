"""Print the state of the shards (files) of a Gram matrix or of features, and the speed at which they were computed.

    python -m kernel_gen.status --kernel=CNTK --dataset=CIFAR10 --noise_ind=3
    python -m kernel_gen.status --features=NTK --dataset=FMNIST                 features of a kernel
    python -m kernel_gen.status --folder=storage/cntk/...                       any folder of shards
    python -m kernel_gen.status --kernel=CNTK --dataset=CIFAR10 --verify        recompute random entries in float64
    python -m kernel_gen.status --runs                                          running and stopped runs

Without any flag the runs are listed first, and then the shards of the default kernel and dataset.

A shard is finished, at work (a process computes it), begun, missing, damaged, or foreign (made with other settings).
Give the flags with which the shards were computed. Temporary files and locks of killed jobs and runs are removed;
nothing else is changed on disk.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Sequence

from kernel_gen.jobs.feature_job import EmbedSettings
from kernel_gen.jobs.gram_job import KernelJobSettings
from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.settings.command import run_command
from linearized.settings.config import LARGEST_SEED, setting
from linearized.settings.embedding_settings import EmbeddedRows
from linearized.settings.gram_settings import GramSettings
from linearized.settings.reads import SET, when
from linearized.storage.manifest import FEATURES, GRAM, kind_of, load_manifest


@dataclasses.dataclass(frozen=True)
class StatusSettings(EmbeddedRows, GramSettings):
    """Settings of `python -m kernel_gen.status`: the settings of the shards, and what to print or verify."""

    runs: bool = setting(
        False, "list the runs of train, krr, compare, theory and finetune that are not finished, instead of shards",
        identity=False,
    )  # fmt: skip
    verify: bool = setting(
        False, "recompute random entries in float64, or random rows of features, and compare", identity=False
    )
    verify_rows: int = setting(
        16,
        "number of rows and of columns of each block that --verify compares",
        minimum=1,
        maximum=10_000,
        identity=False,
        when=when(verify=SET),
    )
    verify_seed: int = setting(
        0,
        "random-number seed of the rows and columns that --verify compares",
        minimum=0,
        maximum=LARGEST_SEED,
        identity=False,
        when=when(verify=SET),
    )

    def __post_init__(self):
        super().__post_init__()
        others = [field.name for field in dataclasses.fields(self)
                  if field.name != "runs" and getattr(self, field.name) != field.default]  # fmt: skip
        if self.runs and others:
            raise UserError(f"--runs lists runs of every kind: leave out --{others[0]}.")

    def job_settings(self) -> KernelJobSettings | EmbedSettings:
        """Return the settings of the command that computes these shards, with the values of these flags.

        They are those of `python -m kernel_gen.embed` if --features is given, otherwise those of `python -m
        kernel_gen`.
        """
        cls = EmbedSettings if self.features else KernelJobSettings
        names = {field.name for field in dataclasses.fields(self)} & {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: getattr(self, name) for name in names})


def main(config: StatusSettings) -> None:
    """Print the state of the runs or of the shards that the flags refer to.

    Raises `UserError` if the folder has no shards, or if entries that `--verify` recomputes differ.
    """
    from kernel_gen.jobs.shard_states import report
    from kernel_gen.jobs.verification import tolerance, verify
    from linearized.base.terminal import say

    if config.runs or config == StatusSettings():
        say_runs()
    if config.runs:
        return
    settings = config.job_settings()
    folder = settings.path()
    kind = kind_of(folder)
    if kind is None:
        if folder.is_dir():  # left by a job that was killed before it wrote the folder's manifest
            from linearized.storage.shard_folder import tidy

            tidy(folder)
            with contextlib.suppress(OSError):
                folder.rmdir()
        wanted = FEATURES if config.features else GRAM
        raise UserError(f"{folder} holds no {wanted.noun}. Make it with: {settings.command()}")
    for line in report(folder).splitlines():
        say(line, indent="  " if line.startswith(" ") else "")
    if config.verify:
        compared, worst = verify(folder, count=config.verify_rows, seed=config.verify_seed)
        what, how = ("rows of features", "") if kind is FEATURES else ("entries", " in float64")
        say(f"verified: {compared} {what} recomputed{how}, worst relative error {worst:.1e}")
        most = tolerance(load_manifest(folder, kind))
        if not worst <= most:
            raise UserError(
                f"{what.capitalize()} of {folder} differ by {worst:.1e} from those recomputed{how} (up to "
                f"{most:.0e} is rounding). Remove the folder and compute it again."
            )


def say_runs() -> None:
    """Print the runs of other commands, such as train and krr, that are not finished.

    Their folders are in the directories nn_dir and rkhs_dir of directories.txt. Temporary files of killed runs are
    removed.
    """
    from linearized.base.terminal import say
    from linearized.storage.run_states import unfinished_runs

    for directory_name in ("nn_dir", "rkhs_dir"):
        folder = directory(directory_name)
        found = unfinished_runs(folder)
        say(f"{folder}: {len(found)} runs are not finished")
        for state in found:
            say(f"{state}", indent="  ")


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return its exit code."""
    return run_command(StatusSettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
