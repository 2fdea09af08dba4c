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

    Raises:
        ImageError: If an image cannot be used.
    """
    if not preprocessing.localize:
        return {sample.id: Place(None) for sample in samples}
    found = find_places(
        [sample.path for sample in samples],
        serialize(localizer_model(localizer.weights, localizer.settings)),
        localizer.settings,
        cache / BOXES,
        workers=workers,
        on_progress=on_progress,
    )
    return {sample.id: place for sample, place in zip(samples, found, strict=True)}


def find_places(
    paths: Sequence[Path],
    localizer: bytes,
    settings: LocalizerSettings,
    cache: Path,
    *,
    workers: int | None = None,
    on_progress: OnProgress = silent,
) -> list[Place]:
    """Run the localizer once on each image.

    The cache is a file of places by digest of image, localizer and code; it is read and extended.
    One process per CPU when ``workers`` is None.

    Returns:
        Box and polarity of each image; no box if no hand was found.

    Raises:
        ImageError: If an image cannot be used.
    """
    known = _read(cache)
    # The settings too: the rule of the box is not in the graph.
    model = sha256(localizer + msgspec.json.encode(settings)) + code_digest()
    keys = [sha256((file_sha256(path) + model).encode()) for path in paths]
    todo = [(key, path) for key, path in zip(keys, paths, strict=True) if key not in known]
    before = len(paths) - len(todo)
    if before:
        on_progress("localizing", before, len(paths))
    if todo:
        start = partial(_start, localizer, settings)
        found = in_processes(_place, [path for _, path in todo], workers, start)
        for count, ((key, _), place) in enumerate(zip(todo, found, strict=True), start=1):
            known[key] = place
            on_progress("localizing", before + count, len(paths))
            if count % _SAVE_EVERY == 0:
                _write(cache, known)
        _write(cache, known)
    return [known[key] for key in keys]


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
