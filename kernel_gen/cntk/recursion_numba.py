"""The convolutional neural tangent kernel (CNTK) of ReLU networks for pairs of images, compiled by Numba for a CPU.

The recursion is that of Arora et al. (On Exact Computation with an Infinitely Wide Neural Net, 2019). Between pixels i
of an image and i' of another image, K is the covariance (NNGP) and Θ the tangent kernel (NTK). With σ² the variance of
the weights, q = σ²/9, b the standard deviation of the biases, and s, s' the standard deviations of the two pixels
(diagonal maps), the layers compute

    convolution   K ← q·Σ₉ K + b²,      Θ ← K + q·Σ₉ Θ           Σ₉ sums over the nine common shifts of i and i'
    ReLU          c = K/(s·s'),  K ← ½·s·s'·κ₁(c),  Θ ← ½·κ₀(c)·Θ
    pool          K, Θ ← means over the p·p pixels of i times those of i'
    readout       K ← σ²·K + b²,        Θ ← K + σ²·Θ

where κ₀(c) = 1 - arccos(c)/π and κ₁(c) = (c(π - arccos c) + √(1 - c²))/π.

The code stores T = K + Θ in place of Θ. A convolution then computes the same sum for K and for T: Θ = q·Σ₉ T + b².
Initially K is the inner product of the two pixels over channels, divided by the number of channels at scale "stax", and
Θ is 0. Constants are included in the diagonal maps: c = (Σ₉ K + b²/q)·(√q/s)·(√q/s'), and K after a ReLU is
(s/√2)·(s'/√2)·κ₁.

A stage is the group of layers on images of one size. Rows of pairs of pixels pass through all layers of a stage while
they are in the cache. Only pools couple different offsets i' - i, so a stage processes one vertical offset after
another. For one offset, a row y of the first image is paired with the row y' = y + offset of the second. The numbers
for all columns x and x' of these rows form a plane of W·(W + 1) numbers, for images of width W; the last column of the
plane is zero. In the flattened plane, a common horizontal shift of both pixels is a slice that starts W + 2 numbers
later. Zeros before and after the plane implement SAME padding. Σ₉ consists of two sums of three numbers: a horizontal
sum over three slices, and a vertical sum over the horizontal sums of this plane and the last two planes. A layer is
then one loop over the flattened plane (`convolve_rectify`), in which 1/s and s are repeated along the plane. All
addresses in the loop are one pointer plus constants, so LLVM compiles it into vector code with every constant in a
register. At W = 32 the planes of a stage of two layers take 77 KiB, and the repeated maps 1 MiB.

Two images of H·W pixels have (H·W)² pairs of pixels. A layer takes about 45 operations per pair for the NTK (Σ₉ of K
and T 8, c 3, square root of `1 - |c|` 3, κ₁ 13, κ₀ 15, T 4), and 25 for the NNGP. The inner products over channels take
2·channels + 4 operations per pair, and a pool 1 to 2. Myrtle-5 on 32x32x3 processes 1.05M pairs of pixels at each of
the first two layers, 65,536 at the third, 4,096 at the fourth: about 100 MFLOP in total.
"""

import functools
import math

import numba
import numpy as np

from kernel_gen.cntk.architecture import Stage

# Coefficients of κ₀(c) = 1 - arccos(c)/π and κ₁(c) = (c(π - arccos c) + √(1 - c²))/π in t = 1 - |c|: for c < 0 they are
# √t·P(t) and t·√t·Q(t), for c > 0 1 - √t·P(t) and c + t·√t·Q(t). Minimax fits on [0, 1] by linear programming, with
# errors of 2.8e-8 and 7.2e-8.
P = (0.450158564, 0.03749901772, 0.008582526911, 0.001892585573, 0.002203026027, -0.001167019923, 0.0008312717292)
Q = (0.3001141124, 0.01491149957, 0.002757577784, 4.163971635e-06, 0.0005224607773)
# Largest 1 - |c| that is set to 0, because rounding makes it indistinguishable from 0, as for parallel patches, and its
# square root would enter κ₀
SNAP = {"float32": 5e-7, "float64": 1e-15}
LANES = 16  # numbers in the widest vector; row lengths and starts are multiples of it


