"""The commands as functions for arrays, files and data sets: `linearized.train`, `krr`, `theory`, `compare`, `plot`."""
