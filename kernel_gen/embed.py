"""Compute features φ of a dataset, with φ(x)·φ(z) ≈ k(x, z) for a kernel k, and write them to shards (files).

    python -m kernel_gen.embed --features=NTK --activation=gelu --dataset=FMNIST --embedding_dim=4096
    python -m kernel_gen.embed --features=CNTK --dataset=CIFAR10 --embedding_dim=4096 --num_shards=50 --shard=7
    python -m kernel_gen.embed --features=CNTK --dataset=CIFAR10 --embedding_dim=4096 --list
    python -m kernel_gen.status --features=CNTK --dataset=CIFAR10 --embedding_dim=4096

For n rows and m features, n·m numbers are stored, where a Gram matrix has n² entries; time and disk space grow linearly
with n. The files are written to a folder in ntk_dir, cntk_dir or rf_dir, which directories.txt defines.
`linearized.open_embedding(folder)` reads them. The same command resumes a stopped job; finished shards are not changed.
"""

import sys
from collections.abc import Sequence

from kernel_gen.jobs.feature_job import EmbedSettings
from linearized.settings.command import run_command


def main(config: EmbedSettings) -> None:
    """Compute the shards that `config` requests or, with `--list`, print the commands that compute them."""
    from kernel_gen.jobs.runner import make_or_list

    make_or_list(config)


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return its exit code."""
    return run_command(EmbedSettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
