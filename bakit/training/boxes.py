"""Box and polarity of the hand in many images: found in parallel, remembered between runs."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from bakit import hand
from bakit import locate as locate_module
from bakit import preprocess as preprocess_module
from bakit.backends.ort import OrtSession
from bakit.export.onnx_localizer import localizer_model
from bakit.export.onnx_writer import serialize
from bakit.files import file_sha256, sha256, write_file
from bakit.geometry import Box  # noqa: TC001  # msgspec reads Hand's types
from bakit.locate import locate
from bakit.preprocess import decode
from bakit.training.processes import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bakit.dataset import Sample
    from bakit.localizers import Localizer
    from bakit.settings import LocalizerSettings, Preprocessing


class Hand(NamedTuple):
    """Where the hand is and its polarity: the localizer's inputs to the preprocessing.

    Attributes:
        box: In pixels of the image; None for the whole image.
        inverted: Whether bones are dark.
    """

    box: Box | None
    inverted: bool = False


Hands: TypeAlias = dict[str, Hand]

WHOLE = Hand(None)
"""The whole image, not inverted."""

_SAVE_EVERY = 200
"""Images between two writes of the file of hands: little is lost when a run is killed."""

HANDS = "hands.json"


def hands_by_id(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    localizer: Localizer,
    cache: Path,
    *,
    workers: int | None = None,
    on_done: Callable[[int], None] = lambda _: None,
) -> Hands:
    """Return the hand by sample id; ``WHOLE`` for all where images are used whole.

    Args:
        samples: Whose images.
        preprocessing: Whether hands are localized at all.
        localizer: What finds the hand.
        cache: Folder that remembers hands.
        workers: As for ``find_hands``.
        on_done: As for ``find_hands``.

    Raises:
        ImageError: If an image cannot be used.
    """
    if not preprocessing.localize:
        return dict.fromkeys((sample.id for sample in samples), WHOLE)
    found = find_hands(
        [sample.path for sample in samples],
        serialize(localizer_model(localizer.weights, localizer.settings)),
        localizer.settings,
        cache / HANDS,
        workers=workers,
        on_done=on_done,
    )
    return {sample.id: hand for sample, hand in zip(samples, found, strict=True)}


def find_hands(
    paths: Sequence[Path],
    localizer: bytes,
    settings: LocalizerSettings,
    cache: Path,
    *,
    workers: int | None = None,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Hand]:
    """Run the localizer once on each image.

    Args:
        paths: Image files.
        localizer: The localizer as an ONNX model.
        settings: Its settings.
        cache: File of hands by digest of image and localizer; read, added to and written.
        workers: Processes; one a core when None.
        on_done: Called with the number of images done since the last call.

    Returns:
        The hand in each image, ``WHOLE`` where none was found.

    Raises:
        ImageError: If an image cannot be used.
    """
    known = _read(cache)
    # What is fed to the localizer and what chooses among its labels are part of it.
    code = [
        inspect.getsource(module).encode() for module in (hand, locate_module, preprocess_module)
    ]
    model = sha256(b"".join([localizer, *code]))
    keys = [sha256((file_sha256(path) + model).encode()) for path in paths]
    todo = [(key, path) for key, path in zip(keys, paths, strict=True) if key not in known]
    on_done(len(paths) - len(todo))
    if todo:
        start = partial(_start, localizer, settings)
        found = spread(_hand, [path for _, path in todo], workers, on_done, start)
        for count, ((key, _), one) in enumerate(zip(todo, found, strict=True), start=1):
            known[key] = one
            if count % _SAVE_EVERY == 0:
                _write(cache, known)
        _write(cache, known)
    return [known[key] for key in keys]


def _read(cache: Path) -> Hands:
    """Return the hands of an earlier run; a file that cannot be read is made again."""
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, Hand])
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
        return {}


def _write(cache: Path, known: Hands) -> None:
    write_file(cache, msgspec.json.encode(known, order="sorted"))


_session: OrtSession
_settings: LocalizerSettings


def _start(localizer: bytes, settings: LocalizerSettings) -> None:
    """Open the localizer once in a worker process."""
    global _session, _settings  # a worker's own
    _session = OrtSession(localizer, threads=1)
    _settings = settings


def _hand(path: Path) -> Hand:
    found = locate(decode(path), _session, _settings)
    return Hand(found.box, found.inverted)
