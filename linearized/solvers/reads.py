"""The settings that each solver reads, in a module without a framework or SciPy: `--help` and refusals read it."""

from linearized.settings.reads import reads

LEAST_SQUARES = reads("cg_rtol", "cg_atol", "max_cg_iters", "memory", "checkpoint_seconds")
GRADIENT = reads(
    "learning_rate", "max_cg_iters", "max_ncg_iters", "max_batch_size", "schedule", "warm_up_epochs",
    "label_smoothing", "augment_crop", "augment_flip", "mixed_precision", "tensorboard", "seed", "checkpoint_seconds",
)  # fmt: skip

SOLVER_READS = {
    "lanczos": LEAST_SQUARES,
    "cg": LEAST_SQUARES,
    "sgd": GRADIENT | reads("momentum", "l2_decay"),
    "adam": GRADIENT | reads("beta_2", "l2_decay"),
    "adamw": GRADIENT | reads("beta_2", "weight_decay"),
    "newton_cg": reads("max_ncg_iters", "max_batch_size", "checkpoint_seconds"),
}
