"""The convolutional neural tangent kernel (CNTK) of ReLU networks on a GPU, by the algorithm of `recursion_numba`.

One block of threads computes one pair of images. As on the CPU, it processes one vertical offset after another. For one
offset, it pairs each row of the first image with one row of the second; the numbers for all pairs of their columns (x,
x') are called a plane. Each number of a plane is assigned to a fixed thread. A thread keeps the sums of the last two
planes for its numbers in its own memory, for every layer. Only the plane that is summed horizontally is shared between
threads: about 2·(W + 2)² numbers for images of width W, 9 KiB at W = 32. Every pair has its own pooled results, so no
two blocks add to the same number, and results do not depend on timing.

Operations are those of `recursion_numba`, about 100 MFLOP for Myrtle-5 on 32x32x3. The covariances that stages pass to
each other cause a memory traffic of 4 MB per pair. Tested on a CPU in Numba's simulator (NUMBA_ENABLE_CUDASIM=1), where
a pair of 4x4 images takes a second.
"""

import functools
import math

import numpy as np
from numba import cuda, float32, float64

from kernel_gen.cntk.architecture import Stage
from kernel_gen.cntk.diagonal import Prepared
from kernel_gen.cntk.engine import Engine, head_means, pairs_of
from kernel_gen.cntk.recursion_numba import SNAP, P, Q

THREADS = 256  # threads per block; each owns ceil(W·W/256) numbers of a plane


