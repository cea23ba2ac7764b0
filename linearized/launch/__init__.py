"""Launchers by name: modules that run commands on this machine, on Slurm or on a Dask scheduler.

The package runs arbitrary commands and contains no numerical code.
"""

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
