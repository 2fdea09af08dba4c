"""What every target keeps to, written once: it runs for each installed one and for the fake.

A new target is tested here by its row in the table alone.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bakit import targets as table
from bakit.backends.fake import FAKE
from bakit.bundle import Bundle, Manifest, encode_manifest
from bakit.cli import main
from bakit.errors import MissingBackendError, UnsupportedTargetError
from bakit.export import export_bundle
from bakit.runtime import STAGES, Runtime
from bakit.targets import get_target, targets
from bakit.types import Precision
from bakit.verify import check_golden

REAL = [
    (name, p.value)
    for name, t in targets().items()
    for p in Precision
    # On other systems, the reference target stands for one that runs on its own system only.
    # Core AI has wheels for fewer systems; without them, tests/test_coreai.py is one skip for all.
    if p in t.precisions and t.runs_here and (name != "coreai" or find_spec("coreai_onnx"))
]
# A target's INT8 program, the largest, stands for its others; for Core AI's: tests/test_coreai.py.
AGAIN = [*dict(pair for pair in REAL if pair[0] != "coreai" and pair[1] != "int8-weights").items()]
FLOATS = [pair for pair in REAL if pair[1] == "fp32" and pair[0] != "torch"]
ALL = [*REAL, ("fake", "fp32")]  # the fake has one answer for all precisions


def names(pairs):
    return ["-".join(pair) for pair in pairs]


@pytest.fixture(scope="module", params=ALL, ids=names(ALL))
def pair(request):
    """A target and a precision that are installed here.

    Where a target's own library cannot run, another one runs its files, as at an export.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "_BUILT_IN", (*table._BUILT_IN, FAKE))
        target = get_target(request.param[0])
        try:
            target.load_checker()
            target.load_exporter()
        except MissingBackendError as missing:
            pytest.skip(str(missing))
        yield request.param


@pytest.fixture
def own_checkpoint(pair, checkpoint_for):
    """The checkpoint of the bundle: the student's where the target runs no other localizer."""
    return checkpoint_for(pair[0])


@pytest.fixture(scope="module")
def bundle(pair, exported):
    return exported(*pair)


@pytest.fixture(scope="module")
def backend(bundle):
    return get_target(bundle.manifest.target).load_checker()


@pytest.fixture(scope="module")
def runtime(bundle, backend):
    with Runtime(bundle, threads=1, backend=backend) as opened:
        yield opened


@pytest.fixture
def pixels():
    """A prepared image, the same in every test."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (96, 96)) / 255).astype(np.float32)


def test_the_bundle_says_what_it_is(pair, bundle, own_checkpoint):
    checkpoint = own_checkpoint
    manifest = bundle.manifest
    assert (manifest.target, manifest.precision.value) == pair
    assert manifest.checkpoint == "tiny"
    assert manifest.checkpoint_sha256 == checkpoint.sha256
    assert manifest.preprocessing == checkpoint.header.preprocessing
    assert manifest.localizer == checkpoint.header.localizer
    ranges = checkpoint.header.ranges if pair[1] == "int8" else None
    assert manifest.calibration_sha256 == (ranges and ranges.calibration_sha256)
    assert sorted(artifact.role for artifact in manifest.artifacts) == ["localizer", "regressor"]


def test_the_manifest_survives_a_round_trip(bundle):
    data = encode_manifest(bundle.manifest)
    assert msgspec.json.decode(data, type=Manifest) == bundle.manifest
    assert (bundle.root / "manifest.json").read_bytes() == data
    assert Bundle.read(bundle.root) == bundle


def test_the_manifest_names_every_file(bundle):
    named = {path for artifact in bundle.manifest.artifacts for path in artifact.files}
    named |= {golden.path for golden in bundle.manifest.golden}
    there = {p.relative_to(bundle.root).as_posix() for p in bundle.root.rglob("*") if p.is_file()}
    assert there == named | {"manifest.json", "manifest.json.sha256"}


def test_golden_answers_are_reproduced(bundle, backend):
    checks = check_golden(bundle, threads=1, backend=backend)
    assert len(checks) == len(bundle.manifest.golden) > 0
    assert [check.path for check in checks if not check.passed] == []


@pytest.mark.parametrize("role", ["localizer", "regressor"])
def test_a_session_returns_what_is_declared(bundle, runtime, role):
    artifact = bundle.artifact(role)
    rng = np.random.default_rng(1)
    feeds = {spec.name: rng.random(spec.shape, spec.dtype) for spec in artifact.inputs}
    session = runtime.localizer.session if role == "localizer" else runtime._regressor
    assert session.provider
    outputs = session.run(feeds)
    declared = {spec.name: (spec.shape, spec.dtype) for spec in artifact.outputs}
    assert {name: (v.shape, v.dtype.name) for name, v in outputs.items()} == declared


def test_the_localizer_s_output_is_within_its_bounds(bundle, runtime):
    settings = bundle.manifest.localizer
    image = np.random.default_rng(2).random((1, 1, settings.size, settings.size), np.float32)
    (output,) = runtime.localizer.session.run({"image": image}).values()
    bound = getattr(settings, "labels", 1.001)  # the student's are probabilities
    assert 0 <= output.min() < output.max() < bound


def test_the_sex_changes_the_answer(runtime, pixels):
    assert runtime.regress(pixels, male=True) != runtime.regress(pixels, male=False)


def test_the_image_changes_the_answer(runtime, pixels):
    assert runtime.regress(pixels, male=True) != runtime.regress(pixels / 2, male=True)


def test_the_same_input_has_the_same_answer(bundle, backend, runtime, pixels):
    first = runtime.regress(pixels, male=False)
    assert runtime.regress(pixels, male=False) == first
    with Runtime(bundle, threads=1, backend=backend) as other:
        assert other.regress(pixels, male=False) == first


def test_a_prediction_is_complete(pair, bundle, runtime, labelled):
    prediction = runtime.predict(labelled.samples[0].path, "F")
    fields = json.loads(msgspec.json.encode(prediction))
    assert (fields["target"], fields["precision"]) == pair
    assert fields["bundle_sha256"] == bundle.sha256
    assert fields["provider"] == runtime.provider
    assert tuple(fields["stages_ms"]) == STAGES
    assert fields["quality"]["status"] in {"accept", "review", "reject"}
    x0, y0, x1, y1 = fields["box"]
    assert 0 <= x0 < x1
    assert 0 <= y0 < y1


def predict_four(runtime, labelled):
    return [runtime.predict(s.path, "M" if s.male else "F") for s in labelled.samples[:4]]


@pytest.fixture(scope="module")
def float_predictions(exported, labelled):
    """Return what returns torch's predictions, computed once for each checkpoint."""

    @cache
    def predict(root):
        with Runtime(root, threads=1) as reference:
            return predict_four(reference, labelled)

    return lambda target: predict(exported("torch", "fp32", like=target).root)


