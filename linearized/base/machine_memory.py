"""Memory of this machine in bytes: installed, free, and available to a command."""


def total_bytes() -> int:
    """Return the installed memory in bytes."""
    import psutil  # imported in the functions because it would take a twentieth of the time of `--help`

    return psutil.virtual_memory().total


def available_bytes() -> int:
    """Return the memory in bytes that can be allocated now without swapping."""
    import psutil

    return psutil.virtual_memory().available


def working_bytes(gib: float = 0.0) -> int:
    """Return the memory in bytes that a command may use.

    Args:
        gib: The setting `--memory`, in GiB; 0 stands for half of the memory that is free now.
    """
    return int(gib * 2**30) or available_bytes() // 2
