"""The whole graph: from a film's grey values to months, as the runtime's own steps."""

from __future__ import annotations

import json
import re
import shutil
from functools import partial

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")

from bakit.bench.local.run import run_bench
from bakit.bundle import MANIFEST, Bundle, write_manifest
from bakit.errors import BundleError, InputError, UnsupportedTargetError
from bakit.export import export_bundle
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.whole import whole_model
from bakit.export.onnx.writer import WHOLE, check_profile, serialize
from bakit.files import sha256
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.targets import get_target
from bakit.types import Precision
from bakit.verify import check_golden

WHOLE_WORDS = "whole graph"


@pytest.fixture(scope="module")
def with_student(checkpoint_for):
    return checkpoint_for("litert")


@pytest.fixture(scope="module")
def make_bundle(exported):
    """What exports with a whole graph."""
    return partial(exported, like="litert", whole=True)


@pytest.fixture(scope="module")
def runtime(make_bundle):
    with Runtime(make_bundle("onnx", "fp32"), 1, whole=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, height=400).image


def compare(runtime, film, *, shares=1e-3, months=0.01):
    """Assert that the whole graph's crop, box and age are those of the two graphs."""
    hand = runtime.prepare(film)
    _, found, answer = runtime._find(film, male=True)
    assert found.turn == hand.found.turn
    if answer is None:
        assert hand.found.turn or hand.localizer_output.window != (0, 0, *film.shape[::-1])
        return None
    assert found.box == hand.found.box
    assert found.inverted == hand.found.inverted
    levels = np.abs(answer.pixels - hand.pixels) * 255
    assert levels.max() < 1.5
    assert (levels > 0.5).mean() <= shares
    assert answer.age_months == pytest.approx(runtime.regress(hand.pixels, male=True), abs=months)
    return answer


