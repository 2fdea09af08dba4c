"""Studies over many images: evaluate, describe, stress, ablate, learn quality limits."""
