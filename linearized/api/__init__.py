"""The commands as functions: `linearized.train`, `krr`, `compare` and `plot`, for arrays, files and data sets."""
