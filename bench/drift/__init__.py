"""Drift: a bundle's change of accuracy against the float model."""
