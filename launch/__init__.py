"""Where commands run: a table of launchers; knows commands, not science."""

from data.registry import Registry

LAUNCHERS = Registry(
    "launcher",
    {
        "local": "launch.launchers.local",
        "slurm": "launch.launchers.slurm",
        "address": "launch.launchers.address",
    },
    aliases={"scheduler": "address", "processes": "local"},
)
