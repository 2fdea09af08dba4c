"""The localizer's file: what it keeps, and what is refused with one line."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from bakit.errors import CheckpointError, InputError
from bakit.hand.student import weight_shapes
from bakit.hand.unrolled import initial_weights
from bakit.hand.weights import (
    Localizer,
    fits,
    get_localizer,
    method_of,
    read_localizer,
    write_localizer,
)
from bakit.settings import METHODS, StudentSettings, UnrolledSettings

STUDENT = StudentSettings(32, (2, 3))
TINY = UnrolledSettings(size=32, features=4, labels=4, steps=2)


def student():
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in weight_shapes(STUDENT).items()
    }
    return Localizer(STUDENT, weights, "a test")


def unrolled():
    return Localizer(TINY, initial_weights(TINY), "drawn")


@pytest.fixture
def written(tmp_path):
    """What writes a student's file with other tensors or another header."""

    def write(tensors=None, *, header=None, lacks=(), **fields):
        path = tmp_path / "changed.safetensors"
        write_localizer(path, student())
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        document = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["bakit-localizer"])
        text = header if header is not None else json.dumps(document | fields)
        kept = {name: value for name, value in load(data).items() if name not in lacks}
        path.write_bytes(save(kept | (tensors or {}), metadata={"bakit-localizer": text}))
        return path

    return write


@pytest.mark.parametrize("make", [student, unrolled])
def test_what_is_read_is_what_was_written(make, tmp_path):
    first, path = make(), tmp_path / "a.safetensors"
    write_localizer(path, first)
    again = get_localizer(str(path))
    assert again.settings == first.settings
    assert type(again.settings) is type(first.settings)
    assert again.origin == first.origin
    assert again.method == make.__name__
    assert again.sha256 == first.sha256
    assert fits(again.settings, again.weights)
    assert {value.dtype for value in again.weights.values()} == {np.dtype(np.float32)}
    write_localizer(tmp_path / "b.safetensors", again)
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_the_digest_follows_method_settings_and_weights():
    first = unrolled()
    weights = first.weights | {"conv1.bias": first.weights["conv1.bias"] + 1}
    steps = msgspec.structs.replace(TINY, steps=3)
    changed = [
        first,
        first._replace(weights=weights),
        first._replace(settings=steps),
    ]
    assert len({localizer.sha256 for localizer in changed}) == len(changed)
    assert first._replace(origin="elsewhere").sha256 == first.sha256


def test_the_shipped_student_is_the_default():
    shipped = get_localizer("student")
    assert shipped.settings == StudentSettings()
    assert (METHODS[0], shipped.method) == ("student", "student")
    assert shipped.origin.startswith("bakit distill: ")
    assert sum(value.size for value in shipped.weights.values()) < 250_000


def test_the_unrolled_localizer_needs_no_file():
    found = get_localizer("unrolled")
    assert found.settings == UnrolledSettings()
    assert method_of(found.settings) == "unrolled"
    assert fits(found.settings, found.weights)


@pytest.mark.parametrize("source", ["magic", "Student", "", "student.pt"])
def test_an_unknown_method_names_the_known_ones(refused, source):
    line = refused("localize", "hand.png", "--method", source)
    assert line == (f"bakit: no localizer {source!r}; use student, unrolled or a .safetensors file")
    with pytest.raises(InputError):
        get_localizer(source)


def test_a_missing_file_is_refused(refused):
    line = refused("localize", "hand.png", "--method", "nowhere.safetensors")
    assert line.startswith("bakit: nowhere.safetensors: the localizer cannot be read (No such file")


def test_a_folder_is_refused(refused, tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    line = refused("localize", "hand.png", "--method", "folder.safetensors")
    assert line.startswith("bakit: folder.safetensors: a folder; name a localizer in it")


@pytest.mark.parametrize(
    "data", [b"", b"no localizer at all, but text", b"\0" * 100, b"\xff" * 100]
)
def test_what_is_no_safetensors_file_is_refused(refused, tmp_path, data):
    (tmp_path / "bad.safetensors").write_bytes(data)
    line = refused("localize", "hand.png", "--method", "bad.safetensors")
    assert line.startswith("bakit: bad.safetensors: not a .safetensors file, or damaged")


@settings(max_examples=30)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.getbasetemp() / "cut.safetensors"
    write_localizer(path, student())
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(CheckpointError):
        read_localizer(path)


@pytest.mark.parametrize("metadata", [None, {"bakit": "{}"}])
def test_a_file_of_another_origin_is_refused(refused, tmp_path, metadata):
    tensors = {"weight": np.zeros(3, np.float32)}
    (tmp_path / "other.safetensors").write_bytes(save(tensors, metadata=metadata))
    line = refused("localize", "hand.png", "--method", "other.safetensors")
    assert line.endswith("a .safetensors file, but not a localizer; bakit distill writes one")


def test_a_checkpoint_is_no_localizer(refused, checkpoint):
    line = refused("localize", "hand.png", "--method", checkpoint.path)
    assert line.endswith("a .safetensors file, but not a localizer; bakit distill writes one")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"header": "{"}, "truncated"),
        ({"header": "[]"}, "got `array`"),
        ({"more": 1}, "unknown field `more`"),
        ({"settings": {"size": 32}}, "missing required field `method`"),
        ({"settings": {"method": "magic"}}, "Invalid value 'magic'"),
        ({"settings": {"method": "student", "size": 33, "widths": [2, 3]}}, "not a multiple of 2"),
        ({"settings": {"method": "student", "size": 32, "widths": [2]}}, "length >= 2"),
        ({"settings": {"method": "unrolled", "steps": -1}}, "$.settings.steps"),
    ],
)
def test_a_header_that_is_not_understood_is_refused(refused, written, changes, reason):
    line = refused("localize", "hand.png", "--method", written(**changes))
    assert "changed.safetensors: its header is not what this version expects" in line
    assert reason in line


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"method": "student", "size": 32, "widths": [2, 4]}},
        {"settings": {"method": "unrolled"}},
        {"lacks": ["enter.bias"]},
        {"tensors": {"surprise": np.zeros(2, np.float32)}},
        {"tensors": {"enter.bias": np.zeros(7, np.float32)}},
    ],
)
def test_weights_of_other_settings_are_refused(refused, written, changes):
    line = refused("localize", "hand.png", "--method", written(**changes))
    assert line.endswith("changed.safetensors: the localizer's weights do not fit its settings")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_no_numbers_are_refused(refused, written, value):
    path = written({"leave.bias": np.array([value], np.float32)})
    line = refused("localize", "hand.png", "--method", path)
    assert line.endswith("tensor 'leave.bias' contains NaN or infinite values")


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "F16"), (np.int64, "I64")])
def test_weights_of_another_type_are_refused(refused, written, dtype, name):
    path = written({"leave.bias": np.zeros(1, dtype)})
    line = refused("localize", "hand.png", "--method", path)
    assert line.endswith(f"tensor 'leave.bias' has the unexpected type {name}")
