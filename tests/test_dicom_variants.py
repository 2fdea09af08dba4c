"""One film in many legal forms of DICOM: the grey values after the value path are those of the PNG.

Grey values are compared, since equal ones give equal ages and take no model. A difference below a
thousandth is a quarter of one of the 256 levels that the crop is rounded to. A few variants are run
through the shipped model below.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset  # noqa: E402
from pydicom.uid import (  # noqa: E402
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from bakit.errors import ImageError  # noqa: E402
from bakit.image.read import decode, read_radiograph  # noqa: E402
from bakit.phantoms import make_phantom  # noqa: E402
from tests.test_dicom import dataset, stored  # noqa: E402

BYTES = make_phantom(6100, height=96, nuisances=()).image[:80]
FILM = BYTES.astype(np.uint16) * 16 + 5  # 12 bits, 5 to 4085
GREY = FILM / 4095
GREY_8 = BYTES / 255
FULL = {"WindowCenter": "2048", "WindowWidth": "4096"}
MONOCHROME1 = {"PhotometricInterpretation": "MONOCHROME1"}
LEVEL = 1e-3


def film(pixels=FILM, bits=12, syntax=ExplicitVRLittleEndian, **fields):
    return stored(dataset(np.ascontiguousarray(pixels), bits, **fields), syntax)


def film_8(pixels=BYTES, **fields):
    return film(pixels, 8, **fields)


def big_endian(pixels=FILM, bits=12, **fields):
    data = dataset(pixels, bits, **fields)
    data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    data.PixelData = pixels.astype(">u2").tobytes()
    out = io.BytesIO()
    data.save_as(out, implicit_vr=False, little_endian=False, enforce_file_format=True)
    return out.getvalue()


def bare(syntax, preamble=b""):
    """Return a file without meta information."""
    data = dataset(FILM, 12)
    if syntax is ExplicitVRBigEndian:
        data.PixelData = FILM.astype(">u2").tobytes()
    del data.file_meta
    out = io.BytesIO()
    kinds = {"implicit_vr": syntax.is_implicit_VR, "little_endian": syntax.is_little_endian}
    data.save_as(out, **kinds, enforce_file_format=False)
    return preamble + out.getvalue()


def lut(entries, bits, first=0, size=None, kind="US", **fields):
    item = Dataset()
    count = len(entries) if size is None else size
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count, first, bits])
    item.add_new("LUTData", kind, entries if kind == "OW" else [int(value) for value in entries])
    for name, value in fields.items():
        setattr(item, name, value)
    return [item]


def words(data):
    return bytes(data) + b"\0" * (len(data) % 2)


def framed(value, pixels=FILM):
    return np.pad(pixels, ((7, 3), (11, 5)), constant_values=value)


def shutter(shape, **fields):
    return {"ShutterShape": shape} | fields


def collimator(shape, edges):
    named = {name.replace("Shutter", "Collimator"): value for name, value in edges.items()}
    return {"CollimatorShape": shape} | named


def masked(row, column, radius):
    y, x = np.ogrid[: FILM.shape[0], : FILM.shape[1]]
    seen = (y - row) ** 2 + (x - column) ** 2 <= radius**2
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    inside = np.where(seen, GREY, 0)
    return inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def windowed(low, high):
    return ((FILM - float(low)) / (high - low)).clip(0, 1)


ALL = np.arange(4096)
BOX = {
    "ShutterLeftVerticalEdge": 12,
    "ShutterRightVerticalEdge": 11 + FILM.shape[1],
    "ShutterUpperHorizontalEdge": 8,
    "ShutterLowerHorizontalEdge": 7 + FILM.shape[0],
}
CORNERS = [[10, 5], [10, 30], [50, 30], [50, 5]]
SIGNED = (FILM.astype(np.int16) - 2048).view(np.uint16)
COLOUR = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}

SAME = {
    "8 bits": lambda: (film_8(), GREY_8),
    "12 bits": lambda: (film(), GREY),
    "16 bits": lambda: (film(FILM * 16, 16), FILM * 16 / 65535),
    "implicit": lambda: (film(syntax=ImplicitVRLittleEndian), GREY),
    "deflated": lambda: (film(syntax=DeflatedExplicitVRLittleEndian), GREY),
    "big-endian": lambda: (big_endian(), GREY),
    "big-endian with tables": lambda: (
        big_endian(VOILUTSequence=lut(ALL, 12), RescaleSlope="1", RescaleIntercept="0"),
        GREY,
    ),
    "RLE, 12 bits": lambda: (film(syntax=RLELossless), GREY),
    "RLE, 8 bits": lambda: (film_8(syntax=RLELossless), GREY_8),
    "no preamble": lambda: (film()[132:], GREY),
    "no preamble, deflated": lambda: (film(syntax=DeflatedExplicitVRLittleEndian)[132:], GREY),
    "no meta information, explicit": lambda: (bare(ExplicitVRLittleEndian), GREY),
    "no meta information, implicit": lambda: (bare(ImplicitVRLittleEndian), GREY),
    "no meta information, big-endian": lambda: (bare(ExplicitVRBigEndian), GREY),
    "a preamble, but no meta information": lambda: (
        bare(ExplicitVRLittleEndian, b"\0" * 128 + b"DICM"),
        GREY,
    ),
    "signed": lambda: (film(SIGNED & 0xFFF, PixelRepresentation=1), GREY),
    "signed, extended to 16 bits": lambda: (film(SIGNED, PixelRepresentation=1), GREY),
    "signed, with a window": lambda: (
        film(SIGNED, PixelRepresentation=1, WindowCenter="0", WindowWidth="4096"),
        GREY,
    ),
    "HighBit 15": lambda: (film(FILM << 4, HighBit=15), GREY),
    "HighBit 15, signed": lambda: (film(SIGNED << 4, HighBit=15, PixelRepresentation=1), GREY),
    "HighBit 13": lambda: (film(FILM << 2, HighBit=13), GREY),
    "an overlay in unused bits": lambda: (film(FILM | 0xF000), GREY),
    "no HighBit": lambda: (film(HighBit=None), GREY),
    "bytes behind the pixels": lambda: (film(PixelData=FILM.tobytes() + bytes(10)), GREY),
    "MONOCHROME1": lambda: (film(4095 - FILM, **MONOCHROME1), GREY),
    "MONOCHROME1, window": lambda: (film(4095 - FILM, **MONOCHROME1, **FULL), GREY),
    "MONOCHROME1, VOI LUT": lambda: (
        film(4095 - FILM, **MONOCHROME1, VOILUTSequence=lut(ALL, 12)),
        GREY,
    ),
    "rescale": lambda: (film(RescaleSlope="2", RescaleIntercept="-100"), GREY),
    "rescale and window": lambda: (
        film(RescaleSlope="2", RescaleIntercept="-100", WindowCenter="3995.5", WindowWidth="8191"),
        GREY,
    ),
    "slope -1": lambda: (film(4095 - FILM, RescaleSlope="-1", RescaleIntercept="4095"), GREY),
    "slope -1 and window": lambda: (
        film(4095 - FILM, RescaleSlope="-1", RescaleIntercept="4095", **FULL),
        GREY,
    ),
    "slope -0.5, intercept 0, window": lambda: (
        film(
            4095 - FILM,
            RescaleSlope="-0.5",
            RescaleIntercept="0",
            WindowCenter="-1023.25",
            WindowWidth="2048.5",
        ),
        GREY,
    ),
    "slope -1 and MONOCHROME1": lambda: (
        film(RescaleSlope="-1", RescaleIntercept="4095", **MONOCHROME1, **FULL),
        GREY,
    ),
    "empty slope and intercept": lambda: (film(RescaleSlope="", RescaleIntercept=""), GREY),
    "slope without intercept": lambda: (film(RescaleSlope="3"), GREY),
    "intercept without slope": lambda: (film(RescaleIntercept="-1024"), GREY),
    "rescaled to 0..1, width below 1": lambda: (
        film(
            RescaleSlope=str(round(0.8 / 4095, 10)),
            RescaleIntercept="0",
            WindowCenter="0.4",
            WindowWidth="0.8",
        ),
        GREY,
    ),
    "window": lambda: (film(**FULL), GREY),
    "narrow window": lambda: (
        film(WindowCenter="1500.5", WindowWidth="1001"),
        windowed(1000, 2000),
    ),
    "LINEAR_EXACT": lambda: (
        film(WindowCenter="1500", WindowWidth="1000", VOILUTFunction="LINEAR_EXACT"),
        windowed(1000, 2000),
    ),
    "SIGMOID": lambda: (
        film(WindowCenter="1500", WindowWidth="1000", VOILUTFunction="SIGMOID"),
        1 / (1 + np.exp(-4 * (FILM - 1500.0) / 1000)),
    ),
    "width 1": lambda: (film(WindowCenter="1500.5", WindowWidth="1"), FILM > 1500),
    "width 0": lambda: (film(WindowCenter="100", WindowWidth="0"), GREY),
    "width 0, LINEAR_EXACT": lambda: (
        film(WindowCenter="1", WindowWidth="0", VOILUTFunction="LINEAR_EXACT"),
        GREY,
    ),
    "width 0, SIGMOID": lambda: (
        film(WindowCenter="1", WindowWidth="0", VOILUTFunction="SIGMOID"),
        GREY,
    ),
    "negative width": lambda: (film(WindowCenter="100", WindowWidth="-5"), GREY),
    "two windows": lambda: (
        film(WindowCenter=["2048", "9"], WindowWidth=["4096", "2"]),
        GREY,
    ),
    "empty window": lambda: (film(WindowCenter="", WindowWidth=""), GREY),
    "a center without a width": lambda: (film(WindowCenter="100"), GREY),
    "VOI LUT": lambda: (film(VOILUTSequence=lut(ALL, 12)), GREY),
    "VOI LUT of 16 bits": lambda: (film(VOILUTSequence=lut(ALL * 16 + 15, 16)), GREY),
    "VOI LUT, implicit": lambda: (
        film(VOILUTSequence=lut(ALL, 12), syntax=ImplicitVRLittleEndian),
        GREY,
    ),
    "VOI LUT as words": lambda: (
        film(VOILUTSequence=lut(ALL.astype("<u2").tobytes(), 12, size=4096, kind="OW")),
        GREY,
    ),
    "VOI LUT of 8 bits in words": lambda: (
        film_8(VOILUTSequence=lut(np.arange(256), 8)),
        GREY_8,
    ),
    "VOI LUT of 12 bits to 8, in words": lambda: (
        film(VOILUTSequence=lut(ALL >> 4, 8)),
        (FILM >> 4) / 255,
    ),
    "VOI LUT of 8 bits, packed": lambda: (
        film_8(VOILUTSequence=lut(words(range(256)), 8, size=256, kind="OW")),
        GREY_8,
    ),
    "VOI LUT of 8 bits, packed, odd": lambda: (
        film_8(
            BYTES.clip(0, 254),
            VOILUTSequence=lut(words(range(255)), 8, size=255, kind="OW"),
        ),
        BYTES.clip(0, 254) / 255,
    ),
    "VOI LUT of 9 bits": lambda: (
        film_8(VOILUTSequence=lut(np.arange(256) * 2, 9)),
        BYTES * 2.0 / 511,
    ),
    "VOI LUT of 10 bits": lambda: (film(VOILUTSequence=lut(ALL // 4, 10)), (FILM // 4) / 1023),
    "VOI LUT from 1000 on": lambda: (
        film(VOILUTSequence=lut(np.arange(1000) * 4, 12, first=1000)),
        (FILM.astype(int) - 1000).clip(0, 999) * 4 / 4095,
    ),
    "VOI LUT from -2048 on": lambda: (
        film(SIGNED, PixelRepresentation=1, VOILUTSequence=lut(ALL, 12, first=-2048)),
        GREY,
    ),
    "VOI LUT from -2048 on, as US": lambda: (
        film(SIGNED, PixelRepresentation=1, VOILUTSequence=lut(ALL, 12, first=65536 - 2048)),
        GREY,
    ),
    "VOI LUT after a negative intercept": lambda: (
        film(
            RescaleSlope="1",
            RescaleIntercept="-2048",
            VOILUTSequence=lut(ALL, 12, first=65536 - 2048),
        ),
        GREY,
    ),
    "VOI LUT of 65,536 entries": lambda: (
        film(
            FILM * 16,
            16,
            VOILUTSequence=lut(np.arange(65536), 16, size=0),
            syntax=ImplicitVRLittleEndian,
        ),
        FILM * 16 / 65535,
    ),
    "VOI LUT that states too few bits": lambda: (film(VOILUTSequence=lut(ALL, 8)), GREY),
    "VOI LUT before a window": lambda: (
        film(VOILUTSequence=lut(ALL, 12), WindowCenter="9", WindowWidth="2"),
        GREY,
    ),
    "an empty VOI LUT item beside a window": lambda: (
        film(VOILUTSequence=[Dataset()], **FULL),
        GREY,
    ),
    "an empty VOI LUT sequence": lambda: (film(VOILUTSequence=[], **FULL), GREY),
    "modality LUT": lambda: (
        film(ModalityLUTSequence=lut(ALL, 12, ModalityLUTType="US")),
        GREY,
    ),
    "falling modality LUT": lambda: (
        film(4095 - FILM, ModalityLUTSequence=lut(ALL[::-1], 12, ModalityLUTType="US")),
        GREY,
    ),
    "modality LUT, then VOI LUT": lambda: (
        film(
            4095 - FILM,
            ModalityLUTSequence=lut(ALL[::-1], 12, ModalityLUTType="US"),
            VOILUTSequence=lut(ALL * 16 + 15, 16),
        ),
        GREY,
    ),
    "modality LUT, then window": lambda: (
        film(4095 - FILM, ModalityLUTSequence=lut(ALL[::-1], 12), **FULL),
        GREY,
    ),
    "padding 65535": lambda: (film(framed(65535), PixelPaddingValue=65535), GREY),
    "padding 65535, window": lambda: (film(framed(65535), PixelPaddingValue=65535, **FULL), GREY),
    "padding 65535, VOI LUT": lambda: (
        film(framed(65535), PixelPaddingValue=65535, VOILUTSequence=lut(ALL, 12)),
        GREY,
    ),
    "padding 4095": lambda: (film(framed(4095), PixelPaddingValue=4095), GREY),
    "padding, implicit": lambda: (
        film(framed(65535), PixelPaddingValue=65535, syntax=ImplicitVRLittleEndian),
        GREY,
    ),
    "padding, a range": lambda: (
        film(
            np.pad(framed(65535), 2, constant_values=60001),
            PixelPaddingValue=60000,
            PixelPaddingRangeLimit=65535,
        ),
        GREY,
    ),
    "padding, a range from above": lambda: (
        film(framed(4094), PixelPaddingValue=4095, PixelPaddingRangeLimit=4090),
        GREY,
    ),
    "padding -2048": lambda: (
        film(framed(63488, SIGNED), PixelRepresentation=1, PixelPaddingValue=-2048),
        GREY,
    ),
    "padding, MONOCHROME1": lambda: (
        film(framed(0, 4095 - FILM), PixelPaddingValue=0, **MONOCHROME1),
        GREY,
    ),
    "padding, slope -1": lambda: (
        film(
            framed(0, 4095 - FILM),
            PixelPaddingValue=0,
            RescaleSlope="-1",
            RescaleIntercept="4095",
        ),
        GREY,
    ),
    "padding, HighBit 15": lambda: (
        film(framed(0xFFFF, FILM << 4), HighBit=15, PixelPaddingValue=4095),
        GREY,
    ),
    "padding, 8 bits": lambda: (film_8(framed(255, BYTES), PixelPaddingValue=255), GREY_8),
    "padding, RLE": lambda: (
        film(framed(4095), PixelPaddingValue=4095, syntax=RLELossless),
        GREY,
    ),
    "a range limit without a value": lambda: (film(PixelPaddingRangeLimit=65535), GREY),
    "rectangular shutter": lambda: (film(framed(4095), **shutter("RECTANGULAR", **BOX)), GREY),
    "circular shutter": lambda: (
        film(**shutter("CIRCULAR", CenterOfCircularShutter=[31, 21], RadiusOfCircularShutter=18)),
        masked(30, 20, 18),
    ),
    "polygonal shutter": lambda: (
        film(
            **shutter(
                "POLYGONAL",
                VerticesOfThePolygonalShutter=[edge for pair in CORNERS for edge in pair],
            )
        ),
        GREY[9:50, 4:30],
    ),
    "rectangular collimator": lambda: (
        film(framed(4095), **collimator("RECTANGULAR", BOX)),
        GREY,
    ),
    "circular collimator": lambda: (
        film(
            CollimatorShape="CIRCULAR",
            CenterOfCircularCollimator=[31, 21],
            RadiusOfCircularCollimator=18,
        ),
        masked(30, 20, 18),
    ),
    "collimator inside a shutter": lambda: (
        film(
            framed(4095),
            **shutter("RECTANGULAR", **(BOX | {"ShutterLeftVerticalEdge": 3})),
            **collimator("RECTANGULAR", BOX),
        ),
        GREY,
    ),
    "two shutters": lambda: (
        film(
            framed(4095),
            **shutter(
                ["RECTANGULAR", "CIRCULAR"],
                **BOX,
                CenterOfCircularShutter=[38, 32],
                RadiusOfCircularShutter=18,
            ),
        ),
        masked(30, 20, 18),
    ),
    "MONOCHROME1 in small letters": lambda: (
        film(4095 - FILM, PhotometricInterpretation="monochrome1"),
        GREY,
    ),
    "secondary capture": lambda: (film_8(Modality="OT"), GREY_8),
    "secondary capture in colour": lambda: (
        film_8(np.dstack([BYTES] * 3), Modality="SC", **COLOUR),
        GREY_8,
    ),
}

REFUSED = {
    "HighBit 20": (lambda: film(HighBit=20), "HighBit 20 with 12 bits stored in 16"),
    "HighBit below the bits": (lambda: film(HighBit=7), "HighBit 7 with 12 bits"),
    "slope 0": (lambda: film(RescaleSlope="0"), "RescaleSlope is 0"),
    "few pixels": (lambda: film(PixelData=bytes(100)), "PixelData has 100 bytes"),
    "short LUT": (
        lambda: film(VOILUTSequence=lut(ALL[:100], 12, size=4096)),
        "VOILUTSequence has 100 of 4096 entries",
    ),
    "LUT of 20 bits": (lambda: film(VOILUTSequence=lut(ALL, 20)), "4096 entries of 20 bits"),
    "unknown window function": (
        lambda: film(**FULL, VOILUTFunction="CUBIC"),
        "VOILUTFunction 'CUBIC' is not one of LINEAR, LINEAR_EXACT, SIGMOID",
    ),
    "all padding": (
        lambda: film(np.full_like(FILM, 9), PixelPaddingValue=9),
        "all of it is declared as padding",
    ),
    "shutter without edges": (
        lambda: film(**shutter("RECTANGULAR")),
        "ShutterLeftVerticalEdge.* are missing or wrong",
    ),
    "shutter beyond the image": (
        lambda: film(
            **shutter("CIRCULAR", CenterOfCircularShutter=[900, 900], RadiusOfCircularShutter=3)
        ),
        "outside of the shutter",
    ),
    "a radiograph in colour": (
        lambda: film_8(np.dstack([BYTES] * 3), **COLOUR),
        "colour pixels",
    ),
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("name", SAME)
def test_a_legal_form_has_the_grey_values_of_the_png(name):
    data, expected = SAME[name]()
    film = read_radiograph(data)
    assert film.pixels.shape == expected.shape
    assert np.abs(film.grey - expected).max() < LEVEL
    assert film.part.area == film.pixels.size


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_legal_is_refused_by_name(name):
    make, text = REFUSED[name]
    with pytest.raises(ImageError, match=text) as caught:
        decode(make())
    assert len(str(caught.value).splitlines()) == 1


def test_there_are_at_least_sixty_variants():
    assert len(SAME) >= 60


@pytest.mark.parametrize(
    "text", ["one", "NaN", "1e999", "--5", "0x10"], ids=["word", "nan", "infinite", "sign", "hex"]
)
@pytest.mark.parametrize("field", ["RescaleSlope", "WindowWidth"])
def test_a_number_that_is_none_is_refused_without_python_s_words(field, text):
    data = film(**({"WindowCenter": "9"} | {field: "12345678"}))
    bad = data.replace(b"12345678", text.ljust(8).encode())
    with pytest.raises(ImageError, match=f"{field} in the DICOM header cannot be read") as caught:
        decode(bad)
    assert "could not convert" not in str(caught.value)


@pytest.mark.parametrize("syntax", [HTJ2KLossless, MPEG2MPML], ids=lambda uid: uid.keyword)
def test_a_compression_without_a_decoder_is_refused_by_name(syntax):
    data = dataset(FILM, 12)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    data["PixelData"].VR = "OB"
    with pytest.raises(ImageError, match="cannot be decoded; convert it to JPEG Lossless"):
        decode(stored(data))


def coded(frame, syntax, pixels=BYTES, bits=8):
    data = dataset(pixels, bits)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = pydicom.encaps.encapsulate([frame])
    data["PixelData"].VR = "OB"
    return stored(data)


def test_a_damaged_file_is_no_missing_extra():
    """A decoder's error mentioned plugins, and bakit asked to install what was installed."""
    whole = cv2.imencode(".jpg", BYTES)[1].tobytes()
    assert np.abs(decode(coded(whole, JPEGBaseline8Bit)) - GREY_8).mean() < 0.02
    middle = len(whole) * 3 // 4
    for frame in (whole[:middle], whole[:middle] + b"\xff\xd9", b"plugin" * 40):
        with pytest.raises(ImageError) as caught:
            decode(coded(frame, JPEGBaseline8Bit))
        assert "pip install" not in str(caught.value)
        assert "plugin" not in str(caught.value)


def test_twelve_bits_of_jpeg_extended_are_refused_by_name():
    whole = bytearray(cv2.imencode(".jpg", BYTES)[1].tobytes())
    at = whole.index(b"\xff\xc0")
    whole[at + 1], whole[at + 4] = 0xC1, 12
    with pytest.raises(ImageError, match="JPEG Extended of 12 bits cannot be decoded; convert it"):
        decode(coded(bytes(whole), JPEGExtended12Bit, FILM, 12))
