"""Fit and test the limits of quality control (``bakit.quality.limits``)."""
