"""Compute the Gram matrix (kernel matrix) of a dataset, and write it to shards, files with parts of the matrix.

    python -m kernel_gen --kernel=NTK --dataset=DIGITS                               all shards, on all cores
    python -m kernel_gen --kernel=CNTK --dataset=CIFAR10 --num_shards=250 --shard=7  one shard
    python -m kernel_gen --kernel=CNTK --dataset=CIFAR10 --list                      one command per unfinished shard
    python -m kernel_gen.status --kernel=CNTK --dataset=CIFAR10                      the state of all shards

The files are written to a folder in ntk_dir, cntk_dir or rf_dir, which directories.txt defines. The same command
resumes a stopped job. Finished shards are not changed; an unfinished shard has the name `*.part`.
`linearized.open_gram(folder)` reads the matrix.
"""

import sys
from collections.abc import Sequence

from kernel_gen.jobs.gram_job import GramJobSettings
from linearized.settings.command import run_command


def main(config: GramJobSettings) -> None:
    """Compute the shards that `config` requests or, with `--list`, print the commands that compute them."""
    from kernel_gen.jobs.runner import make_or_list

    make_or_list(config)


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return its exit code."""
    return run_command(GramJobSettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
