"""Which bundle is recommended, and in what words."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakit.bench.gate.recommend import at_most, recommend, short_labels
from bakit.bench.report.latency import Stability

NAN = float("nan")


def outcomes(report):
    return {standing.label: standing.outcome for standing in recommend(report).standings}


def test_the_usual_five(make_report):
    advice = recommend(make_report())
    assert advice.ship == "model-onnx-int8"
    assert advice.sentence == (
        "Ship onnx INT8: 5 ms a radiograph (median), 8.9 MB, and an MAE at most 0.08 months above "
        "the float model's (95 % upper bound; the limit is 0.25)."
    )
    assert advice.others == (
        "If every prediction must stay nearest to the float model's: onnx FP32 (6 ms, 31.2 MB).",
    )
    assert advice.caveats == ()
    assert [(s.label, s.outcome, s.reason) for s in advice.standings] == [
        ("onnx INT8", "ship", "the fastest within the limits"),
        ("onnx FP32", "option", "nearer to the float model than onnx INT8, but slower and larger"),
        (
            "openvino FP16",
            "option",
            "nearer to the float model than onnx INT8, but slower and larger",
        ),
        ("openvino INT8", "beaten", "onnx INT8 is smaller, and nowhere worse"),
        (
            "openvino FP32",
            "beaten",
            "onnx FP32 is faster and nearer to the float model, and nowhere worse",
        ),
    ]


def test_of_two_that_are_as_fast_the_smaller_is_shipped(make_bundle, make_report):
    fast = make_bundle("onnx", "int8", 5.0, 20.0)
    small = make_bundle("openvino", "int8", 5.2, 9.0)
    advice = recommend(make_report(fast, small))
    assert advice.ship == small.name
    assert advice.standings[0].reason == "as fast as any, and smaller"
    assert outcomes(make_report(fast, small))["onnx INT8"] == "beaten"


def test_a_smaller_but_slower_one_is_named(make_bundle, make_report):
    fast = make_bundle("onnx", "int8", 5.0, 20.0)
    small = make_bundle("openvino", "int8", 9.0, 9.0)
    advice = recommend(make_report(fast, small))
    assert advice.ship == fast.name
    assert advice.others == ("If size matters most: openvino INT8 (9 ms, 9 MB).",)


def test_the_float_model_itself_may_be_the_one(make_bundle, make_report):
    advice = recommend(make_report(make_bundle("onnx", "fp32", 4.0, 31.0, 0.0, 0.0)))
    assert advice.sentence == (
        "Ship onnx FP32: 4 ms a radiograph (median), 31 MB, and it is the float model itself."
    )
    assert advice.standings[0].reason == "the only one within the limits"


def test_what_the_gate_refuses_is_not_shipped(make_bundle, make_report):
    fast = make_bundle("onnx", "int8", 3.0, 8.0, 0.4)
    sound = make_bundle("openvino", "int8", 6.0, 9.0, 0.1)
    advice = recommend(make_report(fast, sound))
    assert advice.ship == sound.name
    refused = advice.standings[-1]
    assert refused.outcome == "refused"
    assert "drift" in refused.reason


def test_changes_that_cancel_out_are_refused_too(make_bundle, make_report):
    moved = make_bundle("onnx", "int8", 3.0, 8.0, 0.0, 9.0)
    assert outcomes(make_report(moved)) == {"onnx INT8": "refused"}


def test_none_within_the_limits(make_bundle, make_report):
    advice = recommend(
        make_report(make_bundle(mean=0.9), make_bundle("openvino", mean=0.5)),
    )
    assert advice.ship is None
    assert advice.sentence.startswith(
        "Ship none of these yet: none is within the gate's limits. The nearest is openvino INT8: "
    )


def test_too_few_images_are_no_failure(make_bundle, make_report):
    advice = recommend(make_report(make_bundle(mean=0.22)))
    assert outcomes(make_report(make_bundle(mean=0.22))) == {"onnx INT8": "undecided"}
    assert "none is shown to be within" in advice.sentence
    assert "too few images" in advice.sentence


def test_without_drift_only_time_and_size_are_compared(make_bundle, make_report):
    bundles = (make_bundle(drift=None), make_bundle("openvino", "fp32", 9.0, 31.0, drift=None))
    advice = recommend(make_report(*bundles))
    assert advice.sentence == (
        "By time and size alone, take onnx INT8: 5 ms a radiograph (median), 9 MB."
    )
    assert any("Drift was not measured" in line for line in advice.caveats)


def test_failed_and_partial_bundles_are_said(make_bundle, make_report):
    failed = make_bundle("openvino", error="it crashed (signal 11)", latency=None, drift=None)
    unrun = make_bundle("onnx", "fp32", latency=None, footprint=None, drift=None)
    report = make_report(make_bundle(), failed, unrun, partial=True)
    advice = recommend(report)
    assert advice.ship == "model-onnx-int8"
    assert [s.outcome for s in advice.standings] == ["ship", "unmeasured", "unmeasured"]
    assert "The run was interrupted: what it had not come to is missing." in advice.caveats
    assert "One bundle failed and could not be compared." in advice.caveats
    reasons = {s.name: s.reason for s in advice.standings}
    assert reasons[failed.name] == "failed: it crashed (signal 11)"


def test_nothing_measured(make_bundle, make_report):
    advice = recommend(make_report(make_bundle(latency=None, drift=None), partial=True))
    assert (advice.ship, advice.others) == (None, ())
    assert advice.sentence == "There is nothing to choose yet: no bundle was measured."
    empty = msgspec.structs.replace(make_report(), bundles=(), data=None)
    assert recommend(empty).standings == ()


def test_torch_is_not_shipped(make_bundle, make_report):
    torch = make_bundle("torch", "fp32", 1.0, 1.0, drift=None)
    assert recommend(make_report(torch)).ship is None
    assert outcomes(make_report(torch, make_bundle(drift=None)))["torch FP32"] == "reference"


def test_a_machine_that_did_not_hold_still_is_said(make_bundle, make_report):
    bundle = make_bundle()
    latency = msgspec.structs.replace(bundle.latency, stability=Stability(40.0, "unsteady"))
    report = make_report(make_bundle("openvino"), msgspec.structs.replace(bundle, latency=latency))
    assert any("1 of 2 bundles" in line for line in recommend(report).caveats)


def test_several_checkpoints_are_said(make_bundle, make_report):
    report = make_report(make_bundle(), make_bundle("openvino", checkpoint_sha256="0" * 64))
    assert any("several checkpoints" in line for line in recommend(report).caveats)


def test_labels_are_unique(make_bundle):
    twins = [make_bundle(name="a"), make_bundle(name="b"), make_bundle("openvino")]
    assert short_labels(twins) == {"a": "a", "b": "b", "model-openvino-int8": "openvino INT8"}


@pytest.mark.parametrize(
    ("months", "words"),
    [(0.0744, "0.08"), (0.25, "0.25"), (0.2401, "0.24"), (0.2415, "0.25"), (-1, "0.00"), (2e-6, "0.00")],  # noqa: E501
)  # fmt: skip
def test_a_bound_is_rounded_up(months, words):
    assert at_most(months) == words


numbers = st.tuples(
    st.sampled_from([4.0, 5.0, 5.1, 8.0]),
    st.sampled_from([8.0, 9.0, 31.0]),
    st.sampled_from([0.0, 0.005, 0.1, 0.19]),
)


@settings(max_examples=40)
@given(st.lists(numbers, min_size=1, max_size=6))
def test_nothing_on_the_front_is_beaten(make_bundle, make_report, several):
    """The shipped one is on the front; whoever is beaten is beaten by one that is nowhere worse."""
    bundles = [
        make_bundle(name=str(index), p50_ms=p50, size_mb=size, mean=mean, images=400)
        for index, (p50, size, mean) in enumerate(several)
    ]
    advice = recommend(make_report(*bundles))
    by_name = {s.name: s for s in advice.standings}
    assert advice.ship is not None
    assert by_name[advice.ship].outcome == "ship"
    front = [s for s in advice.standings if s.outcome in {"ship", "option"}]
    for one, other in itertools.permutations(front, 2):
        better = one.p50_ms * 1.05 < other.p50_ms, one.size_mb * 1.01 < other.size_mb
        nearer = one.drift_upper_months + 0.01 < other.drift_upper_months
        worse = other.p50_ms * 1.05 < one.p50_ms, other.size_mb * 1.01 < one.size_mb
        further = other.drift_upper_months + 0.01 < one.drift_upper_months
        assert not ((any(better) or nearer) and not any(worse) and not further)


def test_a_time_that_is_no_number_is_not_measured(make_bundle, make_report):
    bundle = make_bundle()
    total = msgspec.structs.replace(bundle.latency.stages["total"], p50_ms=NAN)
    latency = msgspec.structs.replace(bundle.latency, stages={"total": total})
    report = make_report(msgspec.structs.replace(bundle, latency=latency))
    assert outcomes(report) == {"onnx INT8": "unmeasured"}
