"""Recipes of figures on Fashion-MNIST with noise in high frequencies, and with noise in place of low frequencies."""

from linearized.report.recipes.figure_recipe import Curve, FigureRecipe, Scale

UNITS = {"laptop": 128, "workstation": 1024, "paper": 4096}


def curves(units: dict[str, int], rate: float = 0.003) -> tuple[Curve, ...]:
    """Return curves of NN, RF and NT with about equal numbers of parameters, and of several kernels.

    The kernels are those of NT and RF at infinite width, the Laplace kernel, and polynomial kernels of degree 2 and 1.

    Args:
        units: Number of units of the network by name of the scale, such as "laptop".
        rate: Learning rate of the network.
    """
    epochs = {"laptop": 60, "workstation": 250, "paper": 750}
    grids = {"laptop": "0,10", "workstation": "0,4,8,12,16", "paper": "all"}
    network = {
        scale: {"num_units": n, "max_cg_iters": epochs[scale], "reg_index": grids[scale]} for scale, n in units.items()
    }
    features = {scale: {"matched_units": n} for scale, n in units.items()}
    tangents = {scale: {"num_units": n} for scale, n in units.items()}
    return (
        Curve("NN", "train", {"model": "NN", "learning_rate": rate}, network),
        Curve("RF", "train", {"model": "RF"}, features),
        Curve("NT", "train", {"model": "NT"}, tangents),
        Curve("NT KRR", "krr", {"kernel": "NTK"}),
        Curve("RF KRR", "krr", {"kernel": "RF"}),
        Curve("LAPLACE KRR", "krr", {"kernel": "LAPLACE"}),
        Curve("polynomial KRR, degree 2", "krr", {"kernel": "POLYNOMIAL", "degree": 2}),
        Curve("linear", "krr", {"kernel": "POLYNOMIAL", "degree": 1}),
    )


def scales(levels: int, few: tuple[int, ...]) -> dict[str, Scale]:
    """Return the sizes of a figure against the noise level, by name of the scale.

    The scale "laptop" uses 10,000 train images, because with 2,000 images a network is no better than a kernel. The
    larger scales use more levels, seeds and images.

    Args:
        levels: Number of noise levels of the dataset.
        few: Indices of the noise levels at the scale "laptop", from 0.
    """
    return {
        "laptop": Scale(few, (0,), {"num_train": 10000, "num_test": 5000}),
        "workstation": Scale(tuple(range(0, levels, 2)), (0, 1, 2), {"num_train": 30000}),
        "paper": Scale(tuple(range(levels)), tuple(range(5)), {}),
    }


HIGH = FigureRecipe(
    title="Fashion-MNIST, noise in high frequencies",
    shows="without noise all but the linear model are close; noise makes the images more isotropic, and costs NN least",
    dataset="FMNIST",
    axis="noise_ind",
    metric="test_accuracy",
    curves=curves(UNITS),
    scales=scales(15, (0, 6, 12)),
)
LOW = FigureRecipe(
    title="Fashion-MNIST, noise in place of low frequencies",
    shows="as more low frequencies are lost RF, NT and the kernels fall fast, and NN much less",
    dataset="NFMNIST",
    axis="noise_ind",
    metric="test_accuracy",
    curves=curves(UNITS),
    scales=scales(14, (0, 3, 6)),
)
