"""A launcher is a module with `client(settings)`, a context manager that gives a `distributed.Client` and ends what
it started, and `default_cores(settings)`, the threads of a command where the user names none.
"""

from launch.settings import WhereSettings


def configure(settings: WhereSettings) -> None:
    """Dask's settings for our kind of task: long, one a worker, and safe to run again. Before `distributed` is used."""
    import dask

    dask.config.set(
        {
            # Our kernels hold the interpreter for long: silence is no death; a closed connection is.
            "distributed.scheduler.worker-ttl": None,
            # How often a task may take its worker with it before it is given up as failed.
            "distributed.scheduler.allowed-failures": settings.retries,
            # One task at a worker, the others at the scheduler: else a death would count against those in its queue.
            "distributed.scheduler.worker-saturation": 1.0,
            # Commands are processes; what the worker's own process holds is not what they need.
            "distributed.worker.memory.terminate": False,
            "distributed.worker.memory.pause": False,
            "logging.distributed": "critical",
        }
    )
