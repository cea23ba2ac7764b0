"""Functions that do what the commands do, for arrays, files and data sets in Python.

They are `linearized.train`, `krr`, `theory`, `compare` and `plot`.
"""
