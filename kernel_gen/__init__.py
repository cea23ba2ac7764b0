"""What is computed at infinite (or huge) width; the only package that imports JAX and Numba."""

from data.gram_settings import KERNELS

__all__ = ["KERNELS", "gram"]


def __getattr__(name: str):
    """`kernel_gen.gram`, imported when it is asked for: this package stays quick to import."""
    if name == "gram":
        from kernel_gen.arrays import gram

        return gram
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
