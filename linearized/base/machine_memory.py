"""Memory of this machine in bytes: installed, free, and what a command may work with."""


def total_bytes() -> int:
    """Return the memory that the machine has."""
    import psutil  # in functions: it would take a twentieth of the time of `--help`

    return psutil.virtual_memory().total


def available_bytes() -> int:
    """Return the memory that is free now, without swapping."""
    import psutil

    return psutil.virtual_memory().available


def working_bytes(gib: float = 0.0) -> int:
    """Return the memory to work with: `gib` GiB, the setting `--memory`, or for 0 half of what is free now."""
    return int(gib * 2**30) or available_bytes() // 2
