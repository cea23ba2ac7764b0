"""Experiments of the suite: each takes settings and writes a folder of results."""
