"""Short hashes of ids, by which a model's images are recognized in any other folder."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bakit.data.labels import Sample

_ID, _LABEL = 4, 1
"""Bytes of the hash of an id, and of that of the id with its age and sex.

Two ids of ten thousand are the same by chance in 1 of 400,000 images. Numbered ids of two hospitals
are often equal, and then their ages and sexes differ."""


def id_hashes(samples: Iterable[Sample]) -> str:
    """Return the sorted hashes of images as text: 5 bytes an image, in base64."""
    return base64.b64encode(b"".join(sorted(map(_hash, samples)))).decode()


def join_hashes(*texts: str) -> str:
    """Return the hashes of the images of several ``id_hashes``."""
    found = {item for text in texts for item in _items(text)}
    return base64.b64encode(b"".join(sorted(found))).decode()


def count_hashes(text: str) -> int:
    """Return the number of images of ``id_hashes``."""
    return len(_items(text))


def shared_ids(samples: Sequence[Sample], text: str) -> set[str]:
    """Return the ids of the samples that are among the images of ``id_hashes``.

    Equal ids are the same images if at least half of them have the same age and sex: then labels
    were corrected in the others. Else the ids of two folders are equal by chance, and only images
    of the same age and sex count.
    """
    try:
        known = {item[:_ID]: item[_ID:] for item in _items(text)}
    except (ValueError, binascii.Error):
        return set()
    equal = {sample.id: found for sample in samples if (found := _hash(sample))[:_ID] in known}
    alike = {name for name, found in equal.items() if known[found[:_ID]] == found[_ID:]}
    return set(equal) if 2 * len(alike) >= len(equal) else alike


def _items(text: str) -> list[bytes]:
    """Return the hash of each image of ``id_hashes``."""
    data, size = base64.b64decode(text), _ID + _LABEL
    return [data[at : at + size] for at in range(0, len(data) - size + 1, size)]


def _hash(sample: Sample) -> bytes:
    label = f"{sample.id}\n{sample.age_months:g}\n{sample.male}"
    return _digest(sample.id, _ID) + _digest(label, _LABEL)


def _digest(text: str, size: int) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:size]
