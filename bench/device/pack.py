"""The work folder that the agent measures from: bundles, prepared images and settings.

A device without OpenCV cannot decode or preprocess. Here the reference bundle does both for every
image: the agent gets the localizer's working image and the regressor's crop. A device's localizer
therefore moves no crop: its boxes are compared separately, and drift is the regressor's alone.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

import bakit
from bakit import agent
from bakit.agent import ENGINES, rough_box
from bakit.bench.drift.compare import check_age
from bakit.bench.raw import Reading
from bakit.bench.task import read_task
from bakit.bundle import MANIFEST, encode_manifest
from bakit.errors import InputError
from bakit.files import write_file
from bakit.hand.prepare import crop, to_bytes
from bakit.hand.working import working_image
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.prediction import is_male
from bakit.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import numpy.typing as npt

    from bakit.bench.report.document import Settings
    from bakit.bench.task import Task
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.types import Grey, OnProgress

    Row = dict[str, npt.NDArray[Any] | float | bool]

AGENT = Path(agent.__file__)

TURNS = 6
"""Turns of each bundle, if there are several: each opens the bundle again, which takes seconds."""


@dataclass(frozen=True)
class AgentOptions:
    """How a device measures, besides the task's settings.

    Attributes:
        engine: ``auto``, ``tensorrt``, ``trtexec`` or ``onnxruntime``.
        allow_downgrade: Build INT8 bundles as FP16 where the GPU has no INT8 unit.
        workspace_mb: Memory that TensorRT's builder may use, in 2^20 bytes.
        warm_up_s: Least time in the predictions before the first query that counts.
        energy_s: Length of the run that energy is measured in; 0: none.
        cache: Where the device keeps its engines.
        provider: Provider of ONNX Runtime by its name there; None: the CPU.
    """

    engine: str = "auto"
    allow_downgrade: bool = False
    workspace_mb: int = 256
    warm_up_s: float = 1.0
    energy_s: float = 10.0
    cache: str = ENGINES
    provider: str | None = None


def write_job(
    folder: Path,
    task: Task,
    options: AgentOptions,
    *,
    keep: bool = False,
    on_progress: OnProgress = lambda step, done, total: None,
) -> dict[str, tuple[Reading, ...]]:
    """Write a work folder into an empty one; ``keep`` leaves the images on the device.

    Returns:
        Ages by the reference of each checkpoint, which runs here, by its digest.

    Raises:
        BakitError: If an image cannot be used or a bundle cannot be run here.
    """
    shutil.copyfile(AGENT, folder / "agent.py")
    keys = [_samples_key(bundle, task) for bundle in task.bundles] if task.samples else []
    sets = {key: f"samples-{number}.npz" for number, key in enumerate(dict.fromkeys(keys))}
    done, total = count(1), len(task.bundles) + len(sets) * len(task.samples)

    def advance() -> None:
        on_progress("prepare", next(done), total)

    entries = []
    references: dict[str, tuple[Reading, ...]] = {}
    for index, bundle in enumerate(task.bundles):
        name, golden = f"bundle-{index}", f"golden-{index}.npz"
        _copy_sealed(bundle, folder / name)
        _write_arrays(folder / golden, _golden_rows(bundle))
        entry = {"name": bundle.name, "folder": name, "golden": golden}
        if task.samples:
            entry["samples"] = sets[keys[index]]
            if not (folder / entry["samples"]).exists():
                reference = task.reference(bundle)
                rows, readings = _sample_rows(bundle, reference, task.samples, advance)
                _write_arrays(folder / entry["samples"], rows)
                references[reference.manifest.checkpoint_sha256] = readings
        entries.append(entry)
        advance()
    job = {
        "version": 2,
        "bakit": bakit.__version__,
        "keep": keep,
        "settings": msgspec.to_builtins(task.settings)
        | asdict(options)
        | {"turns": TURNS if len(task.bundles) > 1 else 1},
        "ids": [sample.id for sample in task.samples],
        "bundles": entries,
    }
    (folder / "job.json").write_text(json.dumps(job, indent=2), encoding="utf-8")
    return references


KIT = "bakit-kit"
"""Folder in a kit."""


def write_kit(
    path: Path, bundles: Sequence[Bundle | str | Path], settings: Settings, options: AgentOptions
) -> None:
    """Write a kit: all that measures bundles on a board without a network, as ``.tar.gz``.

    It has the bundles and their generated phantoms, and no radiograph. On the board,
    ``python3 bakit-kit/agent.py evidence`` writes one file (``bakit.bench.device.evidence``).

    Raises:
        BakitError: If a bundle cannot be run here, or the file cannot be written.
    """
    task = read_task(bundles, None, None, None, settings)
    for bundle in task.bundles:
        if bundle.manifest.target not in {"onnx", "tensorrt"}:
            message = f"{bundle.name}: a kit measures onnx and tensorrt bundles"
            raise InputError(message)
    data = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="bakit-kit-") as folder:
        write_job(Path(folder), task, options, keep=True)
        with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as archive:
            archive.add(folder, KIT, filter=private)
    write_file(path, data.getvalue())


def private(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Let nobody but the user of the device read a file; root unpacks it as its own.

    The clock of a board without a battery is years behind: tar would warn of files of the future.
    """
    member.mode = 0o700 if member.isdir() else 0o600
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 10**9
    return member


