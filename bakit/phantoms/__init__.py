"""Procedural hand radiographs of known age, sex, box and mask.

They contain no patient data and need no licence. They serve as test and demo images, golden inputs
and additional training data. The same seed gives the same bytes.
"""

from __future__ import annotations

from bakit.phantoms.dataset import write_phantoms
from bakit.phantoms.phantom import NUISANCES, Phantom, make_phantom

__all__ = ["NUISANCES", "Phantom", "make_phantom", "write_phantoms"]
