"""Localize hands in many images: in parallel, with a cache."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from bakit.backends.ort import OrtSession
from bakit.data.parallel import in_processes
from bakit.documents import UNREADABLE
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.writer import serialize
from bakit.files import file_sha256, sha256, write_file
from bakit.hand.found import Place
from bakit.hand.prepare import OpenLocalizer, find
from bakit.image.read import decode
from bakit.settings import Preprocessing
from bakit.training.crops import code_digest
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.data.labels import Sample
    from bakit.hand.weights import Localizer
    from bakit.settings import LocalizerSettings
    from bakit.types import OnProgress

Places: TypeAlias = dict[str, Place]

_SAVE_EVERY = 200
"""Images between two writes of the cache, so that a killed run loses little."""

BOXES = "boxes.json"


def places_by_id(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    localizer: Localizer,
    cache: Path,
    *,
    workers: int | None = None,
    on_progress: OnProgress = silent,
) -> Places:
    """Return the place of the hand by sample id, or the whole image without localization.

    The localizer runs once on each image: the folder ``cache`` keeps a file of places by digest of
    image, localizer and code. One process per CPU when ``workers`` is None.

    Raises:
        ImageError: If an image cannot be used.
    """
    if not preprocessing.localize:
        return {sample.id: Place(None) for sample in samples}
    settings = localizer.settings
    model = serialize(localizer_model(localizer.weights, settings))
    known = _read(cache / BOXES)
    # The settings too: the rule of the box is not in the graph.
    version = sha256(model + msgspec.json.encode(settings)) + code_digest()
    keys = [sha256((file_sha256(sample.path) + version).encode()) for sample in samples]
    todo = {key: s.path for key, s in zip(keys, samples, strict=True) if key not in known}
    before = len(samples) - len(todo)
    if before:
        on_progress("localizing", before, len(samples))
    if todo:
        start = partial(_start, model, settings)
        found = in_processes(_place, list(todo.values()), workers, start)
        for count, (key, place) in enumerate(zip(todo, found, strict=True), start=1):
            known[key] = place
            on_progress("localizing", before + count, len(samples))
            if count % _SAVE_EVERY == 0:
                _write(cache / BOXES, known)
        _write(cache / BOXES, known)
    return {sample.id: known[key] for sample, key in zip(samples, keys, strict=True)}


def _read(cache: Path) -> Places:
    """Return the cached places; none if the file is missing or damaged."""
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, Place])
    except (OSError, *UNREADABLE):
        return {}


def _write(cache: Path, known: Places) -> None:
    write_file(cache, msgspec.json.encode(known, order="sorted"))


_localizer: OpenLocalizer


def _start(localizer: bytes, settings: LocalizerSettings) -> None:
    global _localizer  # one per worker process
    _localizer = OpenLocalizer(OrtSession(localizer, threads=1), settings)


def _place(path: Path) -> Place:
    return find(decode(path), _localizer, Preprocessing())[1].place
