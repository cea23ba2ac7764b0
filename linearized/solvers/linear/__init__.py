"""Solvers of least squares, min ‖A v - Y‖² + ρ‖v‖², and of kernel ridge regression, (K + ρI)α = Y, at all ridges ρ."""