@functools.cache
def stage_kernel(
    stage: Stage, *, channels: int, pooled: int, slots: tuple[int, int], ntk: bool, dtype: str,
    threads: int = THREADS,
):  # fmt: skip
    """Return the CUDA kernel that computes one stage of a network for pairs of images.

    All sizes are constants in the compiled kernel. Its arguments are those of the program that
    `recursion_numba.stage_kernel` returns, without `fits`. It overwrites `maps_out` instead of adding to it.

    Args:
        stage: The stage.
        channels: Number of image channels for the first stage; 0 for a later one.
        pooled: Width of the previous stage's pool; 1 for the first stage.
        slots: Numbers (in, out) of rows of the second image that are stored for a row of the first, before and after
            the stage.
        ntk: Whether T = K + Θ is computed in addition to the covariance K, with the tangent kernel Θ.
        dtype: Data type of the computation, "float32" or "float64".
        threads: Number of threads per block, that is, per pair of images.
    """
    height, width, convs, (down, across) = stage.height, stage.width, stage.convs, stage.pool
    reach, stride, margin = stage.reach[0], width + 1, width + 2
    padded, owned, kinds = width * stride + 2 * margin, -(-width * width // threads), 1 + ntk
    first, exact, real = channels > 0, dtype == "float64", np.dtype(dtype).type
    number = float64 if exact else float32
    slots_in, slots_out = slots
    high, wide = height // down, width // across
    reach_in, reach_out = (slots_in - 1) // 2, (slots_out - 1) // 2
    rings = max(1, convs)
    one, two, half, zero, snap = real(1), real(2), real(0.5), real(0), real(SNAP[dtype])
    root_half, inverse_pi = real(math.sqrt(0.5)), real(1 / math.pi)
    p0, p1, p2, p3, p4, p5, p6 = (real(c) for c in P)
    q0, q1, q2, q3, q4 = (real(c) for c in Q)

    def run(pixels1, pixels2, std1, std2, left, right, twin, q, beta, maps_in, scale, maps_out):
        pair, thread = cuda.blockIdx.x, cuda.threadIdx.x
        row = cuda.shared.array((kinds, padded), number)
        last = cuda.local.array((rings, kinds, owned), number)  # sums across of the newest row
        before = cuda.local.array((rings, kinds, owned), number)  # sums across of the row before it
        nine = cuda.local.array((rings, kinds, owned), number)  # sums across and down: Σ₉ for the row before the newest
        i, j = left[pair], right[pair]
        root_q, half_q = real(math.sqrt(q)), real(half * q)
        for kind in range(kinds):
            for f in range(thread, padded, threads):
                row[kind, f] = zero
        for place in range(thread, high * slots_out * wide * width, threads):
            x, x2 = place // width % wide, place % width
            to, window = place // (wide * width * slots_out), place // (wide * width) % slots_out
            for kind in range(kinds):
                maps_out[pair, kind, to, window, x, x2] = zero
        for offset in range(-reach, reach + 1):
            begin, end = max(0, -offset), min(height, height - offset)
            for layer in range(rings):
                for kind in range(kinds):
                    for slot in range(owned):
                        last[layer, kind, slot] = zero
                        before[layer, kind, slot] = zero
            for now in range(begin, end + convs):
                for layer in range(convs + 1):
                    y = now - layer
                    if y < begin:
                        break
                    y2 = y + offset
                    cuda.syncthreads()  # no thread reads the row any more
                    if y < end:
                        for own in range(owned):
                            place = thread + own * threads
                            if place >= width * width:
                                break
                            x, x2 = place // width, place % width
                            f = margin + x * stride + x2
                            if layer == 0 and first:
                                total = zero
                                for channel in range(channels):
                                    total += pixels1[i, y, channel, x] * pixels2[j, y2, channel, x2]
                                row[0, f] = total
                                if ntk:
                                    row[1, f] = total
                            elif layer == 0:
                                window = y2 - max(0, min(y - reach_in, height - slots_in))
                                for kind in range(kinds):
                                    total = zero
                                    for part in range(pooled):
                                        total += maps_in[pair, kind, y, window, x, x2 * pooled + part]
                                    row[kind, f] = total * scale
                            else:
                                a, b = std1[i, layer - 1, y, x], std2[j, layer - 1, y2, x2]
                                k = nine[layer - 1, 0, own] + beta
                                c = k * ((root_q / a) * (root_q / b)) if a > zero and b > zero else zero
                                if twin[pair] and offset == 0 and x == x2:
                                    c = one
                                t = one - abs(c)
                                t = t if t > snap else zero
                                root = math.sqrt(t)
                                if exact:
                                    angle = two * math.asin(min(one, root * root_half)) * inverse_pi
                                    kappa1 = math.sqrt(t * (two - t)) * inverse_pi - (one - t) * angle + max(c, zero)
                                    kappa0 = angle
                                else:
                                    kappa1 = root * t * (q0 + t * (q1 + t * (q2 + t * (q3 + t * q4)))) + max(c, zero)
                                    kappa0 = root * (p0 + t * (p1 + t * (p2 + t * (p3 + t * (p4 + t * (p5 + t * p6))))))
                                kappa0 = one - kappa0 if c > zero else kappa0
                                new = half * a * b * kappa1
                                row[0, f] = new
                                if ntk:
                                    tangent = nine[layer - 1, 1, own] + beta
                                    row[1, f] = new + half_q * tangent * kappa0
                    cuda.syncthreads()  # the row is complete
                    if layer < convs:
                        for own in range(owned):
                            place = thread + own * threads
                            if place >= width * width:
                                break
                            f = margin + place // width * stride + place % width
                            for kind in range(kinds):
                                total = zero
                                if y < end:
                                    total = row[kind, f - margin] + row[kind, f] + row[kind, f + margin]
                                nine[layer, kind, own] = before[layer, kind, own] + last[layer, kind, own] + total
                                before[layer, kind, own] = last[layer, kind, own]
                                last[layer, kind, own] = total
                    elif y < end:
                        to = y // down
                        window = y2 // down - max(0, min(to - reach_out, high - slots_out))
                        if 0 <= window < slots_out:
                            for place in range(thread, wide * width, threads):
                                x, x2 = place // width, place % width
                                f = margin + x * across * stride + x2
                                for kind in range(kinds):
                                    total = zero
                                    for part in range(across):
                                        total += row[kind, f + part * stride]
                                    maps_out[pair, kind, to, window, x, x2] += total

    return cuda.jit(run, fastmath=not exact)


class CudaEngine(Engine):
    """The CNTK of one network before its readout, for pairs of prepared images, on the current GPU.

    It has the interface of `engine.Engine`. Pairs are sent to the GPU in batches. The covariances that stages pass to
    each other take at most `memory` bytes per batch, unless a single pair needs more.

    Args:
        stages: Stages of the network.
        channels: Number of image channels.
        ntk: Whether T = K + Θ is computed in addition to the covariance K, with the tangent kernel Θ.
        q: Weight variance of the convolutions, divided by 9.
        beta: Variance b² of the convolutions' biases, divided by `q`.
        dtype: Data type of the computation, "float32" or "float64".
        threads: Number of threads per pair.
    """

    memory = 2**32

    def __init__(self, stages, channels: int, *, ntk: bool, q: float, beta: float, dtype: str, threads: int = THREADS):
        make = functools.partial(stage_kernel, threads=threads)
        super().__init__(stages, channels, ntk=ntk, q=q, beta=beta, dtype=dtype, make=make)
        self.threads = threads

    def block(self, one: Prepared, two: Prepared, same: bool) -> np.ndarray:
        """Return the kernels of all pairs of two sets of images before the readout, float64 (n1, n2, kinds).

        The last axis has the covariance K (NNGP) and, if the tangent kernel Θ (NTK) is computed, T = K + Θ.

        Args:
            one: The first images, prepared (`diagonal.Prepared`).
            two: The second images, prepared.
            same: Whether both sets are the same; one triangle is then computed and mirrored.
        """
        left, right = pairs_of(len(one), len(two), same)
        twin = (left == right) & same
        out = np.empty((len(one), len(two), 1 + self.ntk))
        count = max(1, min(len(left), self.memory // self.map_bytes))
        images = [cuda.to_device(np.ascontiguousarray(x.pixels)) for x in (one, two)]
        stds = [[cuda.to_device(np.ascontiguousarray(std)) for std in x.stds] for x in (one, two)]
        maps = [cuda.to_device(zeros) for zeros in self.workspace(count)]
        for start in range(0, len(left), count):
            part = slice(start, start + count)
            where = [cuda.to_device(np.ascontiguousarray(index[part])) for index in (left, right, twin)]
            size, scale = len(left[part]), self.dtype.type(1)
            for index, (stage, program) in enumerate(zip(self.stages, self.programs, strict=True)):
                program[size, self.threads](
                    *images, stds[0][index], stds[1][index], *where, self.q, self.beta, maps[index], scale,
                    maps[index + 1],
                )  # fmt: skip
                scale = self.dtype.type(1 / math.prod(stage.pool) ** 2)
            heads = head_means(maps[-1][:size].copy_to_host(), self.stages[-1])
            out[left[part], right[part]] = heads
            if same:
                out[right[part], left[part]] = heads
        return out
