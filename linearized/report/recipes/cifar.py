"""Recipes of figures on CIFAR: two classes with noise in high frequencies, ten with noise in place of low ones."""

from linearized.report.recipes.figure_recipe import Curve, FigureRecipe, Scale
from linearized.report.recipes.fmnist import UNITS, curves, scales

EPOCHS = {"laptop": 100, "workstation": 100, "paper": 200}
CHANNELS = {"laptop": 32, "workstation": 64, "paper": 128}

CATS_AND_AIRPLANES = FigureRecipe(
    title="CIFAR2 (cats, airplanes), noise in high frequencies",
    shows="RF, NT and the kernels lose more than NN as the noise grows",
    dataset="CIFAR2",
    stand_in="PATCHES",
    axis="noise_ind",
    metric="test_accuracy",
    curves=curves(UNITS, rate=0.001),  # training on photo patches diverges at 0.003
    scales=scales(15, ())
    | {"laptop": Scale((0, 5, 10, 14), (0,), {"num_train": 1500, "num_test": 500, "validation": 300})},
)
TEN_CLASSES = FigureRecipe(
    title="CIFAR10, noise in place of low frequencies",
    shows="the CNN keeps its accuracy longer than the kernel of its infinitely wide self",
    dataset="CIFAR10",
    stand_in="NPATCHES",
    axis="noise_ind",
    metric="test_accuracy",
    curves=(
        Curve(
            "CNN (Myrtle-5)", "train", {"model": "CNN", "learning_rate": 0.02, "depth": 5},
            {scale: {"num_units": n, "max_cg_iters": EPOCHS[scale], "reg_index": "0" if scale == "laptop" else "0,5,9"}
             for scale, n in CHANNELS.items()},
        ),
        Curve("CNTK KRR (Myrtle-5)", "krr", {"kernel": "CNTK", "depth": 5}),
        Curve("NT KRR", "krr", {"kernel": "NTK"}),
        Curve("LAPLACE KRR", "krr", {"kernel": "LAPLACE"}),
    ),
    scales={
        "laptop": Scale((0, 1, 2), (0,), {"num_train": 640, "num_test": 300, "validation": 128}),
        "workstation": Scale(tuple(range(0, 15, 3)), (0, 1), {"num_train": 5000, "num_test": 2000}),
        "paper": Scale(tuple(range(15)), (0, 1, 2), {}),
    },
)  # fmt: skip
