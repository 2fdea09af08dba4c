"""Studies on labelled datasets: evaluate, describe, stress, ablate, fit quality limits."""
