"""Summarize a labelled dataset and list its errors."""
