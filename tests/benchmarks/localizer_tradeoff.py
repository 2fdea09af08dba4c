"""What smaller settings of the unrolled localizer cost in boxes and save in time.

    python tests/benchmarks/localizer_tradeoff.py --out out
    python tests/benchmarks/localizer_tradeoff.py --out out --originals originals

Every image goes through all settings in turns; the time of a setting is relative to that of the
default on the same image. Writes ``localizer-tradeoff.md``, ``.png`` and, after every image,
``.json``, with which a run that was cut off goes on. Originals are a folder with ``images/`` and
the boxes in ``labels.csv`` (id, x0, y0, x1, y1). On two idle cores it takes ten seconds an image.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bakit.export.onnx.localizer import open_localizer
from bakit.figures import new_figure, save_figures
from bakit.hand.prepare import OpenLocalizer, find
from bakit.hand.unrolled import initial_weights
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.phantoms import make_phantom
from bakit.settings import Preprocessing, UnrolledSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.figure import Figure

    from bakit.session import Session, Tensors
    from bakit.types import Grey

CHANNELS = (4, 8, 16, 32)
SIZES = (32, 48, 64, 96)
STEPS = (10, 20, 30, 50)
DEFAULT = UnrolledSettings()
GOOD = 0.7
MARKERS = "o^sDv"
COLOURS = ("#c05621", "#b7791f", "#2b6cb0", "#4a5568", "#2f855a")


class Row(NamedTuple):
    """One setting: the overlaps by kind of image, and its time relative to the default."""

    settings: UnrolledSettings
    overlaps: dict[str, list[float]]
    times: list[float]

    @property
    def time(self) -> float:
        return statistics.median(self.times)

    def mean(self, kind: str) -> float:
        return statistics.fmean(self.overlaps[kind])


class Timed:
    """A session that remembers how long its last run took: choosing the hand is not counted."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.provider = session.provider
        self.seconds = 0.0

    def run(self, feeds: Tensors) -> Tensors:
        started = time.perf_counter()
        outputs = self.session.run(feeds)
        self.seconds = time.perf_counter() - started
        return outputs


def main() -> None:
    """Run and write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--originals", type=Path, help="folder with images/ and labels.csv")
    parser.add_argument("--phantoms", type=int, default=16)
    parser.add_argument("--paper", action="store_true", help="also p = q = 90, 128 pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = [
        Row(_settings(p, size, steps), {}, []) for p, size, steps in product(CHANNELS, SIZES, STEPS)
    ]
    if given.paper:
        rows.append(Row(_settings(90, 128, 50), {}, []))
    sessions = [
        Timed(open_localizer(initial_weights(row.settings), row.settings, given.threads).session)
        for row in rows
    ]
    given.out.mkdir(parents=True, exist_ok=True)
    notes = given.out / "localizer-tradeoff.json"
    known = json.loads(notes.read_text()) if notes.exists() else {}
    for kind, name, load in _pictures(given.phantoms, given.originals):
        measured = known.setdefault(name, [])[: len(rows)]
        if len(measured) < len(rows):
            grey, box = load()
            for row, session in list(zip(rows, sessions, strict=True))[len(measured) :]:
                found = find(grey, OpenLocalizer(session, row.settings), Preprocessing())[1].box
                measured.append((box.iou(found) if found else 0.0, session.seconds))
            known[name] = measured
            notes.write_text(json.dumps(known))
        base = measured[[row.settings for row in rows].index(DEFAULT)][1]
        for row, (overlap, seconds) in zip(rows, measured, strict=True):
            row.overlaps.setdefault(kind, []).append(overlap)
            row.times.append(seconds / base)
    text = f"{_table(_one_at_a_time(rows))}\n\n{_table(rows)}\n"
    (given.out / "localizer-tradeoff.md").write_text(text)
    pictures: dict[str, Callable[[], Figure]] = {"localizer-tradeoff.png": lambda: _plot(rows)}
    save_figures(pictures, given.out)
    print(text)


def _settings(channels: int, size: int, steps: int) -> UnrolledSettings:
    return msgspec.structs.replace(
        DEFAULT, features=channels, labels=channels, size=size, steps=steps
    )


def _pictures(
    phantoms: int, originals: Path | None
) -> Iterator[tuple[str, str, Callable[[], tuple[Grey, Box]]]]:
    """Yield each image's kind and name, and what loads it with its true box."""
    if originals:
        with (originals / "labels.csv").open(newline="") as file:
            boxes = {
                row["id"]: Box(*(int(float(row[side])) for side in ("x0", "y0", "x1", "y1")))
                for row in csv.DictReader(file)
            }
        for path in sorted((originals / "images").iterdir()):
            yield "radiographs", path.stem, lambda path=path: (decode(path), boxes[path.stem])
    for seed in range(1000, 1000 + phantoms):
        yield "phantoms", f"phantom {seed}", lambda seed=seed: _phantom(seed)


