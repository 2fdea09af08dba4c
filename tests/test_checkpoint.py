"""The checkpoint file: what it keeps, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from bakit.errors import CheckpointError
from bakit.hand.unrolled import weight_shapes
from bakit.hand.weights import get_localizer
from bakit.model.checkpoint import SCHEMA_VERSION, SHIPPED, Checkpoint
from bakit.settings import Preprocessing, UnrolledSettings
from bakit.training.scoring import reference_answers


@pytest.fixture(scope="module")
def parts(checkpoint):
    """The tensors and the document of the checkpoint's file."""
    data = checkpoint.path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    document = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["bakit"])
    return load(data), document


@pytest.fixture
def written(parts, tmp_path):
    """What writes the file again with other tensors or another document."""

    def write(tensors=None, document=None, **fields):
        path = tmp_path / "changed.safetensors"
        text = json.dumps(document if document is not None else parts[1] | fields)
        path.write_bytes(save(parts[0] | (tensors or {}), metadata={"bakit": text}))
        return path

    return write


def test_what_is_read_is_what_was_written(checkpoint):
    again = Checkpoint.read(checkpoint.path)
    assert again.header == checkpoint.header
    assert again.sha256 == checkpoint.sha256
    assert again.name == "tiny"
    for name in ("regressor", "localizer"):
        first, second = getattr(checkpoint, name), getattr(again, name)
        assert list(first) == list(second)
        assert all(np.array_equal(first[key], second[key]) for key in first)
        assert {value.dtype for value in second.values()} == {np.dtype(np.float32)}
    assert np.array_equal(again.reference.images, checkpoint.reference.images)
    assert np.array_equal(again.reference.ages_months, checkpoint.reference.ages_months)


def test_a_checkpoint_of_224_pixels_stays_below_16_megabytes(tmp_path):
    """The whole network with the shipped one's localizer, limits, ranges and intervals."""
    shipped = Checkpoint.read(SHIPPED).with_header(preprocessing=Preprocessing())
    whole = replace(shipped, reference=reference_answers(shipped)).write(tmp_path / "whole.st")
    assert sum(value.size for value in whole.regressor.values()) > 7_606_825
    assert whole.header.ranges.tensors
    assert whole.header.quality
    assert whole.reference.images.shape == (1, 224, 224)
    assert sorted(whole.reference.sexes) == [0, 1]
    assert np.ptp(whole.reference.ages_months) > 3
    assert whole.path.stat().st_size < 16_000_000


def test_a_checkpoint_written_again_is_the_same_bytes(checkpoint, tmp_path):
    again = checkpoint.write(tmp_path / "again.safetensors")
    assert again.path.read_bytes() == checkpoint.path.read_bytes()


def test_all_but_variances_and_scalars_are_stored_as_halves(parts):
    others = {
        name.removeprefix("regressor.")
        for name, value in parts[0].items()
        if name.startswith("regressor.") and value.dtype != np.float16
    }
    assert {"mean_months", "sd_months"} < others
    assert all(name.endswith(("_months", "running_var", "num_batches_tracked")) for name in others)


def test_full_precision_can_be_kept(checkpoint, tmp_path):
    weights = checkpoint.regressor | {"output.bias": np.array([1 / 3], np.float32)}
    full = Checkpoint(checkpoint.header, weights, checkpoint.localizer)
    written = full.write(tmp_path / "full.safetensors", half=False)
    assert {value.dtype.name for value in load(written.path.read_bytes()).values()} == {"float32"}
    assert written.regressor["output.bias"] == np.float32(1 / 3)


def test_a_missing_file_is_refused(refused, tmp_path):
    assert "nowhere.safetensors: the checkpoint cannot be read (No such file" in refused(
        "inspect", tmp_path / "nowhere.safetensors"
    )


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 a zip, as torch.save writes", b"\x80\x02}q\x00.", b"\xff" * 64]
)
def test_what_is_no_safetensors_file_is_refused(refused, tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert "not a .safetensors file, or damaged" in refused("inspect", path)


@settings(max_examples=15)  # each writes megabytes
@given(st.integers(0, 10**9))
def test_a_file_cut_short_is_refused(checkpoint, tmp_path_factory, length):
    path = tmp_path_factory.getbasetemp() / "cut.safetensors"
    data = checkpoint.path.read_bytes()
    path.write_bytes(data[: length % len(data)])
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.read(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_file_of_another_origin_is_refused(refused, tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"weight": np.zeros(3, np.float32)}, metadata=metadata))
    assert "but not one that bakit train wrote" in refused("inspect", path)


def test_a_file_of_version_1_has_the_unrolled_localizer(checkpoint, written, parts):
    """Version 1 knew one localizer and did not name it."""
    localizer = {name: value for name, value in parts[1]["localizer"].items() if name != "method"}
    old = Checkpoint.read(written(schema_version=1, localizer=localizer))
    assert old.header == checkpoint.header
    assert isinstance(old.header.localizer, UnrolledSettings)
    assert old.header.schema_version == SCHEMA_VERSION == 2


def test_older_ranges_may_be_of_other_weights_and_are_left_out(refused, written, parts):
    """They may be of equalized weights."""
    ranges = {name: v for name, v in parts[1]["ranges"].items() if name != "float_layers"}
    path = written(ranges=ranges | {"recipe": {"equalize": True}, "biases": {}})
    assert Checkpoint.read(path).header.ranges is None
    assert "contains no INT8 ranges; pass --calibration" in refused(
        "export", path, "--target", "onnx", "--int8"
    )


