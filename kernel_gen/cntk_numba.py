"""The fused CNTK of two images on a CPU: rows of pixel pairs stream through all layers of a stage, in the first cache.

From the recursion (Arora et al., On Exact Computation with an Infinitely Wide Neural Net, 2019) to the code. Between
pixels i of x and i' of x', with q = σ²/9, b the bias std and s, s' the standard deviations (diagonal maps):

    convolution   K ← q·Σ₉ K + b²,      Θ ← K + q·Σ₉ Θ           Σ₉ sums over the nine common shifts of i and i'
    ReLU          c = K/(s·s'),  K ← ½·s·s'·κ₁(c),  Θ ← ½·κ₀(c)·Θ
    pool          K, Θ ← means over the p·p pixels of i times those of i'
    readout       K ← σ²·K + b²,        Θ ← K + σ²·Θ

The code carries T = K + Θ in place of Θ: a convolution then is two equal sums, Θ = q·Σ₉ T + b². K starts as
x·x'/channels and Θ as 0. Constants go into the maps: c = (Σ₉ K + b²/q)·(√q/s)·(√q/s'), and K after a ReLU is
(s/√2)·(s'/√2)·κ₁.

Order of work. Only pools couple the offsets of i' from i, so a stage takes one vertical offset after another. For one
of them, a row y of x meets the row y' = y + offset of x': a plane (x, x') of W·(W + 1) numbers, whose last column is
zero. In the flat plane a common horizontal shift is a slice W + 2 further on, and zeros beyond its ends do for SAME
padding: Σ₉ is two 3-sums, across over three slices, down over the last three rows, held in a ring. So a stage of L
layers needs 3·L rows of sums and one row, of K and of T (58 KiB for two layers at W = 32), and else the pooled maps.

Cost of a layer with H·W pixels, (H·W)² pairs: about 45 operations a pair for the NTK (Σ₉ of K and T 8, c 3, square root
of 1 - |c| 3, κ₁ 13, κ₀ 15, T 4), 25 for the NNGP; 2·channels + 4 for the first sums, 1 to 2 for a pool. Myrtle-5 on
32x32x3 does 1.05M pairs of pixels at each of the first two layers, 65,536 at the third, 4,096 at the fourth: about
100 MFLOP in all.
"""

import functools
import math
import threading
from collections.abc import Sequence

import numba
import numpy as np

from data.blocks import for_each
from kernel_gen.architecture import Stage

# κ₀(c) = 1 - arccos(c)/π and κ₁(c) = (c(π - arccos c) + √(1 - c²))/π in t = 1 - |c|: for c < 0 √t·P(t) and t·√t·Q(t),
# for c > 0 1 - √t·P(t) and c + t·√t·Q(t). Minimax fits on [0, 1], by linear programming; errors 2.8e-8 and 7.2e-8.
P = (0.450158564, 0.03749901772, 0.008582526911, 0.001892585573, 0.002203026027, -0.001167019923, 0.0008312717292)
Q = (0.3001141124, 0.01491149957, 0.002757577784, 4.163971635e-06, 0.0005224607773)
# 1 - |c| that rounding cannot tell from 0, as where two patches are parallel: its root would stand in κ₀
SNAP = {"float32": 5e-7, "float64": 1e-15}


