"""Settings: how they become flags, are checked and saved, and name a run; groups of flags that commands share.

The flags of one command are a class in its own module: `TrainSettings` in `linearized.experiments.train`, and so on.
"""
