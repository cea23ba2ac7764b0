"""Kernel ridge regression with a CNTK of which a part of the entries is computed, against all of them.

    linearized gram --kernel=CNTK --dataset=PATCHES --num_train=400 --num_test=100 --subset=random
    python benchmarks/fewer_pairs.py --gram=FOLDER --surrogates=C16,C8,PATCH,NTK,LAPLACE

A pair of images costs milliseconds with a CNTK and microseconds with most other kernels. For several fractions of the
pairs (train-train and test-train), the test predictions of these approximations are compared with the exact ones:

- `fewer rows`: the CNTK of as many train rows as the pairs allow.
- `centres`: the Nyström approximation from m columns, as --centres=m.
- `NAME alone`: the cheap kernel NAME, scaled to the diagonal of the CNTK; no other entry of the CNTK is used.
- `NAME fitted`: a sum of powers of its correlations, with coefficients >= 0 that are fitted to m columns. The sum is
  positive semi-definite. `all fitted` also has products of the correlations of two kernels.
- `+ centres`: K_C + S - S_C, with the fitted kernel S and the Nyström approximations K_C and S_C from the m columns. It
  is positive semi-definite, and equal to the CNTK in the m columns.

C16 and C8 are CNTKs of images whose sides are divided by 2 and 4 by averaging, of Myrtle-5 with fewer pools. PATCH, NTK
(3 hidden layers) and LAPLACE are kernels of the suite. `R²` is the share of the variance of correlations that the fit
explains. The error is ‖F - E‖ / ‖E‖, with the test predictions F and the exact ones E at the ridge that is best for E;
the smallest error of F over all ridges stands beside it. The accuracy is that of the best ridge of each approximation.

The last lines are limits: the errors that independent noise of the correlations causes, and those of the best
approximations of rank m, from the eigenvectors of the whole matrix.
"""

import time

import numpy as np
import scipy.optimize
from absl import app, flags

from kernel_gen import KERNELS
from kernel_gen.cntk.architecture import Architecture, AvgPool, Conv, Flatten, Relu
from kernel_gen.cntk.fused import Cntk
from kernel_gen.gram_in_memory import in_tiles
from kernel_gen.kernel import Kernel
from linearized.data.loading import load_preprocessed
from linearized.kernel_ridge.gram_source import settings_of
from linearized.settings.gram_settings import KernelSettings
from linearized.storage.gram import open_gram

FLAGS = flags.FLAGS
flags.DEFINE_string("gram", "", "folder of a CNTK of images of 32x32")
flags.DEFINE_integer("rows", 0, "train rows to use; 0: all")
flags.DEFINE_integer("test", 0, "train rows after these that are used as test rows; 0: the stored test rows")
flags.DEFINE_list("surrogates", ["C8", "NTK", "LAPLACE"], "cheap kernels, of C16, C8, PATCH, NTK and LAPLACE")
flags.DEFINE_list("fractions", ["0.025", "0.05", "0.1"], "fractions of the pairs")
flags.DEFINE_integer("draws", 3, "random choices of columns and rows, over which errors and accuracies are averaged")

SIDE, CHANNELS = 32, 3
SHRUNK = {"C16": (2, (2, 1, 1)), "C8": (4, (2, 1))}  # side of averaged squares; convolutions before each pool but one
POWERS = (1, 2, 3, 5, 8)
TINY = 1e-9  # added to the diagonal of correlations between centres
Pair = tuple[np.ndarray, np.ndarray]  # a kernel between the train rows (n, n), and between test and train rows (t, n)


