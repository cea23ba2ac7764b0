"""The settings that decide a kernel: its name, kind, architecture, precision and scale; see data.gram_settings."""

from data.gram_settings import KernelSettings

__all__ = ["KernelSettings"]
