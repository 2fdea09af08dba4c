"""What a benchmark is given: bundles, images, settings. All is checked before it starts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bakit.bench.local.process import Query
from bakit.bench.report.document import DataInfo, Settings
from bakit.bundle import Bundle
from bakit.data.labels import ids_digest, read_samples, take_part, thin
from bakit.errors import InputError
from bakit.image.read import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.data.labels import Sample

MAX_IMAGES = 32
"""Different images in the latency run; all of them are kept in memory."""


def check_settings(settings: Settings, limit: int | None) -> None:
    """Refuse settings under which a run would never end or measure nothing.

    Raises:
        InputError: If a value is not possible.
    """
    least = [("min_queries", settings.min_queries, 1), ("warm_up", settings.warm_up, 0)]
    least += [("sweep_threads", threads, 1) for threads in settings.sweep_threads]
    for name, value in (("limit", limit), ("threads", settings.threads)):
        if value is not None:
            least.append((name, value, 1))
    for name, value, minimum in least:
        if value < minimum:
            message = f"{name}={value} is not possible; use {minimum} or more"
            raise InputError(message)
    if not (math.isfinite(settings.min_duration_s) and settings.min_duration_s >= 0):
        message = f"min_duration_s={settings.min_duration_s} is not possible; use 0 or more"
        raise InputError(message)


def check_batch(batch: int, bundles: Sequence[Bundle]) -> None:
    """Refuse a number of images that the models do not take at once.

    Raises:
        InputError: If a bundle's regressor was exported for another number.
    """
    for bundle in bundles:
        exported = bundle.artifact("regressor").inputs[0].shape[0]
        if batch != exported:
            message = (
                f"batch={batch}: {bundle.name} was exported with static shapes for {exported} "
                "image at a time, as a device sees them; bench it without --batch"
            )
            raise InputError(message)


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


def find_bundle(bundles: Sequence[Bundle], wanted: Bundle | str | Path) -> Bundle:
    """Return the bundle that was read from the same folder."""
    return next(bundle for bundle in bundles if bundle.root.resolve() == _root(wanted))


def read_data(
    folder: Path, limit: int | None, bundles: Sequence[Bundle]
) -> tuple[list[Sample], DataInfo]:
    """Read the labelled folder, thinned evenly: a sorted ``labels.csv`` stays representative.

    Of a folder that a bundle's model was trained on, only the test part is used.

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


def make_queries(bundles: Sequence[Bundle], samples: Sequence[Sample]) -> list[Query]:
    """Choose the images of the latency run, the same for every bundle.

    Raises:
        ImageError: If an image cannot be used.
        InputError: If there are neither labelled images nor golden ones.
    """
    if samples:
        for sample in samples[:MAX_IMAGES]:
            decode(sample.path)  # an error here names the file; there, it is bytes
        return [Query(sample.path, "M" if sample.male else "F") for sample in samples[:MAX_IMAGES]]
    golden = {
        (item.sha256, item.sex): Query(bundle.root / item.path, item.sex)
        for bundle in bundles
        for item in bundle.manifest.golden
    }
    if not golden:
        message = f"{bundles[0].name}: no golden images in the bundle; give --data"
        raise InputError(message)
    return list(golden.values())


def model_sizes(bundle: Bundle) -> tuple[dict[str, float], float]:
    """Return the size of each role's files and of all files, in 10^6 bytes."""
    sizes: dict[str, float] = {
        artifact.role: sum((bundle.root / path).stat().st_size for path in artifact.files) / 1e6
        for artifact in bundle.manifest.artifacts
    }
    return sizes, bundle.size_bytes / 1e6
