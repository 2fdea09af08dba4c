"""A checkpoint with the student: every float target finds the same hand."""

from __future__ import annotations

import pytest

from bakit.errors import MissingBackendError
from bakit.export import export_bundle
from bakit.export.onnx.localizer import open_localizer
from bakit.hand.prepare import find
from bakit.hand.weights import get_localizer
from bakit.image.read import decode
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.settings import Preprocessing
from bakit.targets import get_target, targets
from bakit.types import Precision


@pytest.fixture(scope="module")
def with_student(checkpoint, tmp_path_factory):
    student = get_localizer("student")
    return checkpoint.with_localizer(student).write(
        tmp_path_factory.mktemp("student") / "student.safetensors"
    )


@pytest.mark.parametrize("name", [name for name, t in targets().items() if t.runs_here])
def test_every_target_finds_the_student_s_hand(name, with_student, tmp_path, few_goldens):
    target = get_target(name)
    try:
        backend = target.load_checker()
        target.load_exporter()
    except MissingBackendError as missing:
        pytest.skip(str(missing))
    bundle = export_bundle(with_student, name, Precision.FP32, tmp_path / "bundle")
    artifact = bundle.artifact("localizer")
    assert [(o.name, o.shape, o.dtype) for o in artifact.outputs] == [("hand", (64, 64), "float32")]
    student = get_localizer("student")
    localizer = open_localizer(student.weights, student.settings, 1)
    with Runtime(bundle, threads=1, backend=backend) as runtime:
        for seed in (6000, 6100):
            picture = make_phantom(seed, height=160).image
            expected = find(decode(picture), localizer, Preprocessing())[1]
            found = runtime.localize(picture)
            assert found.method == "student"
            assert found.box.iou(expected.box) >= 0.98
            assert found.reasons == expected.reasons
            prediction = runtime.predict(picture, "F")
            assert prediction.box == found.box
            assert prediction.quality.reasons == found.reasons
