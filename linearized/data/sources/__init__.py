"""Data sets, one module each, and the readers of other people's files."""
