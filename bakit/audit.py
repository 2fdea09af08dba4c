"""What an auditor wants to know of a runtime: which libraries compute."""

from __future__ import annotations

import platform
from types import ModuleType

import cv2
import numpy as np

from bakit import __version__


def versions_of(backend: object) -> dict[str, str]:
    """Return the versions of all that computes: bakit, Python, and what the backend imports."""
    found = {
        "bakit": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    for value in vars(backend).values():
        if isinstance(value, ModuleType) and "." not in value.__name__:
            version = getattr(value, "__version__", None)
            if isinstance(version, str):
                found.setdefault(value.__name__, str(version))  # torch has a class of its own
    return found
