"""Recipes with predicted curves: learning curves, the double descent of random features, and spectra of kernels.

The predictions are made by `linearized.learning_theory`, for kernels through the command `linearized theory`.
"""

from linearized.report.recipes.figure_recipe import Curve, FigureRecipe, Scale

POOL = {"laptop": 6000, "workstation": 12_000, "paper": 30_000}
SIZES = {"laptop": (250, 500, 1000, 2000), "workstation": (250, 500, 1000, 2000, 4000),
         "paper": (250, 500, 1000, 2000, 4000, 8000)}  # fmt: skip
UNITS = {"laptop": 512, "workstation": 1024, "paper": 4096}
EPOCHS = {"laptop": 60, "workstation": 250, "paper": 500}
HELD_OUT = 0.2  # share of the n rows on which RFM and NN choose their iteration and ridge
GRIDS = {"laptop": "0,10", "workstation": "0,4,8,12,16", "paper": "all"}


def _predicted(label: str, **kernel: object) -> Curve:
    """Return the learning curve of a kernel; one run of `linearized theory` predicts and measures all its points.

    Args:
        label: Name in the legend.
        **kernel: Flags of the kernel.
    """
    return Curve(label, "theory", kernel, {scale: {"num_train": rows} for scale, rows in POOL.items()})


LEARNING_CURVES = FigureRecipe(
    title="Learning curves on {dataset} at noise level {noise_ind}",
    shows="the predicted curves go through what fixed kernels measure; those that learn features fall faster",
    dataset="NFMNIST",
    axis="num_train",
    metric="test_loss",
    curves=(
        _predicted("NTK", kernel="NTK"),
        _predicted("RF", kernel="RF"),
        _predicted("LAPLACE", kernel="LAPLACE"),
        Curve("RFM", "krr", {"kernel": "RFM", "base": "LAPLACE", "rfm_centred": False, "validation": HELD_OUT}),
        Curve("NN", "train", {"model": "NN", "learning_rate": 0.003, "max_batch_size": 50, "schedule": "cosine",
                              "validation": HELD_OUT},
              {scale: {"num_units": UNITS[scale], "max_cg_iters": EPOCHS[scale], "reg_index": GRIDS[scale]}
               for scale in UNITS}),
    ),
    scales={
        scale: Scale(SIZES[scale], seeds, {"noise_ind": 6, "num_test": 4000})
        for scale, seeds in (("laptop", (0, 1)), ("workstation", (0, 1, 2)), ("paper", (0, 1, 2)))
    },
    theory="learning_curves",
)  # fmt: skip

DIMS = {"laptop": 100, "workstation": 200, "paper": 400}
WIDTHS = (10, 30, 60, 100, 150, 200, 250, 300, 350, 400, 600, 1000, 2000, 4000)  # in units of d/100
ROWS_PER_DIM, TAU = 3, 5  # n/d, and ten times the standard deviation of the noise
RIDGES = "0,2,4,5"  # indices in the grid of random features on synthetic data: λ from 1e-5 to .08

DOUBLE_DESCENT = FigureRecipe(
    title="Double descent of random features: a linear target on the sphere with noise",
    shows="at small ridges the error peaks where there are as many features as rows, as predicted; a ridge removes it",
    dataset="SPHERE",
    axis="num_units",
    metric="test_loss",
    curves=(Curve("RF", "train", {"model": "RF", "reg_index": RIDGES, "cg_rtol": 1e-7, "cg_atol": 0.0}),),
    scales={
        scale: Scale(
            tuple(width * dim // 100 for width in WIDTHS), seeds,
            {"noise_ind": TAU, "synth_dim": dim, "num_train": ROWS_PER_DIM * dim, "num_test": 4000},
        )
        for (scale, dim), seeds in zip(DIMS.items(), ((0, 1, 2), tuple(range(5)), tuple(range(10))), strict=True)
    },
    theory="double_descent",
)  # fmt: skip

SPECTRUM = FigureRecipe(
    title="Eigenvalues of kernels on photo patches",
    shows="all fall as power laws of the index, that of the convolutional kernel about twice as fast as the others",
    dataset="PATCHES",
    axis="noise_ind",
    metric="exponent",
    curves=(
        Curve("NTK", "theory", {"kernel": "NTK"}),
        Curve("NTK, 4,096 features", "theory", {"features": "NTK", "embedding_dim": 4096}),
        Curve("RF", "theory", {"kernel": "RF"}),
        Curve("LAPLACE", "theory", {"kernel": "LAPLACE"}),
        Curve("CNTK (Myrtle-5)", "theory", {"kernel": "CNTK", "depth": 5}),
    ),
    scales={
        scale: Scale((0,), (0,), {"draws": 0, "num_train": rows, "num_test": 10})
        for scale, rows in (("laptop", 400), ("workstation", 1000), ("paper", 1500))
    },
    theory="spectrum",
)
