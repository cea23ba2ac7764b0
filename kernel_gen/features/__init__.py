"""Features: φ with φ(x)·φ(z) ≈ a kernel, one kernel in each `*_features` module, with `build`.

The other modules are what these are built of.
"""
