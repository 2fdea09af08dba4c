"""Measure a model's errors on labelled radiographs."""
