"""The row of one film."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bakit.errors import ImageError, safe_text
from bakit.files import sha256
from bakit.image.read import input_digest, read_radiograph
from bakit.prediction import Sex
from bakit.score.places import read_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.image.read import Radiograph
    from bakit.runtime import Runtime
    from bakit.score.sources import Film

MAX_ERROR = 300
"""Most characters of an error."""


class Options(msgspec.Struct, frozen=True):
    """What rows depend on beside the bundle: options of ``Runtime.predict``.

    ``sex`` is that of films whose list, labels.csv and DICOM header give none.
    """

    sex: Sex | None = None
    allow_rejected: bool = False


class Row(msgspec.Struct, frozen=True):
    """One film.

    Attributes:
        id: As in ``bakit.score.sources.Film``.
        status: accept, review, reject, or error if it could not be read.
        age_months: Bone age.
        low_months: Lower bound of the prediction interval; ``high_months`` is the upper one.
        sex: The input of the model.
        chronological_months: Age on the day of the study, from a DICOM header.
        reasons: Reasons of the status, with spaces between them.
        x0: Left edge of the hand's box in pixels of the file; then ``y0``, ``x1``, ``y1``.
        input_sha256: Digest of the pixels (``bakit.image.read.input_digest``).
        bundle_sha256: Digest of the bundle.
        duplicate_of: Id of the first film with the same pixels.
        seconds: Time to read it.
        error: Why it could not be read.
    """

    id: str
    status: str
    age_months: float | None = None
    low_months: float | None = None
    high_months: float | None = None
    sex: Sex | None = None
    chronological_months: float | None = None
    reasons: str = ""
    x0: int | None = None
    y0: int | None = None
    x1: int | None = None
    y1: int | None = None
    input_sha256: str = ""
    bundle_sha256: str = ""
    duplicate_of: str = ""
    seconds: float = 0.0
    error: str = ""


class Scored(NamedTuple):
    """A row, and what decides whether it can be used again.

    ``key`` is a digest of all that it depends on: films of the same key have the same row.
    ``origin`` is the film's.
    """

    row: Row
    key: str = ""
    origin: str = ""


def score_film(
    runtime: Runtime, film: Film, known: Callable[[str], Row | None], options: Options
) -> Scored:
    """Return the row of a film, also of one that cannot be read.

    ``known`` returns the row of an earlier film by its key, or None.
    """
    started, key = time.perf_counter(), ""
    try:
        image = read_radiograph(_bytes(film))
        image = image._replace(sha256=input_digest(image.pixels))
        stated = image.header is not None and image.header.sex in {"M", "F"}
        sex = film.sex or (None if stated else options.sex)
        key = sha256(repr((sex, *image[1:])).encode())[:32]
        row = known(key) or _row(runtime, image, sex, options)
    except Exception as error:  # a film never stops the others, whatever a library raises
        row, key = lost_film(runtime.bundle.sha256, film, error).row, ""
    seconds = round(time.perf_counter() - started, 4)
    return Scored(msgspec.structs.replace(row, id=film.id, seconds=seconds), key, film.origin)


def _bytes(film: Film) -> bytes:
    if film.fault:
        raise ImageError(film.fault)
    return read_place(os.fsdecode(film.path)) if film.member is None else film.data


def lost_film(bundle_sha256: str, film: Film, error: Exception) -> Scored:
    """Return the row of a film that could not be read."""
    text = safe_text(error)
    for name in ("the bytes", os.fsdecode(film.path)):
        text = text.removeprefix(f"{name}: ")
    text = text.encode("utf-8", "backslashreplace").decode()[:MAX_ERROR]
    row = Row(film.id, "error", sex=film.sex, bundle_sha256=bundle_sha256, error=text)
    return Scored(row, origin=film.origin)


def _row(runtime: Runtime, image: Radiograph, sex: Sex | None, options: Options) -> Row:
    found = runtime.predict(image, sex, allow_rejected=options.allow_rejected)
    low, high = found.interval_months or (None, None)
    return Row(
        "",
        found.quality.status,
        _rounded(found.age_months),
        _rounded(low),
        _rounded(high),
        found.sex,
        found.chronological_months,
        " ".join(found.quality.reasons),
        *found.box,
        input_sha256=found.input_sha256,
        bundle_sha256=found.bundle_sha256,
    )


def _rounded(months: float | None) -> float | None:
    return None if months is None else round(months, 2)
