"""Stress test: errors under perturbations that leave bone age unchanged."""
