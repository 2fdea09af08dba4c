"""Write phantoms as a labelled folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from bakit.errors import InputError
from bakit.files import new_folder
from bakit.phantoms.phantom import make_phantom
from bakit.types import silent, track

if TYPE_CHECKING:
    from bakit.types import OnProgress

COLUMNS = ("id", "boneage", "male", "x0", "y0", "x1", "y1")


def write_phantoms(
    out: Path,
    count: int,
    *,
    seed: int = 0,
    height: int = 640,
    on_progress: OnProgress = silent,
) -> Path:
    """Write phantoms atomically as a labelled folder: `images/<id>.png` and `labels.csv`.

    Args:
        out: Output folder; missing or empty.
        count: Number of phantoms; seeds and ids are `seed` to `seed + count - 1`.
        seed: First seed.
        height: Rows of every image, pixels.
        on_progress: Called after each phantom.

    Returns:
        `out`.

    Raises:
        InputError: `out` is in use, or `count` is below 1.
        OSError: An image cannot be written.
    """
    out = Path(out)
    if count < 1:
        message = f"count must be at least 1, got {count}"
        raise InputError(message)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        message = f"{out} already exists and is not an empty folder: name a new one"
        raise InputError(message)
    with new_folder(out) as folder:
        (folder / "images").mkdir()
        with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS)
            for number in track(range(seed, seed + count), "drawing phantoms", on_progress):
                phantom = make_phantom(number, height=height)
                path = folder / "images" / f"{number}.png"
                path.write_bytes(cv2.imencode(".png", phantom.image)[1].tobytes())
                writer.writerow((number, f"{phantom.age_months:.1f}", phantom.male, *phantom.box))
    return out