def compiled(function, **options):
    """Compile a function with Numba such that it releases Python's global interpreter lock while it runs; return it.

    The compiled program is cached on disk: in NUMBA_CACHE_DIR, beside the source file or in the user's cache folder. If
    none of these folders is writable, every process compiles the function again.

    Args:
        function: The function to compile.
        options: Further options of `numba.njit`.
    """
    options |= {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # no cache folder is writable: compile in every process
        return numba.njit(function, **options)


def fits(dtype: str) -> np.ndarray:
    """Return the constants that `convolve_rectify` reads, an array (14,) of type `dtype`.

    They are the coefficients P and Q of polynomials for the ReLU's dual functions κ₀ and κ₁, then 1, and then SNAP. For
    a correlation c, 1 - `|c|` counts as 0 if it is below SNAP.
    """
    return np.array([*P, *Q, 1, SNAP[dtype]], dtype)


def lanes(numbers: int) -> int:
    """Return `numbers` rounded up to a multiple of `LANES`, the number of float32 entries of the widest vectors."""
    return -(-numbers // LANES) * LANES


def convolve_rectify(work, at, length, near, maps, slope, beta, fits, tangent, like, exact):
    """Apply a convolution and its ReLU to all pairs of pixels in two rows of two images.

    K is the covariance between pixels of two images, Θ the tangent kernel and T = K + Θ. A plane contains K or T for
    all pairs of columns of two rows of images of width W, as one flat array. A convolution sums over three pairs of
    rows: the function is called for one pair of rows after the other, and `work` keeps horizontal sums between calls.
    q is the variance of the weights divided by 9, b² the variance of the biases, and s and s' are the standard
    deviations of the two pixels of a pair. The function is inlined, so that addresses and flags are constants.

    Args:
        work: Flat array with the planes of this layer.
        at: Offsets in `work` of eight planes. The first two are the inputs K and T, with zeros around them. The third
            has the horizontal sums of K of the previous call, and the fourth those of the two previous calls, added.
            The fifth and sixth have the same sums of T. The last two are the outputs K and T.
        length: Number of entries of a plane.
        near: W + 2, the distance in the plane between a pair of pixels and the pair one column further in both images.
        maps: √q/s, √q/s', s/√2 and s'/√2, each repeated along the plane.
        slope: q/2 for each number of the plane, and 0 in the zero column.
        beta: b²/q.
        fits: Coefficients of the polynomials, as the function `fits` returns them.
        tangent: Whether T is computed.
        like: Whether T equals K at the input, as before the first ReLU.
        exact: Whether κ₀ and κ₁ are computed by arc sine and square root, as in float64, instead of by polynomials.
    """
    k_in, t_in, k_last, k_two, t_last, t_two, k_out, t_out = at
    c1, c2, s1, s2 = maps
    # The constants come from memory, so that each is loaded once and then stays in a register
    p0, p1, p2, p3, p4, p5, p6 = fits[0], fits[1], fits[2], fits[3], fits[4], fits[5], fits[6]
    q0, q1, q2, q3, q4, one, snap = fits[7], fits[8], fits[9], fits[10], fits[11], fits[12], fits[13]
    real = work.dtype.type
    two, zero = real(2), real(0)
    for f in range(length):
        across = work[k_in + f] + work[k_in + near + f] + work[k_in + 2 * near + f]
        k = across + work[k_two + f]
        work[k_two + f] = across + work[k_last + f]
        work[k_last + f] = across
        k += beta
        c = k * (c1[f] * c2[f])
        t = one - abs(c)
        t = t if t > snap else zero
        root, plus = math.sqrt(t), max(c, zero)
        if exact:
            kappa0 = two * math.asin(min(one, root * real(math.sqrt(0.5)))) * real(1 / math.pi)
            kappa1 = math.sqrt(t * (two - t)) * real(1 / math.pi) - (one - t) * kappa0 + plus
        else:
            kappa1 = root * t * (q0 + t * (q1 + t * (q2 + t * (q3 + t * q4)))) + plus
            kappa0 = root * (p0 + t * (p1 + t * (p2 + t * (p3 + t * (p4 + t * (p5 + t * p6))))))
        new = s1[f] * s2[f] * kappa1
        work[k_out + f] = new
        if tangent:
            theta = k
            if not like:
                across = work[t_in + f] + work[t_in + near + f] + work[t_in + 2 * near + f]
                theta = across + work[t_two + f]
                work[t_two + f] = across + work[t_last + f]
                work[t_last + f] = across
                theta += beta
            kappa0 = one - kappa0 if c > zero else kappa0
            work[t_out + f] = new + slope[f] * theta * kappa0


convolve_rectify = compiled(convolve_rectify, forceinline=True)


@functools.cache
def stage_kernel(stage: Stage, *, channels: int, pooled: int, slots: tuple[int, int], ntk: bool, dtype: str):
    """Return the compiled program that computes one stage of a network for pairs of images.

    A stage consists of convolutions with their ReLUs on images of one size, and the average pool after them. Its sizes
    are constants of the program, so that loops compile to straight vector code.

    The program is called as run(pixels1, pixels2, std1, std2, left, right, twin, q, beta, fits, maps_in, scale,
    maps_out). `pixels1` and `pixels2` are two sets of images, and `std1` and `std2` the standard deviations of their
    pixels in this stage (`diagonal.Prepared`). For each pair, `left` and `right` are the indices of its images in the
    two sets, and `twin` is whether both are the same image. With the variances σ² of the weights and b² of the biases,
    q is σ²/9 and beta is b²/q. `fits` are the constants of the function of this name. All stages except the first read
    the previous stage's `maps_out` as `maps_in` and multiply it by `scale`.

    The program adds its results to `maps_out`, (pairs, kinds, rows y, rows y', columns x, columns x'). These are the
    covariance K and, if `ntk` is true, T = K + Θ with the tangent kernel Θ. Both are summed over the pool in y, y' and
    x; the next stage sums over x'.

    Args:
        stage: The stage.
        channels: Number of image channels for the first stage; 0 for a later one, which reads the previous stage's
            result.
        pooled: Width of the previous stage's pool, over which this stage sums when it reads that result; 1 for the
            first stage.
        slots: Numbers (in, out) of rows y' of the second image that are stored for a row y of the first, before and
            after the stage, see `engine.row_slots`.
        ntk: Whether T is computed in addition to K.
        dtype: Data type of the computation, "float32" or "float64".
    """
    height, width, convs, (down, across) = stage.height, stage.width, stage.convs, stage.pool
    reach = stage.reach[0]
    stride, near = width + 1, width + 2
    length = lanes(width * stride)
    first, real = channels > 0, np.dtype(dtype).type
    exact = dtype == "float64"
    slots_in, slots_out = slots
    high = height // down
    reach_in, reach_out = (slots_in - 1) // 2, (slots_out - 1) // 2
    zero = real(0)
    root_half = real(math.sqrt(0.5))
    # The rows of a layer: two inputs between zeros, which begin at a vector boundary, and two sums of each
    k_in = lanes(near) - near
    t_in = k_in + lanes(length + 2 * near)
    k_last = t_in + lanes(length + 2 * near) + near
    k_two, t_last, t_two, level = (k_last + part * length for part in (1, 2, 3, 4))
    k_out, t_out = level + k_in + near, level + t_in + near
    at = (k_in, t_in, k_last, k_two, t_last, t_two, k_out, t_out)

    def run(pixels1, pixels2, std1, std2, left, right, twin, q, beta, fits, maps_in, scale, maps_out):
        """Add the pooled maps of the pairs (left[k], right[k]) of images to maps_out[k].

        Maps have the shape (pairs, K and T, rows y, slots of y', x, x' not yet pooled).

        Args:
            pixels1: First images (n, height, channels, width).
            pixels2: Second images (n, height, channels, width).
            std1: Diagonal maps of the first images in this stage, (n, convs, height, width).
            std2: Diagonal maps of the second images.
            left: Index in `pixels1` of each pair's first image.
            right: Index in `pixels2` of each pair's second image.
            twin: For each pair, whether both images are the same.
            q: Weight variance of the convolutions, divided by 9.
            beta: Variance b² of the convolutions' biases, divided by `q`.
            fits: Coefficients of the polynomials, as the function `fits` returns them.
            maps_in: Maps of the previous stage; not read in the first one.
            scale: Factor that turns the sums in `maps_in` into means.
            maps_out: Maps of this stage, sums over its pool.
        """
        room = np.zeros((convs + 1) * level + LANES, real)
        room = room[(-room.ctypes.data // room.itemsize) % LANES :]  # from the first vector boundary onwards
        c1, c2 = np.zeros((convs, height, length), real), np.zeros((convs, height, length), real)
        s1, s2 = np.zeros((convs, height, length), real), np.zeros((convs, height, length), real)
        slope, own = np.zeros(length, real), np.zeros(width, real)
        root_q, half_q = real(math.sqrt(q)), real(0.5) * q
        for x in range(width):
            slope[x * stride : x * stride + width] = half_q
        for pair in range(left.size):
            i, j = left[pair], right[pair]
            for layer in range(convs):
                for y in range(height):
                    for x in range(width):
                        a = std1[i, layer, y, x]
                        for x2 in range(width):
                            b = std2[j, layer, y, x2]
                            f = x * stride + x2
                            s1[layer, y, f], s2[layer, y, f] = a * root_half, b * root_half
                            c1[layer, y, f] = root_q / a if a > zero else zero
                            c2[layer, y, f] = root_q / b if b > zero else zero
            for offset in range(-reach, reach + 1):
                begin, end = max(0, -offset), min(height, height - offset)
                for now in range(begin, end + convs):
                    plane_k = room[k_in + near : k_in + near + width * stride].reshape(width, stride)
                    plane_t = room[t_in + near : t_in + near + width * stride].reshape(width, stride)
                    # The input rows: row `now` of the first image with row `now + offset` of the second
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
                    # One layer after another, each one row behind the previous one; a row of zeros follows the last
                    for layer in range(convs + 1):
                        y = now - layer
                        if y < begin:
                            break
                        rows = room[layer * level :]
                        if layer < convs:
                            if y == end:
                                rows[k_in + near : k_in + near + length] = zero
                                rows[t_in + near : t_in + near + length] = zero
                            if y == begin:
                                for f in range(length):
                                    sums = rows[k_in + f] + rows[k_in + near + f] + rows[k_in + 2 * near + f]
                                    rows[k_last + f], rows[k_two + f] = sums, sums
                                    if ntk:
                                        sums = rows[t_in + f] + rows[t_in + near + f] + rows[t_in + 2 * near + f]
                                        rows[t_last + f], rows[t_two + f] = sums, sums
                            elif y <= end:
                                above, below = y - 1, y - 1 + offset
                                maps = c1[layer, above], c2[layer, below], s1[layer, above], s2[layer, below]
                                like, same = first and layer == 0, twin[pair] and offset == 0
                                if same and ntk:  # before the loop updates the sums
                                    t, two = (k_in, k_two) if like else (t_in, t_two)
                                    for x in range(width):
                                        f = x * (stride + 1)
                                        own[x] = beta + rows[two + f]
                                        own[x] += rows[t + f] + rows[t + near + f] + rows[t + 2 * near + f]
                                if like:
                                    convolve_rectify(rows, at, length, near, maps, slope, beta, fits, ntk, True, exact)
                                else:
                                    convolve_rectify(rows, at, length, near, maps, slope, beta, fits, ntk, False, exact)
                                if same:  # the correlation of a pixel with itself is exactly 1
                                    for x in range(width):
                                        f = x * (stride + 1)
                                        new = maps[2][f] * maps[3][f]
                                        rows[k_out + f] = new
                                        if ntk:
                                            rows[t_out + f] = new + half_q * own[x]
                        elif y < end:  # output: pooled over y, x and y'; the next stage pools x' when it reads the maps
                            to = y // down
                            slot = (y + offset) // down - max(0, min(to - reach_out, high - slots_out))
                            if 0 <= slot < slots_out:
                                for kind in range(2 if ntk else 1):
                                    onto = maps_out[pair, kind, to, slot]
                                    begins = (t_in if kind else k_in) + near
                                    for x in range(width):
                                        into, taken = onto[x // across], rows[begins + x * stride :]
                                        for x2 in range(into.size):  # `width` would be unrolled, not vectorized
                                            into[x2] += taken[x2]

    return compiled(run)
