"""Post-training INT8 calibration: which images, and the ranges seen on them."""
