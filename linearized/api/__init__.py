"""The commands as Python functions: `linearized.train`, `krr`, `theory`, `compare` and `plot`.

They accept arrays, files and data sets.
"""