def test_a_file_of_version_2_names_its_localizer(refused, written, parts):
    localizer = {name: value for name, value in parts[1]["localizer"].items() if name != "method"}
    line = refused("inspect", written(localizer=localizer))
    assert "missing required field `method`" in line


def test_a_student_travels_in_a_checkpoint(checkpoint, tmp_path):
    student = get_localizer("student")
    header = msgspec.structs.replace(checkpoint.header, localizer=student.settings)
    written = Checkpoint(header, checkpoint.regressor, student.weights)
    again = written.write(tmp_path / "student.safetensors")
    assert again.header.localizer == student.settings
    assert all(np.array_equal(again.localizer[n], v) for n, v in student.weights.items())


def test_a_newer_file_says_to_upgrade(refused, written):
    path = written(schema_version=99, mystery=True)
    assert refused("inspect", path).endswith(
        "schema version 99 is newer than this bakit's 2; upgrade with pip install -U bakit-edge"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"unknown": 1},
        {"mean_months": "old"},
        {"architecture": {"head_layers": 9}},
        {"preprocessing": {"image_size": 97}},
        {"localizer": None},
        {"schema_version": "1"},
    ],
)
def test_a_header_that_is_not_understood_is_refused(refused, written, fields):
    line = refused("inspect", written(**fields))
    assert "its header is not what this version expects" in line
    assert next(iter(fields)) in line


@pytest.mark.parametrize("document", [[], "text", 7])
def test_a_header_that_is_no_object_is_refused(refused, written, document):
    assert "its header is not what" in refused("inspect", written(document=document))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["regressor.output.bias", "localizer.conv1.bias"])
def test_weights_that_are_no_numbers_are_refused(refused, written, parts, name, value):
    broken = parts[0][name].copy()
    broken[-1] = value
    line = refused("inspect", written({name: broken}))
    assert line.endswith(f"tensor '{name}' contains NaN or infinite values")


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"surprise": np.zeros(2, np.float32)}, "unexpected tensor 'surprise'"),
        ({"regressor.x": np.zeros(2, np.int64)}, "'regressor.x' has the unexpected type I64"),
        ({"localizer.x": np.zeros(2, np.float32)}, "localizer's weights do not fit"),
        ({"localizer.conv1.bias": np.zeros(9, np.float32)}, "localizer's weights do not fit"),
        ({"reference.more": np.zeros(2, np.float32)}, "the float reference is incomplete"),
    ],
)
def test_tensors_that_do_not_belong_are_refused(refused, written, tensors, reason):
    assert reason in refused("inspect", written(tensors))


def test_a_reference_that_lacks_a_part_is_refused(refused, parts, tmp_path):
    path = tmp_path / "changed.safetensors"
    tensors = {name: value for name, value in parts[0].items() if name != "reference.sexes"}
    path.write_bytes(save(tensors, metadata={"bakit": json.dumps(parts[1])}))
    assert "the float reference is incomplete" in refused("inspect", path)


def test_localizer_settings_that_do_not_fit_the_weights_are_refused(refused, written, parts):
    path = written(localizer=parts[1]["localizer"] | {"features": 5})
    assert "the localizer's weights do not fit its settings" in refused("inspect", path)


@pytest.mark.parametrize("target", ["onnx", "torch"])
@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"architecture": {"head_layers": 1}}, "hidden.1"),
        ({"architecture": {"head_layers": 3}}, "hidden.2"),
        ({"architecture": {"sex": False}}, ""),
    ],
)
def test_an_architecture_that_is_not_the_weights_is_refused(
    refused, written, target, changes, wrong
):
    line = refused("export", written(**changes), "--target", target, "--out", ".")
    assert wrong in line


@pytest.mark.parametrize(
    "name",
    ["regressor.project.weight", "regressor.output.weight", "regressor.features.0.1.weight"],
)
def test_a_weight_of_another_shape_is_refused(refused, written, parts, name):
    path = written({name: parts[0][name][..., :-1]})
    line = refused("export", path, "--target", "onnx", "--out", ".")
    assert "weights do not fit" in line


def test_changed_weights_are_refused_when_they_are_exported(refused, written, parts):
    """The file is sound, but its model is not the one whose answers it carries."""
    name = "regressor.output.bias"
    path = written({name: parts[0][name] + 1})
    line = refused("export", path, "--target", "onnx", "--out", ".", status=1)
    assert "the checkpoint is damaged, or this is a bug" in line


def test_a_checkpoint_without_reference_answers_is_not_exported(refused, checkpoint, tmp_path):
    bare = Checkpoint(checkpoint.header, checkpoint.regressor, checkpoint.localizer)
    path = bare.write(tmp_path / "bare.safetensors").path
    line = refused("export", path, "--target", "onnx", "--out", ".")
    assert "without torch's answers; export its run's best.safetensors" in line


def test_inspect_prints_the_header(checkpoint):
    from click.testing import CliRunner

    from bakit.cli import main

    result = CliRunner().invoke(main, ["inspect", str(checkpoint.path)])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(msgspec.json.encode(checkpoint.header))


def test_the_shapes_of_the_localizer_follow_its_settings():
    shapes = weight_shapes(UnrolledSettings(features=4, labels=6))
    assert shapes["conv2.weight"] == (4, 4, 3, 3)
    assert shapes["conv3.weight"] == (6, 4, 1, 1)
    assert shapes["norm3.bias"] == (6,)
