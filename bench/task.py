"""The input of a benchmark: bundles, images and settings, all checked before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from bakit.bench.drift.compare import choose_references
from bakit.bench.report.document import DataInfo, Settings
from bakit.bench.statistics import RESAMPLES, SEED
from bakit.bundle import Bundle
from bakit.data.images import refuse_calibration_images
from bakit.data.labels import ids_digest, read_samples, take_part, thin
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bakit.bench.raw import Raw
    from bakit.data.labels import Sample
    from bakit.types import OnProgress

MAX_IMAGES = 32
"""Different images in the latency run; all of them are kept in memory."""

BLOCK = 10
"""Queries of one bundle in a row before the next bundle's turn."""


@dataclass(frozen=True)
class Task:
    """The input of one benchmark.

    Attributes:
        bundles: The bundles, at least one; their names differ.
        settings: How to measure.
        samples: Labelled images for drift; empty: measure latency only.
        data: The same, described; None without.
        references: The bundle that stands for the float model, by the digest of the checkpoint;
            empty without labelled images.
        measured_at: When the run began, in UTC.
    """

    bundles: Sequence[Bundle]
    settings: Settings
    samples: Sequence[Sample]
    data: DataInfo | None
    references: Mapping[str, Bundle]
    measured_at: str

    def reference(self, bundle: Bundle) -> Bundle:
        """Return the reference of a bundle."""
        return self.references[bundle.manifest.checkpoint_sha256]


class Device(Protocol):
    """A place where bundles run: this machine, one behind ssh, or a phone."""

    def measure(self, task: Task, on_progress: OnProgress) -> Raw:
        """Measure a task.

        Raises:
            BakitError: If nothing can be measured.
        """
        ...


def make_settings(
    min_queries: int,
    min_duration_s: float,
    warm_up: int,
    threads: int | None,
    *,
    block: int = BLOCK,
    sweep_threads: Sequence[int] = (),
) -> Settings:
    """Return settings under which a run ends and measures something.

    Raises:
        InputError: If a value is not possible.
    """
    least = [("min_queries", min_queries, 1), ("warm_up", warm_up, 0)]
    least += [("threads", number, 1) for number in (threads,) if number is not None]
    least += [("sweep_threads", number, 1) for number in sweep_threads]
    for name, value, minimum in least:
        _check_least(name, value, minimum)
    if not (math.isfinite(min_duration_s) and min_duration_s >= 0):
        message = f"min_duration_s={min_duration_s} is not possible; use 0 or more"
        raise InputError(message)
    sweep = tuple(dict.fromkeys(number for number in sweep_threads if number != threads))
    return Settings(min_queries, min_duration_s, warm_up, block, threads, RESAMPLES, SEED, sweep)


def _check_least(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        message = f"{name}={value} is not possible; use {minimum} or more"
        raise InputError(message)


def read_task(
    bundles: Sequence[Bundle | str | Path],
    data: str | Path | None,
    reference: Bundle | str | Path | None,
    limit: int | None,
    settings: Settings,
    *,
    with_reference: bool = False,
    check: Callable[[Sequence[Bundle]], None] = lambda _: None,
    phantoms: Callable[[], Path] | None = None,
) -> Task:
    """Read and check what to measure.

    Args:
        bundles: Bundles or their folders.
        data: A labelled folder, for drift.
        reference: A bundle that stands for the float model of its checkpoint; chosen among the
            bundles when None (``bakit.bench.drift.compare``).
        limit: Use this many of the labelled images, spread evenly over ``labels.csv``.
        settings: How to measure.
        with_reference: Measure ``reference`` with the others, as the last one.
        check: Called with the bundles before images are read; refuses what cannot run.
        phantoms: Makes a labelled folder where ``data`` is None.

    Raises:
        InputError: If there is no bundle, two bundles have one name, a checkpoint has no
            reference, ``reference`` or ``limit`` is given without labelled images, no image is
            left, or INT8 ranges are of some of them.
        BundleError: If a bundle is damaged.
        LabelsError: If the labels cannot be used.
    """
    if limit is not None:
        _check_least("limit", limit, 1)
    folder = phantoms if data is None else lambda: Path(data)
    if folder is None and (reference is not None or limit is not None):
        message = "reference and limit are for drift, which needs labelled images: give --data"
        raise InputError(message)
    chosen = read_bundles(bundles)
    everything = chosen if reference is None else read_bundles([*chosen, reference])
    measured = everything if with_reference else chosen
    check(measured)
    references: dict[str, Bundle] = {}
    samples: list[Sample] = []
    info = None
    if folder is not None:
        explicit = None if reference is None else _find(everything, reference)
        references = choose_references(everything, explicit)
        samples, info = read_data(folder(), limit, everything)
        refuse_calibration_images([sample.path for sample in samples], everything)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Task(measured, settings, samples, info, references, now)


def read_bundles(bundles: Sequence[Bundle | str | Path]) -> list[Bundle]:
    """Read each bundle, once where it is named twice.

    Raises:
        BundleError: If a bundle is damaged.
        InputError: If there is none, or two have one name.
    """
    found: dict[Path, Bundle] = {}
    names: dict[str, Path] = {}
    for given in bundles:
        root = _root(given)
        if root in found:
            continue
        bundle = given if isinstance(given, Bundle) else Bundle.read(Path(given))
        if bundle.name in names:
            message = (
                f"two bundles are called {bundle.name!r}: {names[bundle.name]} and {root}; "
                "reports tell bundles apart by name, so rename one"
            )
            raise InputError(message)
        found[root] = bundle
        names[bundle.name] = root
    if not found:
        message = "no bundle to measure; write one with: bakit export --target onnx"
        raise InputError(message)
    return list(found.values())


def _root(bundle: Bundle | str | Path) -> Path:
    return (bundle.root if isinstance(bundle, Bundle) else Path(bundle)).resolve()


def _find(bundles: Sequence[Bundle], wanted: Bundle | str | Path) -> Bundle:
    """Return the bundle that was read from the same folder."""
    return next(bundle for bundle in bundles if bundle.root.resolve() == _root(wanted))


def read_data(
    folder: Path, limit: int | None, bundles: Sequence[Bundle]
) -> tuple[list[Sample], DataInfo]:
    """Read the labelled folder, thinned evenly: a sorted ``labels.csv`` stays representative.

    If a bundle's model was trained on the folder, only its held-out test split is used.

    Raises:
        LabelsError: If the labels cannot be used.
        InputError: If no image is left.
    """
    everything = read_samples(folder)
    records = {b.manifest.checkpoint_sha256: b.manifest.split for b in bundles}
    held_out = take_part(everything, [record for record in records.values() if record])
    part: Literal["all", "test"] = "all" if held_out is None else "test"
    usable = everything if held_out is None else held_out
    if not usable:
        message = f"{folder}: no image that all bundles' models were not trained on"
        raise InputError(message)
    samples = thin(usable, limit)
    name = folder.resolve().name
    return samples, DataInfo(name, len(samples), part, len(usable), ids_digest(samples))
