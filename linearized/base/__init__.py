"""Shared utilities of the suite: errors, reading of files, registries, tables, progress, fixed random weights."""
