"""The data sets that `--dataset` selects, one module each, and the readers of their file formats."""
