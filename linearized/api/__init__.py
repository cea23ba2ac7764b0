"""The commands as functions: `linearized.train`, `krr`, `compare` and `plot`, on arrays, files and data sets."""
