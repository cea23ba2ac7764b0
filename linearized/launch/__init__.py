"""Where commands run: a table of launchers; knows commands, not science."""

from linearized.base.registry import Registry

LAUNCHERS = Registry(
    "launcher",
    {
        "local": "linearized.launch.launchers.local",
        "plain": "linearized.launch.launchers.plain",
        "slurm": "linearized.launch.launchers.slurm",
        "address": "linearized.launch.launchers.address",
    },
    aliases={"scheduler": "address", "processes": "local"},
)
