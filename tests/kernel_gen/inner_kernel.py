"""A kernel for tests, x·z, slow on demand; run as a program it is `python -m kernel_gen` with that kernel known."""

import os
import sys
import time

import numpy as np

from kernel_gen import KERNELS
from kernel_gen.kernel import Kernel
from linearized.settings.reads import reads

READS = reads()


class Inner(Kernel):
    """x·z in the dtype asked for; $INNER_SLEEP seconds a block."""

    tile, scale = 16, "input"

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)

    def prepare(self, x):
        return x.astype(self.dtype)

    def block(self, one, two, *, same=False):
        time.sleep(float(os.environ.get("INNER_SLEEP", 0)))
        return one @ two.T


def build(settings, image_shape):
    return Inner(settings.dtype)


def register():
    KERNELS._paths["INNER"] = "inner_kernel"


if __name__ == "__main__":
    register()
    from kernel_gen.__main__ import main
    from kernel_gen.jobs.gram_job import GramJobSettings as Config
    from linearized.settings.command import run_command

    sys.exit(run_command(Config, "", main))
