"""Post-training INT8 calibration: calibration set, activation ranges, recipe search."""
