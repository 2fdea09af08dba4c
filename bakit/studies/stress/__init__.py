"""Stress test: errors on rotated, flipped, inverted, blurred and other changed radiographs."""
