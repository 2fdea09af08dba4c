"""Learn and measure the limits of quality control (``bakit.quality.limits``)."""
