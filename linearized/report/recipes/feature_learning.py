"""Recipes that compare learned features (networks, feature machines) with fixed ones (random features, kernels).

One figure shows SYNTH against the anisotropy κ, the other Fashion-MNIST without low frequencies against the noise
level. The ridge of each run and, for feature machines, the iteration are chosen by the scores on a held-out part of the
train rows. Dashed curves have fixed features.
"""

from linearized.report.recipes.figure_recipe import Curve, FigureRecipe, Scale
from linearized.report.recipes.synth import DIMS, ETA, REFERENCES, WHOLE

SYNTH_EPOCHS = {"laptop": 100, "workstation": 300, "paper": 750}
SYNTH_UNITS = {"laptop": 256, "workstation": 1024, "paper": 1024}
SYNTH_ROWS = {"laptop": 4000, "workstation": 10_000, "paper": 30_000}
SYNTH_GRIDS = {"laptop": "21,22", "workstation": "16,18,20,22,24", "paper": "all"}
IMAGE_EPOCHS = {"laptop": 60, "workstation": 250, "paper": 500}
IMAGE_UNITS = {"laptop": 512, "workstation": 1024, "paper": 4096}
IMAGE_ROWS = {"laptop": 3000, "workstation": 10_000, "paper": 30_000}
IMAGE_GRIDS = {"laptop": "0,10", "workstation": "0,4,8,12,16", "paper": "all"}
SMALL = "0.0001,0.001,0.01,0.1,1"  # ridges; those published for SYNTH start at 1, above the best of a learned metric
HELD_OUT = 5  # number of train rows for each validation row
SAMPLED = 1000  # number of images at which a feature machine computes gradients


def _network(rate: float, batch: int, epochs: dict[str, int], units: dict[str, int], grids: dict[str, str]) -> Curve:
    """Return the curve of a network, NN, with an input layer that is trained.

    Args:
        rate: Learning rate.
        batch: Rows per batch.
        epochs: Number of epochs by name of the scale, such as "laptop".
        units: Number of hidden units by name of the scale.
        grids: Indices of ridges by name of the scale, in the form of `--reg_index`.
    """
    flags = {"model": "NN", "learning_rate": rate, "max_batch_size": batch, "schedule": "cosine"}
    sizes = {scale: {"num_units": units[scale], "max_cg_iters": epochs[scale], "reg_index": grids[scale]}
             for scale in units}  # fmt: skip
    return Curve("NN", "train", flags, sizes)


def _machine(label: str, **flags: object) -> Curve:
    """Return the curve of a recursive feature machine (`--kernel=RFM`), a kernel method that learns features.

    Args:
        label: Name in the legend.
        **flags: Further flags of its runs.
    """
    return Curve(label, "krr", {"kernel": "RFM", **flags})


def _tangents(units: dict[str, int]) -> Curve:
    """Return the curve of NT, the linearization of a network at its initial weights; only for SYNTH.

    On images, a run at the scale "laptop" would take minutes.

    Args:
        units: Number of hidden units by name of the scale.
    """
    return Curve("NT", "train", {"model": "NT"}, {scale: {"num_units": n} for scale, n in units.items()}, fixed=True)


def _fixed(units: dict[str, int]) -> tuple[Curve, ...]:
    """Return the curves of fixed features: RF with as many parameters as the network's first layer, and two kernels.

    Args:
        units: Number of hidden units of the network by name of the scale, such as "laptop".
    """
    return (
        Curve("RF", "train", {"model": "RF"}, {scale: {"matched_units": n} for scale, n in units.items()}, fixed=True),
        Curve("NTK KRR", "krr", {"kernel": "NTK"}, fixed=True),
        Curve("LAPLACE KRR", "krr", {"kernel": "LAPLACE"}, fixed=True),
    )


def _rows(train: int, test: int) -> dict[str, int]:
    """Return the flags for the given numbers of train and test rows, and for further train rows for validation.

    Args:
        train: Number of train rows; a fifth as many further rows are validation rows.
        test: Number of test rows.
    """
    held_out = train // HELD_OUT
    return {"num_train": train + held_out, "validation": held_out, "num_test": test}


KAPPA = FigureRecipe(
    title="SYNTH against the anisotropy",
    shows="features that are learned need far fewer rows than fixed ones; at κ = 0 a diagonal metric alone learns",
    published=False,
    dataset="SYNTH",
    axis="noise_ind",
    metric="test_normalised_loss",
    curves=(
        _network(0.01, 100, SYNTH_EPOCHS, SYNTH_UNITS, SYNTH_GRIDS),
        _machine("RFM, diagonal M", iterations=8, ridges=SMALL, rfm_diagonal=True, rfm_power=0.5),
        _machine("RFM, full M", iterations=8, ridges=SMALL),
        _tangents(SYNTH_UNITS),
        *_fixed(SYNTH_UNITS),
    ),
    references=REFERENCES,
    scales={
        scale: Scale(
            values, seeds,
            {"synth_dim": DIMS[scale], "synth_eta": ETA[scale], "synth_n": WHOLE[scale],
             **_rows(SYNTH_ROWS[scale], 4000)},
        )
        for scale, values, seeds in (("laptop", (0, 3, 6, 9), (0,)), ("workstation", tuple(range(0, 10, 3)), (0, 1)),
                                     ("paper", tuple(range(10)), (0, 1, 2)))
    },
)  # fmt: skip
NOISE = FigureRecipe(
    title="Fashion-MNIST, noise in place of low frequencies",
    shows="as more low frequencies are lost NN keeps more than fixed features; a linear metric gains little",
    published=False,
    dataset="NFMNIST",
    axis="noise_ind",
    metric="test_accuracy",
    curves=(
        _network(0.003, 50, IMAGE_EPOCHS, IMAGE_UNITS, IMAGE_GRIDS),
        _machine("RFM", iterations=3, rfm_search=True, rfm_sample=SAMPLED),
        *_fixed(IMAGE_UNITS),
    ),
    scales={
        scale: Scale(values, seeds, _rows(IMAGE_ROWS[scale], 5000))
        for scale, values, seeds in (("laptop", (0, 3, 6), (0,)), ("workstation", tuple(range(0, 14, 2)), (0, 1, 2)),
                                     ("paper", tuple(range(14)), tuple(range(5))))
    },
)  # fmt: skip
