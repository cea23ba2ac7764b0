"""Experiments: modules that do the work of the commands, from the settings of a command to a folder of results."""
