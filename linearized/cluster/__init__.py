"""Schedulers of Dask, on this machine or elsewhere, and tiles of work that their workers compute."""
