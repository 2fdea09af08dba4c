"""A checkpoint with the student: every float target finds the same hand."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from bakit.errors import MissingBackendError
from bakit.export.onnx.localizer import open_localizer
from bakit.hand.prepare import find
from bakit.hand.weights import get_localizer
from bakit.image.read import decode
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.settings import Preprocessing
from bakit.targets import get_target, targets

# Where it cannot be installed, tests/test_coreai.py is one skip for all of its tests.
RUN_HERE = [
    name
    for name, target in targets().items()
    if target.runs_here and (name != "coreai" or find_spec("coreai_onnx"))
]


@pytest.mark.parametrize("name", RUN_HERE)
def test_every_target_finds_the_student_s_hand(name, exported):
    target = get_target(name)
    try:
        backend = target.load_checker()
        target.load_exporter()
    except MissingBackendError as missing:
        pytest.skip(str(missing))
    bundle = exported(name, "fp32", like="litert")
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
