"""DICOM through the shipped model: forms of one film, and pydicom's own test files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("onnxruntime")

from pydicom.uid import RLELossless  # noqa: E402

from bakit.errors import BakitError  # noqa: E402
from bakit.image.read import read_radiograph  # noqa: E402
from bakit.phantoms import make_phantom  # noqa: E402
from bakit.runtime import Runtime  # noqa: E402
from tests.test_dicom import dataset, stored  # noqa: E402

FILES = sorted((Path(pydicom.__file__).parent / "data/test_files").glob("*.dcm"))
FILM = make_phantom(6300, height=400, nuisances=()).image.astype(np.uint16) * 16 + 5


@pytest.fixture(scope="module")
def runtime(shipped):
    with Runtime(shipped, 1) as opened:
        yield opened


def framed(value, pixels=FILM):
    return np.pad(pixels, ((70, 30), (110, 50)), constant_values=value)


FORMS = {
    "padding": lambda: stored(dataset(framed(65535), 12, PixelPaddingValue=65535)),
    "negative slope": lambda: stored(
        dataset(
            4095 - FILM,
            12,
            RescaleSlope="-1",
            RescaleIntercept="4095",
            WindowCenter="2048",
            WindowWidth="4096",
        )
    ),
    "MONOCHROME1, padding": lambda: stored(
        dataset(
            framed(0, 4095 - FILM), 12, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1"
        )
    ),
    "HighBit 15, RLE": lambda: stored(dataset(FILM, 12), RLELossless),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_age_is_that_of_the_png(runtime, name):
    png = cv2.imencode(".png", np.rint(FILM * (65535 / 4095)).astype(np.uint16))[1].tobytes()
    expected = runtime.predict(png, "F", allow_rejected=True)
    found = runtime.predict(FORMS[name](), "F", allow_rejected=True)
    assert found.age_months == pytest.approx(expected.age_months, abs=0.1)
    x, y = (110, 70) if "padding" in name else (0, 0)
    shifted = np.add(expected.box, (x, y, x, y))
    assert np.abs(np.array(found.box) - shifted).max() <= 1


def test_pydicom_s_own_files_have_no_accepted_age_and_one_line(runtime):
    """None of them shows a hand."""
    if not FILES:
        pytest.skip("this pydicom has no test files")
    results = runtime.predict_many(FILES, "F", threads=1)
    for path, result in zip(FILES, results, strict=True):
        if isinstance(result, BakitError):
            text = str(result).removeprefix(f"{path}: ")
            assert len(text.splitlines()) == 1
            assert "Error" not in text, text
            assert "pip install" not in text, text
        else:
            assert result.quality.status != "accept", path.name


@pytest.mark.parametrize("path", [path for path in FILES if "NoMeta" in path.name])
def test_files_without_meta_information_are_recognized(path):
    with pytest.raises(BakitError) as caught:
        read_radiograph(path)
    assert "not a supported image" not in str(caught.value)
