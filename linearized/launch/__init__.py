"""Run many commands at once: on this machine, as Slurm jobs, or on the workers of a Dask scheduler.

The modules that start the workers are found by name in `LAUNCHERS`. The package runs arbitrary commands and contains no
numerical code.
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
