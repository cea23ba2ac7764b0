"""The CUDA kernel in Numba's simulator, in a process of its own, against the CPU's on tiny images."""

import os
import subprocess
import sys

import pytest
from numba import cuda

from kernel_gen.kernels import cntk
from linearized.base.errors import UserError
from linearized.settings.gram_settings import KernelSettings

SCRIPT = """
import sys
import numpy as np
from kernel_gen.cntk import architecture as a, engine as cntk_engine, recursion_cuda as cntk_cuda
from kernel_gen.cntk.fused import Cntk
from linearized.settings.gram_settings import KernelSettings

kind, dtype, bias = sys.argv[1], sys.argv[2], float(sys.argv[3])
two = (a.Conv(), a.Relu(), a.Conv(), a.Relu(), a.AvgPool(2))
network = a.Architecture("tiny", (*two, a.Conv(), a.Relu(), a.AvgPool(2), a.Flatten()))
cpu, gpu = (
    Cntk(network, (4, 4, 2), KernelSettings(kernel="CNTK", kind=kind, dtype=dtype, bias_std=bias, device=device))
    for device in ("cpu", "auto")
)
assert type(gpu.engine) is cntk_cuda.CudaEngine and gpu.own_threads
assert type(cpu.engine) is cntk_engine.Engine and not cpu.own_threads
x = np.random.default_rng(0).standard_normal((3, 4, 4, 2))
x[1, :, :2] = 0
x[2] = 0.5
one = cpu.prepare(x.reshape(3, -1))
engine = cntk_cuda.CudaEngine(
    cpu.stages, 2, ntk=kind == "ntk", q=cpu.q, beta=cpu.bias / cpu.q, dtype=dtype, threads=5
)
engine.memory = 2 * engine.map_bytes  # more than one batch
for two, same in ((one, True), (one[1:], False)):
    theirs, ours = (made.block(two, one[: len(two)], same) for made in (engine, cpu.engine))
    worst = np.abs(theirs / ours - 1).max()
    if not worst < (2e-6 if dtype == "float32" else 1e-12):
        sys.exit(f"{worst} off")
"""


@pytest.mark.parametrize(
    ("kind", "dtype", "bias"),
    [
        ("ntk", "float32", "0.3"),
        pytest.param("ntk", "float32", "0", marks=pytest.mark.slow),
        pytest.param("nngp", "float64", "0.3", marks=pytest.mark.slow),
    ],
)
def test_equals_the_cpu(kind, dtype, bias):
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, dtype, bias], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_gpu_that_is_not_there_is_refused():
    if cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(UserError, match="Numba finds none"):
        cntk.build(KernelSettings(kernel="CNTK", device="gpu"), (32, 32, 3))
