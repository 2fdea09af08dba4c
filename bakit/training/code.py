"""A digest of all code that decides a crop: what was cached by other code is not used."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np

import bakit
from bakit.files import sha256

ROOMS = ("hand", "image", "phantoms", "training")
"""Folders of the package whose code decides boxes and crops; settings are keys of their own."""


@cache
def code_digest() -> str:
    """Return the digest of the rooms' sources and of the versions of the libraries they call."""
    root = Path(bakit.__file__).parent
    sources = [path.read_bytes() for room in ROOMS for path in sorted((root / room).glob("*.py"))]
    versions = f"{cv2.__version__} {np.__version__}".encode()
    return sha256(b"\0".join([*sources, versions]))