@functools.cache
def stage_kernel(
    stage: Stage, *, channels: int, pooled: int, slots: tuple[int, int], ntk: bool, bias: bool, dtype: str
):
    """The compiled program of one stage; sizes are constants of it, so that its loops become straight vector code.

    Args:
        channels: Of the images for the first stage; 0 for a later one, which reads the pooled maps of the one before.
        pooled: The side across of the pool before this stage, which its maps_in still wait for; 1 for the first stage.
        slots: How many vertical offsets a row keeps in the maps (in, out), see `row_slots`.
    """
    height, width, convs, (down, across) = stage.height, stage.width, stage.convs, stage.pool
    reach = stage.reach[0]
    stride, size, margin = width + 1, width * (width + 1), width + 2
    first, real = channels > 0, np.dtype(dtype).type
    exact = dtype == "float64"
    slots_in, slots_out = slots
    high, wide = height // down, width // across
    reach_in, reach_out = (slots_in - 1) // 2, (slots_out - 1) // 2
    one, two, half, zero, snap = real(1), real(2), real(0.5), real(0), real(SNAP[dtype])
    root_half, inverse_pi = real(math.sqrt(0.5)), real(1 / math.pi)
    p0, p1, p2, p3, p4, p5, p6 = (real(c) for c in P)
    q0, q1, q2, q3, q4 = (real(c) for c in Q)

    def run(pixels1, pixels2, std1, std2, left, right, twin, q, beta, maps_in, scale, maps_out):
        """Adds the pooled maps of the pairs (left[k], right[k]) into maps_out[k].

        pixels1, pixels2: (n, height, channels, width); std1, std2: (n, convs, height, width); twin[k]: x is x'.
        maps: (pairs, K and T, rows y, slots of y', x, x' not yet pooled); maps_in times `scale` are means.
        """
        ring = np.zeros((convs + 1, 3, 2, size), real)
        row = np.zeros((2, size + 2 * margin), real)
        flat_k, flat_t = row[0], row[1]
        plane_k = row[0, margin : margin + size].reshape(width, stride)
        plane_t = row[1, margin : margin + size].reshape(width, stride)
        to_c1, to_c2 = np.zeros((convs, height, width), real), np.zeros((convs, height, width), real)
        to_k1, to_k2 = np.zeros((convs, height, width), real), np.zeros((convs, height, width), real)
        root_q, half_q = real(math.sqrt(q)), real(half * q)
        for pair in range(left.size):
            i, j = left[pair], right[pair]
            for layer in range(convs):
                for y in range(height):
                    for x in range(width):
                        a, b = std1[i, layer, y, x], std2[j, layer, y, x]
                        to_k1[layer, y, x], to_k2[layer, y, x] = a * root_half, b * root_half
                        to_c1[layer, y, x] = root_q / a if a > zero else zero
                        to_c2[layer, y, x] = root_q / b if b > zero else zero
            for offset in range(-reach, reach + 1):
                begin, end = max(0, -offset), min(height, height - offset)
                ring[:] = zero
                for now in range(begin, end + convs):
                    # The rows that come in, `now` of x with `now + offset` of x'
                    if now < end:
                        y2 = now + offset
                        if first:
                            for x in range(width):
                                for x2 in range(width):
                                    total = zero
                                    for channel in range(channels):
                                        total += pixels1[i, now, channel, x] * pixels2[j, y2, channel, x2]
                                    plane_k[x, x2] = total
                            if convs == 0 and ntk:
                                plane_t[:, :width] = plane_k[:, :width]
                        else:
                            slot = y2 - max(0, min(now - reach_in, height - slots_in))
                            for kind in range(2 if ntk else 1):
                                plane, waiting = plane_t if kind else plane_k, maps_in[pair, kind, now, slot]
                                for x in range(width):
                                    for x2 in range(width):
                                        total = waiting[x, x2 * pooled]
                                        for part in range(1, pooled):
                                            total += waiting[x, x2 * pooled + part]
                                        plane[x, x2] = total * scale
                    # Layer after layer, each one row behind the one before it
                    for layer in range(convs + 1):
                        y = now - layer
                        if y < begin:
                            break
                        if layer > 0 and y < end:
                            y2 = y + offset
                            sums = ring[layer - 1].reshape(3, 2, width, stride)
                            k0, k1, k2 = sums[0, 0], sums[1, 0], sums[2, 0]
                            like = 0 if first and layer == 1 else 1  # before the first ReLU Θ is 0, and T is K
                            t0, t1, t2 = sums[0, like], sums[1, like], sums[2, like]
                            c1, s1 = to_c1[layer - 1, y], to_k1[layer - 1, y]
                            c2, s2 = to_c2[layer - 1, y2], to_k2[layer - 1, y2]
                            for x in range(width):
                                c1x, s1x = c1[x], s1[x]
                                for x2 in range(width):
                                    k = k0[x, x2] + k1[x, x2] + k2[x, x2]
                                    if bias:
                                        k += beta
                                    c = k * (c1x * c2[x2])
                                    t = one - abs(c)
                                    t = t if t > snap else zero
                                    root, plus = math.sqrt(t), max(c, zero)
                                    if exact:
                                        angle = two * math.asin(min(one, root * root_half)) * inverse_pi
                                        kappa1 = math.sqrt(t * (two - t)) * inverse_pi - (one - t) * angle + plus
                                        kappa0 = angle
                                    else:
                                        kappa1 = root * t * (q0 + t * (q1 + t * (q2 + t * (q3 + t * q4)))) + plus
                                        kappa0 = p2 + t * (p3 + t * (p4 + t * (p5 + t * p6)))
                                        kappa0 = root * (p0 + t * (p1 + t * kappa0))
                                    kappa0 = one - kappa0 if c > zero else kappa0
                                    new = s1x * s2[x2] * kappa1
                                    plane_k[x, x2] = new
                                    if ntk:
                                        tangent = t0[x, x2] + t1[x, x2] + t2[x, x2]
                                        if bias:
                                            tangent += beta
                                        plane_t[x, x2] = new + half_q * tangent * kappa0
                            if twin[pair] and offset == 0:  # the correlation of a pixel with itself is 1, not nearly so
                                for x in range(width):
                                    new = s1[x] * s2[x]
                                    plane_k[x, x] = new
                                    if ntk:
                                        tangent = t0[x, x] + t1[x, x] + t2[x, x] + beta
                                        plane_t[x, x] = new + half_q * tangent
                        if layer < convs:  # sums across, which wait for those of the next row
                            sum_k, sum_t = ring[layer, y % 3, 0], ring[layer, y % 3, 1]
                            if y >= end:
                                sum_k[:] = zero
                                sum_t[:] = zero
                            else:
                                near, far = flat_k[margin : margin + size], flat_k[2 * margin :]
                                for f in range(size):
                                    sum_k[f] = flat_k[f] + near[f] + far[f]
                                if ntk and not (first and layer == 0):
                                    near_t, far_t = flat_t[margin : margin + size], flat_t[2 * margin :]
                                    for f in range(size):
                                        sum_t[f] = flat_t[f] + near_t[f] + far_t[f]
                        elif y < end:  # what leaves: rows pooled; of x' only y', its x' when the maps are read
                            to = y // down
                            slot = (y + offset) // down - max(0, min(to - reach_out, high - slots_out))
                            if 0 <= slot < slots_out:
                                for kind in range(2 if ntk else 1):
                                    plane = plane_t if kind else plane_k
                                    onto = maps_out[pair, kind, to, slot]
                                    for x in range(wide):
                                        for x2 in range(width):
                                            total = plane[x * across, x2]
                                            for part in range(1, across):
                                                total += plane[x * across + part, x2]
                                            onto[x, x2] += total

    return compiled(run)