def _phantom(seed: int) -> tuple[Grey, Box]:
    phantom = make_phantom(seed)
    return decode(phantom.image), phantom.box


def _one_at_a_time(rows: list[Row]) -> list[Row]:
    """Return the settings that differ from the default in one number, and the paper's."""

    def changes(row: Row) -> int:
        ours, default = row.settings, DEFAULT
        return sum(
            (
                ours.features != default.features,
                ours.size != default.size,
                ours.steps != default.steps,
            )
        )

    return [row for row in rows if changes(row) < 2 or row.settings.features == 90]


def _table(rows: list[Row]) -> str:
    kinds = list(rows[0].overlaps)
    heads = [f"{kind}: mean IoU | at {GOOD} or more" for kind in kinds]
    lines = [
        f"| p = q | pixels | steps | {' | '.join(heads)} | time |",
        "| --- | --- | --- |" + " --- | --- |" * len(kinds) + " --- |",
    ]
    for row in rows:
        chosen = row.settings
        cells = []
        for kind in kinds:
            values = row.overlaps[kind]
            good = sum(value >= GOOD for value in values)
            cells.append(f"{row.mean(kind):.3f} | {good} of {len(values)}")
        lines.append(
            f"| {chosen.features} | {chosen.size} | {chosen.steps} | {' | '.join(cells)} | "
            f"{row.time:.2f} |"
        )
    return "\n".join(lines)


def _plot(rows: list[Row]) -> Figure:
    """Draw mean overlap over time, a line over the steps of each size and number of channels."""
    kinds = list(rows[0].overlaps)
    figure = new_figure(4.2 * len(kinds) + 1.2, 3.8)
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    sizes = sorted({row.settings.size for row in rows})
    channels = sorted({row.settings.features for row in rows})
    for axes, kind in zip(panels, kinds, strict=True):
        for size, p in product(sizes, channels):
            line = [r for r in rows if (r.settings.size, r.settings.features) == (size, p)]
            axes.plot(
                [row.time for row in line],
                [row.mean(kind) for row in line],
                marker=MARKERS[channels.index(p)],
                color=COLOURS[sizes.index(size)],
                markersize=4,
                linewidth=0.7,
                alpha=0.8,
            )
        default = next(row for row in rows if row.settings == DEFAULT)
        axes.plot(
            default.time, default.mean(kind), "o", markersize=13, fillstyle="none", color="black"
        )
        axes.set_xscale("log")
        axes.set_title(kind)
        axes.set_xlabel("time, the default's is 1 (ringed)")
        axes.set_ylabel("mean IoU of the box")
    for size, colour in zip(sizes, COLOURS, strict=False):
        panels[-1].plot([], [], color=colour, label=f"{size} pixels")
    for p, marker in zip(channels, MARKERS, strict=False):
        panels[-1].plot([], [], marker, color="#4a5568", markersize=4, label=f"p = q = {p}")
    figure.legend(loc="outside right center", fontsize=8)
    return figure


if __name__ == "__main__":
    main()
