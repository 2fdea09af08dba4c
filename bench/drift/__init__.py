"""Changes of predicted ages against the float model."""
