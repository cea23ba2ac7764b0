"""Settings of commands: how they become flags, are checked and stored, and name a run; groups of flags.

The flags of one command are a class in the command's own module, such as `TrainSettings` in
`linearized.experiments.train`.
"""
