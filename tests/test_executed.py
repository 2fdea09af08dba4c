"""What ran where: shares of the multiply-adds by unit and number format, as libraries tell them."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakit import agent
from bakit.backends import ort
from bakit.bench import run_bench
from bakit.errors import MissingBackendError
from bakit.runtime import Runtime
from bakit.session import executed_shares
from bakit.targets import get_target

UNITS = {
    "onnx": "CPUExecutionProvider",
    "openvino": "openvino-cpu",
    "litert": "litert-xnnpack",
}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("target", UNITS)
def test_a_runtime_tells_where_its_multiply_adds_ran(exported, target, precision):
    try:
        get_target(target).load_backend()
    except MissingBackendError as missing:
        pytest.skip(str(missing))
    with Runtime(exported(target, precision), threads=1) as runtime:
        shares = runtime.executed
        assert {item.unit for item in shares} == {UNITS[target]}
        assert sum(item.share for item in shares) == pytest.approx(1, abs=1e-5)
        written = runtime.bundle.artifact("regressor").int8_share
        assert runtime.int8_share == pytest.approx(written, abs=1e-3)
        assert (written > 0.96) == (precision == "int8")


def test_int8_that_onnx_runtime_computes_in_float_is_seen(exported, monkeypatch):
    """Without the optimizer, every layer dequantizes its inputs; the file still says INT8."""
    profile = agent.profile_onnx
    plain = {"graph_optimization_level": ort.onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL}
    monkeypatch.setattr(agent, "profile_onnx", lambda *model, **_: profile(*model, **plain))
    with Runtime(exported("onnx", "int8"), threads=1) as runtime:
        assert runtime.bundle.artifact("regressor").int8_share > 0.96
        assert runtime.int8_share == 0


def test_kernels_that_no_layer_explains_are_not_guessed(exported, monkeypatch):
    profile = agent.profile_onnx

    def renamed(*model, **plain):
        kernels, assigned = profile(*model, **plain)
        return kernels if plain else [
            (f"kernel {name}", facts) for name, facts in kernels
        ], assigned

    monkeypatch.setattr(agent, "profile_onnx", renamed)
    bundle = exported("onnx", "int8")
    with Runtime(bundle, threads=1) as runtime:
        assert runtime.executed == ()
        assert runtime.int8_share == bundle.artifact("regressor").int8_share  # as written


def test_a_session_without_its_file_tells_nothing(exported):
    data = (exported("onnx", "fp32").root / "regressor.onnx").read_bytes()
    assert ort.OrtSession(data).executed == ()


@given(
    layers=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["f32", "int8"]), st.integers(0, 2**40)),
        max_size=20,
    )
)
def test_shares_are_those_of_the_sums(layers):
    shares = executed_shares(layers)
    sums = Counter()
    for unit, precision, products in layers:
        sums[unit, precision] += products
    total = sums.total()
    assert {(s.unit, s.precision) for s in shares} == {key for key, n in sums.items() if n}
    for item in shares:
        assert item.share == pytest.approx(sums[item.unit, item.precision] / total, abs=1e-6)
    assert [s.share for s in shares] == sorted((s.share for s in shares), reverse=True)


def test_a_report_has_it(exported):
    """The worker tells it, JSON keeps it, and the report's words name the unit."""
    how = {"min_queries": 1, "min_duration_s": 0, "provider": "azure"}
    report = run_bench([exported("onnx", "int8").root], **how)
    (bundle,) = msgspec.json.decode(report.encode(), type=type(report)).bundles
    share = 100 * bundle.int8_share
    assert share == pytest.approx(97, abs=0.3)
    assert bundle.provider == "CPUExecutionProvider; AzureExecutionProvider took no node"
    words = bundle.ran
    assert words.startswith(f"{share:.1f} % int8 on CPUExecutionProvider, {100 - share:.1f} % f32")
