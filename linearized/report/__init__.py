"""Presentation of results: pictures, the HTML report, and the figures of Ghorbani et al. (arXiv 2006.13409)."""