@pytest.mark.parametrize("pair", FLOATS, ids=names(FLOATS), indirect=True)
def test_every_float_target_agrees_with_the_checkpoint(pair, runtime, float_predictions, labelled):
    """Within a thousandth of a month on whole predictions: box, crop and age."""
    found = predict_four(runtime, labelled)
    for got, expected in zip(found, float_predictions(pair[0]), strict=True):
        assert got.box == expected.box
        assert got.age_months == pytest.approx(expected.age_months, abs=1e-3)


@pytest.mark.parametrize("pair", AGAIN, ids=names(AGAIN), indirect=True)
def test_a_second_export_is_the_same_bytes(pair, bundle, own_checkpoint, tmp_path, few_goldens):
    """This one by the command line, into another folder."""
    target, precision = pair
    arguments = [
        "export",
        "-q",
        own_checkpoint.path,
        "--target",
        target,
        f"--{precision}",
        "--out",
        tmp_path,
    ]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert (result.exit_code, result.stderr) == (0, "")
    root = tmp_path / f"tiny-{target}-{precision}"
    int8 = 100 * bundle.artifact("regressor").int8_share
    share = f"  INT8: {int8:.1f}% of the multiply-adds" if precision == "int8" else ""
    assert result.stdout == f"{root}  {bundle.size_bytes / 1e6:.1f} MB{share}\n"
    assert Bundle.read(root).sha256 == bundle.sha256  # of the manifest, which seals the rest


LACKING = [(n, p.value) for n, t in targets().items() for p in Precision if p not in t.precisions]


@pytest.mark.parametrize("pair", LACKING, ids=names(LACKING))
def test_a_precision_that_is_not_there_names_those_that_are(pair, checkpoint, tmp_path):
    target, precision = get_target(pair[0]), Precision(pair[1])
    there = ", ".join(sorted(p.value for p in target.precisions))
    message = f"does not support {pair[1]}; it supports {there}$"
    with pytest.raises(UnsupportedTargetError, match=message):
        export_bundle(checkpoint, target.name, precision, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


WITHOUT = [(n, "fp32") for n, target in targets().items() if "unrolled" not in target.localizers]


@pytest.mark.parametrize("pair", WITHOUT, ids=names(WITHOUT))
def test_a_localizer_that_is_not_there_names_those_that_are(pair, refused, tmp_path):
    line = refused("export", "--target", pair[0], "--localizer", "unrolled")
    assert line == f"bakit: target {pair[0]!r} has no unrolled localizer; use --localizer student"
    assert list(tmp_path.iterdir()) == []
