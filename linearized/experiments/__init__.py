"""Experiments: each takes the settings of a command and writes a folder of results."""