def surrogate(name: str, x: np.ndarray) -> Kernel:
    """Return a cheap kernel with the parameters that the train rows determine."""
    if name in SHRUNK:
        side, groups = SHRUNK[name]
        steps = [step for convs in groups for step in (*[Conv(), Relu()] * convs, AvgPool(2))]
        shape = (SIDE // side, SIDE // side, CHANNELS)
        return Cntk(Architecture(name, (*steps, AvgPool(2), Flatten())), shape, KernelSettings(kernel="CNTK"))
    settings = KernelSettings(kernel=name, **({"num_layers": 3} if name == "NTK" else {}))
    return KERNELS.load(name).build(settings, (SIDE, SIDE, CHANNELS)).on(x)


def averaged(name: str, x: np.ndarray) -> np.ndarray:
    """Return the rows that a cheap kernel reads: images with averaged squares of pixels for C16 and C8."""
    side = SHRUNK.get(name, (1,))[0]
    return x.reshape(len(x), SIDE // side, side, SIDE // side, side, CHANNELS).mean((2, 4)).reshape(len(x), -1)


def own(kernel: Kernel, x: np.ndarray) -> np.ndarray:
    """Return the kernel of each row with itself, at the cost of one pair for each row."""
    rows = [kernel.prepare(x[i : i + 1]) for i in range(len(x))]
    return np.array([kernel.block(row, row, same=True)[0, 0] for row in rows], np.float64)


def normalised(train: np.ndarray, test: np.ndarray, diagonal: np.ndarray) -> Pair:
    """Return the correlations of a kernel, which are its entries divided by the roots of both diagonal entries."""
    roots = np.sqrt(np.diag(train).astype(np.float64))
    return train / np.outer(roots, roots), test / np.outer(np.sqrt(diagonal), roots)


def powers(pairs: list[Pair]) -> list[Pair]:
    """Return the constant, the powers of the correlations, and the products of two of them."""
    found = [tuple(np.ones_like(one) for one in pairs[0])]
    for i, pair in enumerate(pairs):
        found += [tuple(one**power for one in pair) for power in POWERS]
        found += [tuple(a * b for a, b in zip(pair, other, strict=True)) for other in pairs[i + 1 :]]
    return found


def fitted(pairs: list[Pair], exact: Pair, chosen: np.ndarray) -> tuple[Pair, float]:
    """Return the sum of `powers` with coefficients >= 0 that is closest to the chosen columns, and its R².

    The R² is computed on all entries outside the chosen columns and rows, which are known here.
    """
    terms, rest = powers(pairs), np.setdiff1d(np.arange(len(exact[0])), chosen)
    known = np.stack([term[0][np.ix_(rest, chosen)].ravel() for term in terms], axis=1)
    weights = scipy.optimize.nnls(known, exact[0][np.ix_(rest, chosen)].ravel())[0]
    weights /= max(1.0, weights.sum())
    train, test = (sum(w * term[part] for w, term in zip(weights, terms, strict=True)) for part in (0, 1))
    np.fill_diagonal(train, 1.0)
    left = np.triu_indices(len(rest), 1)
    there, found = (one[np.ix_(rest, rest)][left] for one in (exact[0], train))
    return (train, test), 1 - np.square(there - found).mean() / there.var()


def nystrom(pair: Pair, chosen: np.ndarray) -> Pair:
    """Return the Nyström approximation of a kernel from the chosen columns."""
    square = pair[0][np.ix_(chosen, chosen)] + TINY * np.eye(len(chosen))
    right = np.linalg.solve(square, pair[0][chosen])
    return tuple(one[:, chosen] @ right for one in pair)


def completed(pair: Pair, exact: Pair, chosen: np.ndarray) -> Pair:
    """Return the Nyström approximation of the exact kernel, plus what is left of a surrogate beside its own."""
    return tuple(k + s - known for k, s, known in zip(nystrom(exact, chosen), pair, nystrom(pair, chosen), strict=True))


def predictions(train: np.ndarray, test: np.ndarray, targets: np.ndarray, ridges: np.ndarray) -> np.ndarray:
    """Return the test predictions of kernel ridge regression at every ridge, (ridges, t, k)."""
    values, vectors = np.linalg.eigh(train)
    left, right = test @ vectors, vectors.T @ targets
    return np.stack([left @ (right / (np.maximum(values, 0) + ridge)[:, None]) for ridge in ridges])


def main(_):
    settings, gram = settings_of(FLAGS.gram), open_gram(FLAGS.gram)
    data, k = load_preprocessed(settings, settings.noise_ind), gram.to_memory("float64")
    n = FLAGS.rows or len(k) - FLAGS.test
    new, y_new, k_new = data.test.x, data.test.y, gram.test
    if FLAGS.test:
        part = slice(n, n + FLAGS.test)
        new, y_new, k_new = data.train.x[part], data.train.y[part], k[part]
    x, y, new, k, k_new = np.asarray(data.train.x)[:n], data.train.y[:n], np.asarray(new), k[:n, :n], k_new[:][:, :n]
    t, targets, random = len(new), np.eye(y.max() + 1)[y] - 0.1, np.random.RandomState(0)
    kernel = KERNELS.load("CNTK").build(settings, data.image_shape)
    diagonal, total = own(kernel, new), n * (n + 1) / 2 + n * t
    exact, sizes = normalised(k, k_new, diagonal), (np.sqrt(np.diag(k)), np.sqrt(diagonal))
    ridges = np.logspace(-5, 2, 22) * np.trace(k) / n
    reference = predictions(k, k_new, targets, ridges)
    accuracies = (reference.argmax(2) == y_new).mean(1)
    best = accuracies.argmax()
    goal, values = reference[best], np.linalg.eigvalsh(k)
    print(f"{settings.data_name()}: {n} train and {t} test rows, accuracy {accuracies[best]:.3f} at ridge "
          f"{ridges[best]:.1e}, effective dimension {(values / (values + ridges[best])).sum():.0f}")  # fmt: skip

    def scored(pair: Pair, rows: slice | np.ndarray = slice(None)) -> tuple[float, float, float]:
        scaled = pair[0] * np.outer(sizes[0][rows], sizes[0][rows]), pair[1] * np.outer(sizes[1], sizes[0][rows])
        found = predictions(*scaled, targets[rows], ridges)
        errors = np.linalg.norm(found - goal, axis=(1, 2)) / np.linalg.norm(goal)
        return errors[best], errors.min(), (found.argmax(2) == y_new).mean(1).max()

    def tell(name: str, fraction: float, scores: list[tuple], note: str = "") -> None:
        error, least, accuracy = np.mean(scores, axis=0)
        print(f"{name:20} {100 * fraction:5.1f} % of pairs, error {error:.3f} (at the best ridge {least:.3f}), "
              f"accuracy {accuracy:.3f}{note}", flush=True)  # fmt: skip

    cheap = {}
    for name in FLAGS.surrogates:
        kernel, rows, others = surrogate(name, x), averaged(name, x), averaged(name, new)
        kernel.block(kernel.prepare(rows[:2]), kernel.prepare(rows[:2]))  # compiled before it is timed
        began = time.process_time()
        found = in_tiles(kernel, rows), in_tiles(kernel, others, rows)
        note = f", {1000 * (time.process_time() - began) / total:.4f} ms per pair"
        cheap[name] = normalised(*found, own(kernel, others))
        tell(f"{name} alone", (n + t) / total, [scored(cheap[name])], note)
    for fraction in map(float, FLAGS.fractions):
        pairs = fraction * total
        m, few = int((pairs - n - t) / (n + t)), int(np.sqrt(t * t + 2 * pairs) - t)
        draws = [random.permutation(n) for _ in range(FLAGS.draws)]
        part = [(exact[0][np.ix_(rows, rows)], exact[1][:, rows]) for rows in (draw[:few] for draw in draws)]
        tell(f"fewer rows, {few}", fraction, [scored(p, draw[:few]) for p, draw in zip(part, draws, strict=True)])
        columns = [draw[:m] for draw in draws]
        tell(f"centres, {m}", fraction, [scored(nystrom(exact, chosen)) for chosen in columns])
        for name, kernels in [*((name, [pair]) for name, pair in cheap.items()), ("all", list(cheap.values()))]:
            fits = [fitted(kernels, exact, chosen) for chosen in columns]
            note = f", R² {np.mean([share for _, share in fits]):.4f}"
            tell(f"{name} fitted", fraction, [scored(pair) for pair, _ in fits], note)
            both = [completed(pair, exact, chosen) for (pair, _), chosen in zip(fits, columns, strict=True)]
            tell("  + centres", fraction, [scored(pair) for pair in both])
    for noise in (1e-3, 1e-4, 1e-5, 1e-6):
        upper = np.triu(random.standard_normal((n, n)), 1)
        disturbed = exact[0] + noise * (upper + upper.T), exact[1] + noise * random.standard_normal((t, n))
        tell(f"noise of {noise:.0e}", 1.0, [scored(disturbed)])
    values, vectors = np.linalg.eigh(exact[0])
    for rank in (n // 40, n // 20, n // 4, n // 2):
        basis = vectors[:, -rank:]
        tell(f"best rank {rank}", 1.0, [scored(((basis * values[-rank:]) @ basis.T, exact[1] @ basis @ basis.T))])


if __name__ == "__main__":
    app.run(main)