def _samples_key(bundle: Bundle, task: Task) -> Hashable:
    """Return what decides the prepared images: bundles that agree in it share them."""
    manifest = bundle.manifest
    return task.reference(bundle).sha256, manifest.preprocessing, manifest.localizer


def _copy_sealed(bundle: Bundle, to: Path) -> None:
    """Copy the manifest and what it seals; nothing else that lies in the folder."""
    (to / MANIFEST).parent.mkdir()
    (to / MANIFEST).write_bytes(encode_manifest(bundle.manifest))
    for name in bundle.files.digests:
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bundle.files.read(name))


def _golden_rows(bundle: Bundle) -> list[Row]:
    """Return the bundle's phantoms with the ages of its export, on the crops of its export."""
    rows: list[Row] = []
    for golden in bundle.manifest.golden:
        grey = decode(bundle.files.read(golden.path))
        pixels = crop(grey, golden.box, golden.inverted, bundle.manifest.preprocessing, golden.turn)
        working = working_image(grey, bundle.manifest.localizer.size)
        row = _inputs(working, pixels, male=is_male(golden.sex))
        row["bundle_months"], row["float_months"] = golden.bundle_months, golden.age_months
        rows.append(row)
    return rows


def _sample_rows(
    bundle: Bundle, reference: Bundle, samples: Sequence[Sample], on_image: Callable[[], None]
) -> tuple[list[Row], tuple[Reading, ...]]:
    """Return labelled images as the bundle's models read them, and the reference's ages."""
    rows: list[Row] = []
    readings = []
    with Runtime(reference) as runtime:
        for sample in samples:
            grey = decode(sample.path)
            hand = runtime.prepare(grey)
            found = hand.localizer_output
            # The bundle may be of another checkpoint than the reference: with other crops.
            box, inverted, turn = hand.found.place
            pixels = crop(grey, box, inverted, bundle.manifest.preprocessing, turn)
            size = bundle.manifest.localizer.size
            working = working_image(grey, size) if found is None else found.working
            rows.append(_inputs(working, pixels, male=sample.male))
            age = check_age(runtime.regress(hand.pixels, male=sample.male), reference, sample)
            box = None if found is None else Box(*rough_box(found.output))
            readings.append(Reading(sample.id, age, box))
            on_image()
    return rows, tuple(readings)


def _inputs(working: Grey, pixels: Grey, *, male: bool) -> Row:
    """Return what the two models of a bundle are fed."""
    return {"working": working, "crops": to_bytes(pixels), "male": male}


def _write_arrays(path: Path, rows: Sequence[Row]) -> None:
    arrays: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    np.savez(path, **arrays)
