"""Benchmarks on a device reached over ssh."""
