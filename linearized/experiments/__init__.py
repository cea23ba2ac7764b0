"""Experiments: one module per command that takes the settings of the command and writes a folder of results."""