SHAPES = [
    *((1, 500), (500, 1), (2, 3), (16, 900), (900, 16), (64, 64), (65, 257), (96, 96), (97, 99)),
    *((192, 192), (256, 65), (384, 97), (391, 389), (480, 480), (1200, 900)),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inverted", [False, True])
def test_films_of_any_shape(runtime, phantom, shape, inverted):
    film = cv2.resize(phantom, shape[::-1], interpolation=cv2.INTER_AREA)
    compare(runtime, 255 - film if inverted else film)


@pytest.mark.parametrize("grey", [0, 7, 255])
@pytest.mark.parametrize("shape", [(16, 16), (300, 400)])
def test_films_of_one_grey(runtime, shape, grey):
    answer = compare(runtime, np.full(shape, grey, np.uint8))
    assert answer is not None
    assert (answer.pixels == answer.pixels[0, 0]).all()


@settings(max_examples=20)
@given(
    height=st.integers(1, 500),
    width=st.integers(1, 500),
    low=st.integers(0, 254),
    span=st.integers(1, 255),
    seed=st.integers(0, 99),
)
def test_noise_is_cropped_alike(runtime, height, width, low, span, seed):
    """Noise has no hand: all of the film becomes the crop, with hardly two equal levels."""
    rng = np.random.default_rng(seed)
    film = rng.integers(low, min(low + span, 255) + 1, (height, width), dtype=np.uint8)
    compare(runtime, film)


def films(phantom):
    framed = cv2.copyMakeBorder(phantom, 60, 20, 40, 90, cv2.BORDER_CONSTANT, value=255)
    return {
        "plain": phantom,
        "inverted": 255 - phantom,
        "framed": framed,
        "framed and empty": cv2.copyMakeBorder(
            np.tile(np.arange(100, 200, dtype=np.uint8), (100, 1)), 20, 20, 20, 20, 0, value=255
        ),
        "turned": np.rot90(phantom).copy(),
        "two hands": np.hstack([phantom, phantom[:, ::-1]]),
        "cut off": phantom[:, phantom.shape[1] // 2 :].copy(),
        "16 bits": phantom.astype(np.uint16) * 257,
    }


OTHER_WAY = {"framed and empty", "turned", "16 bits"}
"""Films for which the graph lacks a step."""


@pytest.mark.parametrize("kind", films(np.zeros((40, 40), np.uint8)))
def test_a_prediction_is_the_same(make_bundle, runtime, phantom, kind):
    film = films(phantom)[kind]
    data = cv2.imencode(".png", film)[1].tobytes()
    with Runtime(make_bundle("onnx", "fp32"), 1) as two:
        expected, wanted = two.predict(data, "F"), two.predict(data, "F", thorough=True)
    found, thorough = runtime.predict(data, "F"), runtime.predict(data, "F", thorough=True)
    assert found.age_months == pytest.approx(expected.age_months, abs=0.01)
    assert (found.box, found.quality) == (expected.box, expected.quality)
    assert found.turned_degrees == expected.turned_degrees
    assert found.measures == pytest.approx(expected.measures, abs=0.02)
    assert thorough.measures == pytest.approx(wanted.measures, abs=0.05)
    assert (WHOLE_WORDS in found.provider) == (kind not in OTHER_WAY)
    assert WHOLE_WORDS not in expected.provider
    assert found.stages_ms["regress"] > 0
    assert min(found.stages_ms.values()) >= 0


def test_scores_of_the_graph_are_those_of_the_runtime(runtime, phantom):
    drawn = films(phantom)
    cases = [drawn[kind] for kind in ("plain", "inverted", "two hands", "cut off")]
    cases += [phantom[row:].copy() for row in (80, 140, 200)]  # each finger touches the edge
    borders, seconds = [], []
    for film in cases:
        results = runtime._whole.run({"film": film, "sex": np.ones((1, 1), np.float32)})
        scores = runtime.localize(film).scores
        if scores is None or results["hand_confidence"].item() < 0.9:
            continue
        names = {"hand_confidence": "confidence", "second": "second", "border": "border"}
        for output, name in names.items():
            assert results[output].item() == pytest.approx(getattr(scores, name), abs=1e-4)
        borders.append(scores.border)
        seconds.append(scores.second)
    assert max(borders) > 0.05
    assert max(seconds) > 0.5


def test_int8_and_another_runtime(make_bundle, phantom):
    pytest.importorskip("openvino")
    from bakit.backends.openvino import OpenVinoSession

    for precision in ("fp32", "int8"):
        bundle = make_bundle("onnx", precision)
        is_int8 = precision == "int8"
        assert (bundle.artifact("whole").int8_share > 0.5) == is_int8
        with Runtime(bundle, 1, whole=True) as opened:
            answer = compare(opened, phantom)
        feeds = {"film": phantom, "sex": np.ones((1, 1), np.float32)}
        data = (bundle.root / "whole.onnx").read_bytes()
        with OpenVinoSession(data, None, 1) as other:
            found = other.run(feeds)
        levels = np.abs(found["image"][0, 0] - answer.pixels) * 255
        assert levels.max() < 1.5
        assert (levels > 0.5).mean() <= 1e-3
        age = found["age_months"].item()
        assert age == pytest.approx(answer.age_months, abs=4 if is_int8 else 0.01)


def test_openvino_reads_the_same_file(make_bundle, phantom):
    pytest.importorskip("openvino")
    bundles = [make_bundle(target, "fp32") for target in ("onnx", "openvino")]
    first, second = [(bundle.root / "whole.onnx").read_bytes() for bundle in bundles]
    assert first == second
    with Runtime(bundles[1], 1, whole=True) as opened:
        compare(opened, phantom)


def test_the_graph_has_its_profile(make_bundle):
    model = onnx.load(make_bundle("onnx", "fp32").root / "whole.onnx")
    check_profile(model, WHOLE)
    assert [item.version for item in model.opset_import] == [16]


@pytest.mark.parametrize("target", ["onnx", "openvino", "tensorrt", "coreml"])
def test_every_model_file_says_what_it_is(make_bundle, exported, target):
    pytest.importorskip({"openvino": "openvino", "coreml": "coremltools"}.get(target, "onnx"))
    whole = bool(get_target(target).whole)
    bundle = make_bundle(target, "fp32") if whole else exported(target, "fp32")
    seen = 0
    for artifact in bundle.manifest.artifacts:
        for name in artifact.files:
            found = properties(bundle.root / name)
            if found is None:
                continue
            seen += 1
            assert found["checkpoint_sha256"] == bundle.manifest.checkpoint_sha256
            assert found["role"] == artifact.role
            assert found["precision"] == "fp32"
            assert "Not a medical device" in found["intended_use"]
            assert "squashed to" in found["preprocessing"]
            assert {"name", "version", "license", "description"} <= found.keys()
            assert "months" in found["description"] or artifact.role == "localizer"
    assert seen >= len(bundle.manifest.artifacts)


def properties(path):
    """The properties of a model file; None for another file."""
    if path.suffix == ".onnx":
        model = onnx.load(path)
        assert all(item.doc_string for item in (*model.graph.input, *model.graph.output))
        return {item.key: item.value for item in model.metadata_props}
    if path.suffix == ".xml":
        from bakit.backends.openvino import openvino

        model = openvino.Core().read_model(path)
        return {key: model.get_rt_info(["bakit", key]).astype(str) for key in KEYS}
    if path.suffix == ".mlmodel":
        from bakit.backends.coreml_library import coremltools

        spec = coremltools.proto.Model_pb2.Model.FromString(path.read_bytes())
        assert all(item.shortDescription for item in spec.description.input)
        return dict(spec.description.metadata.userDefined)
    return None


KEYS = (
    *("name", "version", "description", "role", "precision", "checkpoint", "checkpoint_sha256"),
    *("preprocessing", "intended_use", "license", "localizer"),
)


def test_verify_runs_the_whole_graph(make_bundle, with_student, tmp_path):
    bundle = make_bundle("onnx", "fp32")
    checks = check_golden(bundle, 1)
    assert all(check.passed for check in checks)
    for check in checks:
        assert check.whole_months == pytest.approx(check.age_months, abs=0.01)
    # The whole graph of another checkpoint, sealed: both other models are right.
    header = with_student.header
    plain = msgspec.structs.replace(header.preprocessing, equalize=False)
    other = whole_model(
        msgspec.structs.replace(header, preprocessing=plain),
        localizer_model(with_student.localizer, header.localizer),
        regressor_model(with_student),
    )
    root = shutil.copytree(bundle.root, tmp_path / "other")
    (root / "whole.onnx").write_bytes(serialize(other))
    artifacts = tuple(
        msgspec.structs.replace(item, sha256=sha256((root / item.path).read_bytes()))
        for item in bundle.manifest.artifacts
    )
    write_manifest(root, msgspec.structs.replace(bundle.manifest, artifacts=artifacts))
    assert not any(check.passed for check in check_golden(Bundle.read(root), 1))


def test_a_benchmark_times_the_whole_graph(make_bundle, exported):
    bundle = make_bundle("onnx", "fp32")
    report = run_bench([bundle], min_queries=2, min_duration_s=0, warm_up=0, threads=1, whole=True)
    (row,) = report.bundles
    assert row.error is None
    assert WHOLE_WORDS in row.provider
    assert row.size_mb.keys() == {"localizer", "regressor", "whole"}
    with pytest.raises(InputError, match="no whole graph to measure; export it with --whole"):
        run_bench([exported("onnx", "fp32")], whole=True)


@pytest.mark.parametrize(
    ("target", "precision", "message"),
    [
        ("coreml", Precision.FP32, "target 'coreml' has no whole graph in fp32; these have: onnx"),
        ("openvino", Precision.FP16, "no whole graph in fp16; these have: onnx (fp32, int8)"),
    ],
)
def test_a_target_without_a_whole_graph(with_student, tmp_path, target, precision, message):
    with pytest.raises(UnsupportedTargetError, match=re.escape(message)):
        export_bundle(with_student, target, precision, tmp_path / "out", whole=True)
    assert not list(tmp_path.iterdir())


def test_what_the_whole_graph_needs(checkpoint, with_student, exported, tmp_path, refused):
    with pytest.raises(InputError, match="the whole graph needs the student localizer"):
        export_bundle(checkpoint, "onnx", Precision.FP32, tmp_path / "out", whole=True)
    plain = msgspec.structs.replace(with_student.header.preprocessing, localize=False)
    with pytest.raises(InputError, match="the whole graph needs the student localizer"):
        export_bundle(
            with_student.with_header(preprocessing=plain),
            "onnx",
            Precision.FP32,
            tmp_path / "out",
            whole=True,
        )
    with pytest.raises(BundleError, match="has no whole graph; export it with --whole"):
        Runtime(exported("onnx", "fp32"), 1, whole=True)
    bundle = exported("onnx", "fp32").root
    assert "--kit does not support --whole" in refused("bench", bundle, "--whole", "--kit", "k.tgz")
    assert "no whole graph" in refused("bench", bundle, "--whole")


def test_the_same_export_has_the_same_bytes(with_student, make_bundle, tmp_path, few_goldens):
    again = export_bundle(with_student, "onnx", Precision.FP32, tmp_path / "again", whole=True)
    assert again.sha256 == make_bundle("onnx", "fp32").sha256
    manifest = json.loads((again.root / MANIFEST).read_text())
    assert [item["role"] for item in manifest["artifacts"]] == ["localizer", "regressor", "whole"]
