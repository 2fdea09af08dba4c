"""The input of a benchmark: bundles, images and settings, checked before the run starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bakit.bench.drift.compare import choose_references
from bakit.bench.report.document import DataInfo, Settings
from bakit.bundle import Bundle
from bakit.data.images import refuse_calibration_images
from bakit.data.labels import read_samples
from bakit.data.splits import ids_digest, take_part, thin
from bakit.errors import InputError
from bakit.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bakit.bench.raw import Raw
    from bakit.data.labels import Sample
    from bakit.types import OnProgress

MAX_IMAGES = 32
"""Maximum number of images in the latency run; they are kept in memory."""

BLOCK = 10
"""Consecutive queries of one bundle before the next bundle runs."""


@dataclass(frozen=True)
class Task:
    """The input of one benchmark.

    Attributes:
        bundles: The bundles, at least one, with different names.
        settings: Number of queries, duration, warm-up and threads.
        samples: Labelled images for drift; if empty, only latency is measured.
        data: Description of the labelled images; None without them.
        references: The bundle used as the float model, by the digest of its checkpoint; empty
            without labelled images.
        measured_at: Start of the run, in UTC.
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
    """A device that runs bundles: this machine, a device over ssh, or a phone."""

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
    """Check and return the settings of a run.

    Raises:
        InputError: If a value is not possible.
    """
    limits = [("min_queries", min_queries, 1), ("warm_up", warm_up, 0)]
    limits += [("threads", number, 1) for number in (threads,) if number is not None]
    limits += [("sweep_threads", number, 1) for number in sweep_threads]
    for name, value, minimum in limits:
        _check_minimum(name, value, minimum)
    if not (math.isfinite(min_duration_s) and min_duration_s >= 0):
        message = f"min_duration_s={min_duration_s} is not possible; use 0 or more"
        raise InputError(message)
    sweep = tuple(dict.fromkeys(number for number in sweep_threads if number != threads))
    return Settings(min_queries, min_duration_s, warm_up, block, threads, sweep_threads=sweep)


def _check_minimum(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        message = f"{name}={value} is not possible; use {minimum} or more"
        raise InputError(message)


def make_task(
    bundles: Sequence[Bundle | str | Path],
    data: str | Path | None = None,
    reference: Bundle | str | Path | None = None,
    limit: int | None = None,
    min_queries: int = 400,
    min_duration_s: float = 5.0,
    warm_up: int = 10,
    threads: int | None = None,
    sweep_threads: Sequence[int] = (),
    **how: Any,  # noqa: ANN401  # of several types
) -> Task:
    """Check the arguments of ``bakit.bench.run_bench``, and ``how``, those of ``read_task``."""
    settings = make_settings(
        min_queries, min_duration_s, warm_up, threads, sweep_threads=sweep_threads
    )
    return read_task(bundles, data, reference, limit, settings, **how)


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
    """Read and check the bundles and the labelled images; see ``run_bench`` for what they are.

    ``with_reference`` measures the reference too, after the other bundles. ``check`` is called with
    the bundles before images are read, and raises if one cannot run. ``phantoms`` writes a labelled
    folder, used if ``data`` is None.

    Raises:
        InputError: If there is no bundle, two bundles have the same name, a checkpoint has no
            reference, ``reference`` or ``limit`` is given without labelled images, no image is
            left, or a bundle was calibrated on some of the images.
        BundleError: If a bundle is damaged.
        LabelsError: If the labels cannot be used.
    """
    if limit is not None:
        _check_minimum("limit", limit, 1)
    folder = phantoms if data is None else lambda: Path(data)
    if folder is None and (reference is not None or limit is not None):
        message = "--reference and --limit apply to drift, which needs labelled images: add --data"
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
        refuse_calibration_images(samples, everything)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Task(measured, settings, samples, info, references, now)


def read_bundles(bundles: Sequence[Bundle | str | Path]) -> list[Bundle]:
    """Read the bundles; a repeated bundle is read once.

    Raises:
        BundleError: If a bundle is damaged.
        InputError: If there is no bundle, or two have the same name.
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
                f"two bundles have the name {bundle.name!r}: {names[bundle.name]} and {root}; "
                "names must be unique in a report, so rename one"
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
    """Read the labelled images; ``limit`` selects rows spread evenly over ``labels.csv``.

    Images that a bundle's model was trained or selected on are left out, in any folder.

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
        message = (
            f"{folder}: one of the models was trained or selected on all {len(everything)} images; "
            "use other images. If they are other images of the same ids, rename them"
        )
        raise InputError(message)
    samples = thin(usable, limit)
    name = printable(folder.resolve().name)
    left_out = len(everything) - len(usable)
    return samples, DataInfo(name, len(samples), part, len(usable), ids_digest(samples), left_out)
