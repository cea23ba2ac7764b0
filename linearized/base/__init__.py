"""Utilities that the other packages share: errors, file reading, registries, tables, progress lines, random weights."""
