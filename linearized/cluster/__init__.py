"""Clients of Dask schedulers, on this machine or elsewhere, and function calls (tiles) that their workers compute."""
