"""Labelled datasets: labels, images, and parallel processing."""
