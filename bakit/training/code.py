"""Digest of the code that makes crops, so that caches of other code versions are not used."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np

import bakit
from bakit.files import sha256

ROOMS = ("hand", "image", "phantoms", "training")
"""Folders of the package whose code computes boxes and crops."""


@cache
def code_digest() -> str:
    """Return the digest of these sources and of the versions of NumPy and OpenCV."""
    root = Path(bakit.__file__).parent
    sources = [path.read_bytes() for room in ROOMS for path in sorted((root / room).glob("*.py"))]
    versions = f"{cv2.__version__} {np.__version__}".encode()
    return sha256(b"\0".join([*sources, versions]))
