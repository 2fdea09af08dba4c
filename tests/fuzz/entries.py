"""The public entry points that outside data reaches, with inputs to damage."""

from __future__ import annotations

import importlib.util
import io
import shutil
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from bakit.bench import Gate, read_report, run_bench
from bakit.bench.gate.recount import check_figures
from bakit.bundle import MANIFEST, Bundle, seal
from bakit.data.labels import read_samples
from bakit.errors import BakitError
from bakit.export import export_bundle
from bakit.export.check import PROFILES
from bakit.export.check.run import check_paths
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.phantoms import make_phantom, write_phantoms
from bakit.runtime import Runtime
from bakit.types import Precision
from tests.bad_graphs import BAD
from tests.fuzz.mutate import BYTES, TEXT, mutate, with_checksums

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path


class Entry(NamedTuple):
    """An entry point.

    Attributes:
        seeds: Inputs that it takes.
        ways: Ways to damage them.
        call: Hands an input over.
    """

    seeds: list[bytes]
    ways: Sequence[Callable[[bytearray, random.Random], None]]
    call: Callable[[bytes], object]


def prepare(folder: Path) -> Path:
    """Export the bundle that is run and damaged, if it is not there; measure it for a report."""
    bundle = folder / "bundle"
    if not bundle.exists():
        export_bundle(Checkpoint.read(SHIPPED), "onnx", Precision.FP32, bundle)
    write_phantoms(folder / "data", 12, height=96)
    report = run_bench([bundle], folder / "data", min_queries=1, min_duration_s=0, warm_up=0)
    report.write(folder / "report.json")
    return folder


def entries(prepared: Path, work: Path) -> dict[str, Entry]:
    """Return all entry points by name.

    Args:
        prepared: What ``prepare`` made.
        work: An empty folder of this process's own.
    """
    runtime = Runtime(prepared / "bundle", threads=1)
    found = {
        "png": Entry(_images(".png"), BYTES, lambda data: runtime.predict(data, "F")),
        "jpeg": Entry(_images(".jpg"), BYTES, lambda data: runtime.predict(data, "M")),
        "manifest": _manifest(prepared / "bundle", work / "bundle"),
        "labels": _labels(work / "labels"),
        "report": _report(prepared / "report.json", work),
        "checkpoint": _checkpoint(work),
        "onnx": _onnx(work),
    }
    if importlib.util.find_spec("pydicom") and importlib.util.find_spec("bakit.image.dicom"):
        found["dicom"] = Entry(_dicom(), BYTES, lambda data: runtime.predict(data, "F"))
    return found


def damaged(name: str, entry: Entry, draw: random.Random) -> bytes:
    """Return one damaged input."""
    data = mutate(entry.seeds, draw, entry.ways)
    return with_checksums(data) if name == "png" and draw.random() < 0.7 else data


def attempt(entry: Entry, data: bytes) -> str:
    """Hand an input over; return ``taken`` or ``refused``. Any other error is a finding."""
    try:
        entry.call(data)
    except BakitError:
        return "refused"
    return "taken"


def _images(suffix: str) -> list[bytes]:
    grey = make_phantom(3, height=96).image
    deep = grey.astype(np.uint16) * 257
    colour = np.dstack([grey, grey // 2, grey])
    pictures = [grey, colour, deep] if suffix == ".png" else [grey, colour]
    options = [[]] if suffix == ".png" else [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]]
    return [
        cv2.imencode(suffix, picture, option)[1].tobytes()
        for picture in pictures
        for option in options
    ]


def _dicom() -> list[bytes]:
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
        RLELossless,
    )

    grey = make_phantom(3, height=96).image
    found = []
    coded = {JPEG2000Lossless: ".jp2", JPEGBaseline8Bit: ".jpg"}
    for syntax in (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        *coded,
    ):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax is RLELossless else syntax
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.Modality = meta.MediaStorageSOPClassUID, "CR"
        data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        data.PatientSex, data.PatientBirthDate, data.StudyDate = "F", "20100101", "20200101"
        data.Rows, data.Columns = grey.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.RescaleSlope, data.RescaleIntercept = "1", "0"
        data.WindowCenter, data.WindowWidth = "2000", "4000"
        data.PixelPaddingValue, data.ShutterShape = 0, "CIRCULAR"
        data.CenterOfCircularShutter, data.RadiusOfCircularShutter = [40, 40], 60
        if syntax is ImplicitVRLittleEndian:
            item = Dataset()
            item.LUTDescriptor = [4096, 0, 12]
            item.add_new("LUTData", "OW", np.arange(4096, dtype="<u2").tobytes())
            data.VOILUTSequence = [item]
        data.PixelData = (grey.astype(np.uint16) * 16).tobytes()
        if syntax is RLELossless:
            data.compress(RLELossless)
        if syntax in coded:
            picture = cv2.imencode(coded[syntax], grey)[1].tobytes()
            data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
            data.PixelData = encapsulate([picture[max(picture.find(b"\xff\x4f\xff\x51"), 0) :]])
        stream = io.BytesIO()
        data.save_as(stream, enforce_file_format=True)
        found.append(stream.getvalue())
    return found


def _onnx(work: Path) -> Entry:
    path = work / "graph.onnx"
    names = ("operator-in-loop", "same-names", "function", "int32-bias", "crop", "big-index")
    seeds = [BAD[name].model.SerializeToString() for name in names]

    def call(data: bytes) -> None:
        path.write_bytes(data)
        check_paths([path], list(PROFILES))

    return Entry(seeds, BYTES, call)


def _manifest(bundle: Path, copy: Path) -> Entry:
    shutil.copytree(bundle, copy)

    def call(data: bytes) -> None:
        (copy / MANIFEST).write_bytes(data)
        seal(copy)
        Bundle.read(copy)

    return Entry([(bundle / MANIFEST).read_bytes()], TEXT, call)


def _labels(folder: Path) -> Entry:
    (folder / "images").mkdir(parents=True)
    for name in "abc":
        (folder / "images" / f"{name}.png").write_bytes(_images(".png")[0])
    seeds = [
        b"id,boneage,male\na,120,True\nb,60.5,False\nc,12,True\n",
        b"\xef\xbb\xbfid,male,boneage\r\na,True,120\r\nb,False,60\r\nc,True,7\r\n",
        'id,boneage,male,note\n"a",120,True,"x, y"\nb,60,False,ü\nc,1e2,True,\n'.encode(),
    ]

    def call(data: bytes) -> None:
        (folder / "labels.csv").write_bytes(data)
        read_samples(folder)

    return Entry(seeds, TEXT, call)


def _report(report: Path, work: Path) -> Entry:
    path = work / "report.json"
    gate = Gate(max_p90_ms=1000, max_size_mb=100)

    def call(data: bytes) -> None:
        path.write_bytes(data)
        report = read_report(path)
        gate.check(report)
        check_figures(report)

    return Entry([report.read_bytes()], TEXT, call)


def _checkpoint(work: Path) -> Entry:
    path, data = work / "damaged.safetensors", SHIPPED.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header, tensors = data[:end], data[end:]
    path.write_bytes(data)

    def call(data: bytes) -> None:
        # The header is what is parsed; the tensors stay, wherever it then says that they are.
        text = data if data[:8] != header[:8] else len(data[8:]).to_bytes(8, "little") + data[8:]
        with path.open("r+b") as file:
            file.write(text + tensors[:1000])
        Checkpoint.read(path)

    return Entry([header], TEXT, call)
