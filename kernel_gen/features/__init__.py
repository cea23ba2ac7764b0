"""Features φ with φ(x)·φ(z) ≈ a kernel. Each `*_features` module provides one kernel through `build`.

The other modules are the components that these are built from.
"""
