"""Limits on a report: pass or fail."""
