"""How settings become flags, check themselves, are saved and name a run; and groups of flags that commands share.

The flags of one command are a class in its own module: `TrainSettings` in `linearized.experiments.train`, and so on.
"""