def compiled(function):
    """`function` compiled, without Python's lock; kept in NUMBA_CACHE_DIR, here or in the user's cache."""
    options = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # no folder can be written: compile in every process
        return numba.njit(function, **options)


def row_slots(rows: int, reach: int) -> int:
    """How many rows y' a row y keeps in the maps: those within reach, as a window that stays inside the image."""
    return min(rows, 2 * reach + 1)


class Engine:
    """All stages of one network on this machine's cores, called for pairs of prepared images."""

    def __init__(
        self, stages: Sequence[Stage], channels: int, *, ntk: bool, q: float, beta: float, dtype: str, make=stage_kernel
    ):
        self.stages, self.ntk, self.dtype = tuple(stages), ntk, np.dtype(dtype)
        self.q, self.beta = self.dtype.type(q), self.dtype.type(beta)
        self.shapes, self.programs, slots, pooled = [], [], 0, 1
        for stage, following in zip(stages, [*stages[1:], None], strict=True):
            high, wide = stage.height // stage.pool[0], stage.width // stage.pool[1]
            kept = row_slots(high, following.reach[0] if following else 0)
            first = channels if stage is stages[0] else 0
            program = make(
                stage, channels=first, pooled=pooled, slots=(slots, kept), ntk=ntk, bias=beta > 0, dtype=dtype
            )
            self.programs.append(program)
            self.shapes.append((1 + ntk, high, kept, wide, stage.width))
            slots, pooled = kept, stage.pool[1]

    @property
    def map_bytes(self) -> int:
        """Of the pooled maps of one pair."""
        return sum(math.prod(shape) for shape in self.shapes) * self.dtype.itemsize

    def workspace(self, pairs: int) -> list[np.ndarray]:
        """The maps of `pairs` pairs, one array a stage, after one that stands for the images."""
        return [np.zeros((1,) * 6, self.dtype), *(np.zeros((pairs, *shape), self.dtype) for shape in self.shapes)]

    def heads(self, one, two, left, right, twin, maps: list[np.ndarray]) -> np.ndarray:
        """K and T = K + Θ at the readout's input for the pairs (left[k], right[k]), float64 (pairs, kinds)."""
        count, scale = len(left), self.dtype.type(1)
        for index, (stage, program) in enumerate(zip(self.stages, self.programs, strict=True)):
            maps[index + 1][:count] = 0
            program(
                one.pixels, two.pixels, one.stds[index], two.stds[index], left, right, twin,
                self.q, self.beta, maps[index], scale, maps[index + 1],
            )  # fmt: skip
            scale = self.dtype.type(1 / math.prod(stage.pool) ** 2)
        return head_means(maps[-1][:count], self.stages[-1])

    def block(self, one, two, same: bool) -> np.ndarray:
        """K and T of all pairs of two sets, float64 (n1, n2, kinds); if `same`, one triangle and its mirror."""
        left, right = pairs_of(len(one), len(two), same)
        twin = (left == right) & same
        out = np.empty((len(one), len(two), 1 + self.ntk))
        chunk = max(1, min(16, 2**22 // self.map_bytes))
        local = threading.local()

        def work(start: int) -> None:
            if not hasattr(local, "maps"):
                local.maps = self.workspace(chunk)
            part = slice(start, start + chunk)
            heads = self.heads(one, two, left[part], right[part], twin[part], local.maps)
            out[left[part], right[part]] = heads
            if same:
                out[right[part], left[part]] = heads

        for_each(range(0, len(left), chunk), work)
        return out


def pairs_of(rows: int, columns: int, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of a block, row by row, as two index arrays: all, or with `same` the upper triangle."""
    return np.triu_indices(rows) if same else tuple(np.indices((rows, columns)).reshape(2, -1))


def head_means(maps: np.ndarray, stage: Stage) -> np.ndarray:
    """The mean over i = i' of the last maps (pairs, kinds, y, 1, x, x' not yet pooled), float64 (pairs, kinds)."""
    pairs, kinds, high, _, wide, _ = maps.shape
    blocks = maps.reshape(pairs, kinds, high, wide, wide, stage.pool[1])
    diagonal = np.einsum("pkyxxw->pk", blocks, dtype=np.float64)
    return diagonal / (high * wide * math.prod(stage.pool) ** 2)
