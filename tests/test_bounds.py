"""What never reaches an image decoder."""

from __future__ import annotations

import contextlib
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakit.errors import ImageError
from bakit.image.bounds import MAX_PIXELS, PNG, check_image
from bakit.image.jpeg import JPEG
from bakit.image.read import decode, read_source


def png(width, height, data=b""):
    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def jpeg(width, height):
    data = bytearray(cv2.imencode(".jpg", np.eye(40, dtype=np.uint8) * 200)[1])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("make", [png, jpeg])
def test_a_bomb_is_refused_by_its_header_alone(make):
    bomb = make(60_000, 60_000)
    assert len(bomb) < 2000
    with pytest.raises(ImageError, match="the bytes: 60000x60000 pixels; the limit is 100 million"):
        decode(bomb)


@pytest.mark.parametrize("make", [png, jpeg])
def test_few_bytes_are_not_decoded_to_many_pixels(make):
    with pytest.raises(ImageError, match=r"x: 9000x9000 pixels in .* bytes; not a radiograph"):
        check_image(make(9_000, 9_000), "x")


@pytest.mark.parametrize("side", [10_000, 10_001])
def test_the_bound_is_exact(side):
    data = png(10_000, side, np.random.default_rng(0).bytes(500_000))
    if 10_000 * side <= MAX_PIXELS:
        check_image(data, "x")
        return
    with pytest.raises(ImageError, match="x: 10000x10001 pixels"):
        check_image(data, "x")


@pytest.mark.parametrize("suffix", [".bmp", ".tiff", ".webp", ".ppm", ".jp2"])
def test_rare_formats_reach_no_decoder(suffix):
    done, data = cv2.imencode(suffix, np.eye(40, dtype=np.uint8) * 200)
    data = data.tobytes() if done else b"\0\0\0\x0cjP  \r\n\x87\n"  # no OpenJPEG: its first box
    with pytest.raises(ImageError, match="not a supported image; use PNG, JPEG or DICOM"):
        decode(data)


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("progressive", [0, 1])
def test_real_files_pass(quality, progressive):
    grey = np.random.default_rng(0).integers(0, 255, (61, 87)).astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    for suffix in (".jpg", ".png"):
        data = cv2.imencode(suffix, grey, options if suffix == ".jpg" else [])[1].tobytes()
        assert decode(data).shape == grey.shape


@given(st.sampled_from([PNG, JPEG]), st.binary(max_size=200))
def test_any_bytes_are_judged_without_a_crash(start, rest):
    with contextlib.suppress(ImageError):
        check_image(start + rest, "x")


def test_a_large_file_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("bakit.image.read.MAX_BYTES", 1 << 20)
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ImageError, match=r"large.png: cannot be read \(larger than 1 MiB"):
        read_source(tmp_path / "large.png")
