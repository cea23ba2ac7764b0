"""Recipes for SYNTH, a polynomial of a few of many coordinates, against the anisotropy κ and the number of train rows.

The target depends on d^η of d coordinates. It is a sum of polynomials of degrees 2, 3 and 4 of equal mean square. The
best polynomial of degree 1, 2 or 3 therefore leaves 1, 2/3 or 1/3 of its variance unexplained. A kernel learns
degree l from n rows only if n is well above the l-th power of the effective dimension max(d^η, d^(1-κ)) (arXiv
2006.13409, theorem 2); networks need fewer rows.
"""

from linearized.report.recipes.figure_recipe import Curve, FigureRecipe, Scale

DIMS = {"laptop": 256, "workstation": 512, "paper": 1024}
ETA = {"laptop": 0.5, "workstation": 0.45, "paper": 0.4}  # each gives 16 relevant coordinates
UNITS = {"laptop": 256, "workstation": 1024, "paper": 1024}
WHOLE = {"laptop": 24_000, "workstation": 2**17, "paper": 2**20}
EPOCHS = {"laptop": 50, "workstation": 250, "paper": 750}
GRIDS = {"laptop": "16,19", "workstation": "3,7,11,15,19", "paper": "all"}

TRAINED = (
    Curve(
        "NN", "train", {"model": "NN", "learning_rate": 0.01},
        {scale: {"num_units": n, "max_cg_iters": EPOCHS[scale], "reg_index": GRIDS[scale]}
         for scale, n in UNITS.items()},
    ),
    Curve("RF", "train", {"model": "RF"},
          {scale: {"matched_units": n} for scale, n in UNITS.items()}),
    Curve("NT", "train", {"model": "NT"}, {scale: {"num_units": n} for scale, n in UNITS.items()}),
)  # fmt: skip


def _kernels(solver: str) -> tuple[Curve, ...]:
    """Return the curves of two kernels, those of NT and RF with infinitely many units.

    Args:
        solver: Solver of the kernels. With "auto", the test loss is also predicted from the train rows, if the band
            solver fits in memory.
    """
    kernels = {"NT KRR": "NTK", "RF KRR": "RF"}
    return tuple(Curve(label, "krr", {"kernel": kernel, "solver": solver}) for label, kernel in kernels.items())


REFERENCES = {f"best polynomial of degree {degree}": 1 - (degree - 1) / 3 for degree in (1, 2, 3)}


def _shared(scale: str) -> dict[str, float]:
    return {"synth_dim": DIMS[scale], "synth_eta": ETA[scale], "synth_n": WHOLE[scale]}


KAPPA = FigureRecipe(
    title="SYNTH against the anisotropy",
    shows="the kernels come nearer to NN as κ grows and the effective dimension falls",
    dataset="SYNTH",
    axis="noise_ind",
    metric="test_normalised_loss",
    curves=(*TRAINED, *_kernels("block_lanczos")),
    references=REFERENCES,
    scales={
        "laptop": Scale((0, 3, 6, 9), (0,), _shared("laptop") | {"num_train": 20_000, "num_test": 4000}),
        "workstation": Scale(tuple(range(10)), (0, 1), _shared("workstation") | {"num_train": 2**15}),
        "paper": Scale(tuple(range(10)), (0, 1, 2), _shared("paper")),
    },
)
SAMPLES = FigureRecipe(
    title="SYNTH against the sample size",
    shows="NN learn from far fewer samples than RF, NT and the kernels",
    dataset="SYNTH",
    axis="num_train",
    metric="test_normalised_loss",
    curves=(*TRAINED, *_kernels("auto")),
    references=REFERENCES,
    scales={
        "laptop": Scale(
            (2500, 5000, 10_000), (0,), _shared("laptop") | {"noise_ind": 6, "num_test": 4000}
        ),
        "workstation": Scale(
            tuple(2**k for k in range(10, 16)), (0, 1), _shared("workstation") | {"noise_ind": 6}
        ),
        "paper": Scale(tuple(2**k for k in range(10, 21, 2)), (0, 1, 2), _shared("paper") | {"noise_ind": 6}),
    },
)  # fmt: skip
