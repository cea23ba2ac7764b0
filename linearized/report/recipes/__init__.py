"""Recipes of the figures that `linearized reproduce` makes: those of Ghorbani et al., and the suite's own.

A recipe states the runs of a figure and how they are drawn (`figure_recipe.FigureRecipe`). Ghorbani et al. are the
authors of "When Do Neural Networks Outperform Kernel Methods?" (arXiv 2006.13409).
"""

from linearized.base.registry import Registry

RECIPES = Registry(
    "figure",
    {
        "fmnist_noise": "linearized.report.recipes.fmnist:HIGH",
        "nfmnist_noise": "linearized.report.recipes.fmnist:LOW",
        "cifar2_noise": "linearized.report.recipes.cifar:CATS_AND_AIRPLANES",
        "cifar10_noise": "linearized.report.recipes.cifar:TEN_CLASSES",
        "synth_kappa": "linearized.report.recipes.synth:KAPPA",
        "synth_samples": "linearized.report.recipes.synth:SAMPLES",
        "lazy_to_rich": "linearized.report.recipes.tangents:LAZY_TO_RICH",
        "width": "linearized.report.recipes.tangents:WIDTH",
        "learning_curves": "linearized.report.recipes.learning:LEARNING_CURVES",
        "double_descent": "linearized.report.recipes.learning:DOUBLE_DESCENT",
        "feature_learning_kappa": "linearized.report.recipes.feature_learning:KAPPA",
        "feature_learning_noise": "linearized.report.recipes.feature_learning:NOISE",
        "spectrum": "linearized.report.recipes.learning:SPECTRUM",
    },
)
SCALES = ("laptop", "workstation", "paper")
