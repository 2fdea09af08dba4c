"""Labelled folders: labels, images, and work spread over threads and processes."""
