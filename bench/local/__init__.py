"""Benchmarks on this machine."""
