"""The figures of the published experiment, one declarative recipe each; `python -m report.reproduce` makes them."""

from data.registry import Registry

RECIPES = Registry(
    "figure",
    {
        "fmnist_noise": "report.recipes.fmnist:HIGH",
        "nfmnist_noise": "report.recipes.fmnist:LOW",
        "cifar2_noise": "report.recipes.cifar:CATS_AND_AIRPLANES",
        "cifar10_noise": "report.recipes.cifar:TEN_CLASSES",
        "synth_kappa": "report.recipes.synth:KAPPA",
        "synth_samples": "report.recipes.synth:SAMPLES",
    },
)
SCALES = ("laptop", "workstation", "paper")
