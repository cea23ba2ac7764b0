"""Computes a Gram matrix, shard by shard, each a file that is whole or absent.

    python -m kernel_gen --kernel=NTK --dataset=DIGITS                               all shards, on all cores
    python -m kernel_gen --kernel=CNTK --dataset=CIFAR10 --num_shards=250 --shard=7  one shard
    python -m kernel_gen --kernel=CNTK --dataset=CIFAR10 --list                      a command a shard still to do
    python -m kernel_gen.status --kernel=CNTK --dataset=CIFAR10                      what is there, missing, damaged

The files lie under ntk_dir, cntk_dir or rf_dir of directories.txt. The same command again goes on where it was stopped;
what is finished is left alone. `linearized.open_gram(folder)` reads the matrix.
"""

import sys
from collections.abc import Sequence

from kernel_gen.jobs.gram_job import GramJobSettings
from linearized.settings.command import run_command


def main(config: GramJobSettings) -> None:
    """Make shards, or list the commands that make them."""
    from kernel_gen.jobs.runner import make_or_list

    make_or_list(config)


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return its exit code."""
    return run_command(GramJobSettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
