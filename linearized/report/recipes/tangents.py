"""Recipes for lazy and rich training: networks, their linearizations and kernels, against the epoch and the width.

NN are compared with the NTK on Fashion-MNIST, and Myrtle-5 CNNs with the CNTK on photo patches, because the five
pooling layers of Myrtle's kernel need images of 32x32. Two parametrizations have equal tangent kernels at the start
(docs/parametrization.md): in ntk, features change less the wider the network is; in mup, they change at any width. All
kernels are fitted to all train rows.
"""

from linearized.report.recipes.figure_recipe import Curve, FigureRecipe, Scale

ROWS = {"laptop": (300, 600), "workstation": (1000, 2000), "paper": (4000, 5000)}  # train and test rows of NN
PATCHES = {"laptop": (200, 300), "workstation": (1000, 500), "paper": (1500, 500)}  # train and test rows of the CNN
EPOCHS = {"laptop": 100, "workstation": 200, "paper": 400}
RATES, BATCH = {"NN": 1.0, "CNN": 0.5}, 50
UNITS = {"laptop": (512, 32), "workstation": (1024, 64), "paper": (4096, 128)}  # hidden units of NN, channels of CNN


def _sizes(scale: str, at: str) -> dict[str, object]:
    rows, tests = ROWS[scale]
    return {"num_train": rows, "num_test": tests, "tangent_rows": f"{rows},{tests}", "tangent_at": at,
            "max_cg_iters": EPOCHS[scale], "reg_index": "0", "max_batch_size": BATCH, "schedule": "cosine",
            "output_scale": 1.0}  # fmt: skip


def _curve(model: str, parametrization: str, widths: dict[str, int] | None = None, times: int = 1) -> Curve:
    """Return the curve of a network, NN or CNN, with one parametrization.

    Args:
        model: NN or CNN.
        parametrization: Value of --parametrization.
        widths: Width by name of the scale, such as "laptop"; None if the axis of the figure is the width.
        times: Number by which the value of the axis is multiplied, as in `Curve`.
    """
    flags = {"model": model, "parametrization": parametrization, "learning_rate": RATES[model]}
    sizes = {scale: {"num_units": width} for scale, width in (widths or {}).items()}
    if model == "NN":
        return Curve(f"NN, {parametrization}", "train", flags, sizes, times)
    for scale, (rows, tests) in PATCHES.items():
        counts = {"num_train": rows, "num_test": tests, "tangent_rows": f"{rows},{tests}"}
        sizes[scale] = {**sizes.get(scale, {}), **counts}
    return Curve(f"CNN on patches, {parametrization}", "train", {**flags, "dataset": "PATCHES"}, sizes, times)


KINDS = [(model, name) for model in ("NN", "CNN") for name in ("ntk", "mup")]
LAZY_TO_RICH = FigureRecipe(
    title="From lazy to rich: NN on Fashion-MNIST, Myrtle-5 CNN on photo patches",
    shows="in ntk the tangent kernel hardly moves; in mup it turns to the labels",
    dataset="FMNIST",
    axis="noise_ind",
    metric="network_accuracy",
    curves=tuple(_curve(model, name, {scale: pair[model == "CNN"] for scale, pair in UNITS.items()})
                 for model, name in KINDS),
    scales={
        scale: Scale((0,), seeds, _sizes(scale, "0,1,3,10,30,end"))
        for scale, seeds in (("laptop", (0,)), ("workstation", (0, 1, 2)), ("paper", (0, 1, 2)))
    },
    tangents="epochs",
)  # fmt: skip
WIDTH = FigureRecipe(
    title="Against the width: NN on Fashion-MNIST, Myrtle-5 CNN on photo patches",
    shows="in ntk the distance that the kernel moves falls with the width; in mup it moves at every width",
    dataset="FMNIST",
    axis="num_units",
    metric="network_accuracy",
    curves=tuple(_curve(model, name, times=16 if model == "NN" else 1) for model, name in KINDS),
    scales={
        "laptop": Scale((4, 16, 64), (0,), _sizes("laptop", "0,end")),
        "workstation": Scale((4, 8, 16, 32, 64, 128), (0, 1, 2), _sizes("workstation", "0,end")),
        "paper": Scale((8, 16, 32, 64, 128, 256), (0, 1, 2), _sizes("paper", "0,end")),
    },
    tangents="widths",
)
