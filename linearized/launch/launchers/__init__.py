"""Launchers, the modules that start workers for commands.

A launcher is a module with two functions. `client(settings)` is a context manager that starts the workers, yields a
`distributed.Client`, and at the end stops all that it started. `default_cores(settings)` returns the default number of
threads of a command.
"""

from linearized.cluster import clients
from linearized.launch.launch_settings import WhereSettings


def configure(settings: WhereSettings) -> None:
    """Configure Dask to run commands, by `linearized.cluster.clients.configure`.

    Args:
        settings: Settings retries (number of workers that may die while they run a task) and launcher (for the error
            message if Dask is not installed).
    """
    clients.configure(f"--launcher={settings.launcher}", settings.retries)
