"""Procedural hand radiographs of known age, sex, box and mask.

They are made from numbers alone, so they carry nobody's data and no licence: the tests' and the
demo's images, golden inputs, and free training data. The same seed gives the same bytes.
"""

from __future__ import annotations

from bakit.phantoms.dataset import write_phantoms
from bakit.phantoms.phantom import NUISANCES, Phantom, make_phantom

__all__ = ["NUISANCES", "Phantom", "make_phantom", "write_phantoms"]
