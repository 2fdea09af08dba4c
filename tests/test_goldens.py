"""The golden check: correct evaluators of a model pass, broken models do not."""

from __future__ import annotations

import msgspec
import onnx
import pytest

from bakit.export import export_bundle
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.types import Precision
from bakit.verify import golden_failure
from tests.evaluators import SEEDS, broken, correct, golden_feeds, literally

GRAPHS = {"int8": "regressor-qdq.onnx", "fp32": "regressor.onnx"}


@pytest.fixture(scope="module", params=GRAPHS)
def case(request, tmp_path_factory):
    """Return a bundle of the shipped model, its graph, and the inputs of its goldens."""
    precision = Precision(request.param)
    out = tmp_path_factory.mktemp("golden") / "bundle"
    bundle = export_bundle(Checkpoint.read(SHIPPED), "tensorrt", precision, out)
    model = onnx.load(bundle.root / GRAPHS[request.param])
    return bundle, model, golden_feeds(bundle)


def test_no_correct_evaluator_is_refused(case):
    bundle, model, feeds = case
    runs = correct(model, feeds)
    for seed in SEEDS[2:]:  # the others: tests/benchmarks/golden_evaluators.py
        del runs[f"noise {seed}"]
    if bundle.manifest.precision is Precision.INT8:
        half = onnx.load(bundle.root / "regressor-qdq-fp16.onnx")  # what TensorRT 10 builds
        runs["float16"] = lambda: literally(half, feeds)
    assert len(runs) >= 5
    failures = {name: golden_failure(run(), bundle.manifest) for name, run in runs.items()}
    assert set(failures.values()) == {None}, failures


def test_broken_models_are_refused(case, checkpoint):
    bundle, model, feeds = case
    is_int8 = bundle.manifest.precision is Precision.INT8
    runs = broken(model, feeds, checkpoint, is_int8=is_int8)
    assert len(runs) == 5
    for name, ages in {
        **{name: run() for name, run in runs.items()},
        "no number": [float("nan")] * len(feeds),
    }.items():
        failure = golden_failure(ages, bundle.manifest)
        assert failure, name
        assert "computes another model" in failure


def test_an_int8_bundle_built_without_int8_is_compared_with_the_float_model(case):
    bundle, _, _ = case
    floats = [golden.age_months for golden in bundle.manifest.golden]
    strict = msgspec.structs.replace(bundle.manifest, tolerance_months=1e-9)
    assert golden_failure(floats, strict, downgraded=True) is None
    if bundle.manifest.precision is Precision.INT8:
        assert golden_failure(floats, strict)
