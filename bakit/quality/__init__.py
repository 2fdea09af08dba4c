"""Quality control of one image: measures, limits, verdict."""
