"""The search for an INT8 recipe: on a bench of known costs, and on a real graph."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from bakit.backends.ort import OrtSession
from bakit.calib.command import sensitivity_figure
from bakit.calib.dataset import load_images
from bakit.calib.methods import METHODS
from bakit.calib.ranges import ranges_on, read_ranges
from bakit.calib.search import ALWAYS_FLOAT, TRIALS, Choice, Limits, Trial, Workbench, search
from bakit.cli import main
from bakit.export.onnx.int8 import (
    CPU,
    PLAIN,
    int8_share,
    multiply_adds,
    quantize,
    round_once,
)
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import serialize
from bakit.settings import FLOAT_LAYERS

LIMITS = Limits(max_drift_months=1, max_mean_change_months=1, max_p99_change_months=9)


class Costs:
    """A bench on which every INT8 layer costs what it is told, and weighs the same."""

    def __init__(self, costs, method="mse"):
        self.layers = [*costs, *ALWAYS_FLOAT]
        self.costs, self.method, self.asked = costs, method, []

    def attempt(self, choice, samples=None):
        self.asked.append((choice, samples))
        int8 = [name for name in self.costs if name not in choice.float_layers]
        change = sum(self.costs[name] for name in int8)
        change *= 1.0 if choice.method == self.method else 2.0
        share = len(int8) / len(self.costs)
        uppers = (0.0, change, change * 2)
        return Trial(choice, samples or 1000, 0.0, change, change * 2, share, uppers)


def test_the_most_sensitive_layers_return_to_float():
    bench = Costs({"a": 0.1, "b": 5.0, "c": 0.2, "d": 3.0, "e": 0.1, "f": 0.1})
    found = search(bench, replace_share(LIMITS, 0.6))
    assert found.met
    assert set(found.best.choice.float_layers) == {*ALWAYS_FLOAT, "b", "d"}
    assert found.best.choice.method == "mse"
    assert sorted(found.sensitivity, key=found.sensitivity.get)[-2:] == ["d", "b"]


def test_nothing_returns_to_float_while_the_limits_hold():
    found = search(Costs({"a": 0.1, "b": 0.2}), LIMITS)
    assert found.met
    assert found.best.choice.float_layers == ALWAYS_FLOAT


def test_limits_that_cannot_be_kept_give_the_best_with_enough_int8():
    found = search(Costs({"a": 4.0, "b": 5.0, "c": 6.0, "d": 7.0}), replace_share(LIMITS, 0.75))
    assert not found.met
    assert found.best.int8_share == 0.75
    assert found.best.mean_change_months == 15
    assert found.best.broken(LIMITS)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8), st.floats(0, 1))
def test_what_is_found_keeps_the_limits_or_says_so(costs, share):
    limits = replace_share(LIMITS, share)
    found = search(Costs({f"l{i}": cost for i, cost in enumerate(costs)}), limits)
    assert found.met == (not found.best.broken(limits))
    assert set(found.best.choice.float_layers) >= set(ALWAYS_FLOAT)
    assert found.best in found.trials


def test_nan_breaks_every_limit():
    trial = Trial(Choice("tails", FLOAT_LAYERS), 1, *[float("nan")] * 3, 1.0)
    assert len(trial.broken(LIMITS)) == 3


def test_the_upper_end_decides_and_no_interval_breaks_a_limit():
    trial = Trial(Choice("tails", FLOAT_LAYERS), 1000, 0.0, 0.5, 2.0, 1.0, (0.1, 0.6, 8.9))
    assert not trial.broken(LIMITS)
    wide = msgspec.structs.replace(trial, uppers_months=(0.1, 0.6, 9.1))
    assert wide.broken(LIMITS) == [
        "99th percentile of the change +2.00 months, upper end 9.10 (at most 9.00)"
    ]
    few = msgspec.structs.replace(trial, uppers_months=(0.1, 0.6, None))
    assert "no interval on so few images" in few.broken(LIMITS)[0]


def replace_share(limits, share):
    return msgspec.structs.replace(limits, min_int8_share=share)


# On the real graph


@pytest.fixture(scope="module")
def images(checkpoint, labelled):
    return load_images(checkpoint, labelled.samples[:8])


@pytest.fixture(scope="module")
def model(checkpoint):
    return regressor_model(checkpoint)


@pytest.fixture(scope="module")
def ranges(checkpoint, images):
    return ranges_on(checkpoint, images)


def ages(model, images):
    with OrtSession(serialize(model), threads=1) as session:
        return np.array([session.run(feeds)["age_months"].item() for feeds in images])


def test_the_float_layers_decide_what_is_int8(model, ranges):
    products = multiply_adds(model)
    # By hand, at 96 pixels: 48x48 outputs of 9 weights and 16 channels; 960 to 1280 features.
    assert products["stem/conv"] == 48 * 48 * 16 * 9
    assert products["head/project"] == 960 * 1280
    kept = ("age_months", "block4/squeeze/fc1", "block9/expand", "head/sex")
    quantized = quantize(model, msgspec.structs.replace(ranges, float_layers=kept), PLAIN)
    share = 1 - sum(products[name] for name in kept) / sum(products.values())
    assert int8_share(quantized) == pytest.approx(share)
    assert int8_share(model) == 0
    scales = {
        item.name: numpy_helper.to_array(item).size
        for item in quantized.graph.initializer
        if item.name.endswith(".weight_scale")
    }
    assert scales["block2/expand.weight_scale"] == 64
    assert "block9/expand.weight_scale" not in scales


def test_fitted_layers_have_whole_vectors_and_the_same_ages(model, images, ranges, monkeypatch):
    fitted = quantize(model, ranges)
    groups = [
        item.i for node in fitted.graph.node for item in node.attribute if item.name == "group"
    ]
    assert sum(group > 1 for group in groups) == 15
    assert not any(group % 16 for group in groups if group > 1)
    monkeypatch.setattr("bakit.export.onnx.int8.VECTOR", 1)
    assert np.array_equal(ages(fitted, images), ages(quantize(model, ranges), images))


def test_a_layer_between_floats_is_fitted_as_float(model, ranges):
    """The one behind the float depthwise layer, before a sum of floats."""
    for form, is_float in ((CPU, True), (PLAIN, False)):
        nodes = quantize(model, ranges, form).graph.node
        weights = {node.input[1] for node in nodes if node.op_type == "Conv"}
        assert ("block1/project.weight" in weights) == is_float


def test_a_trial_is_measured_once(checkpoint, images, tmp_path, monkeypatch):
    """A second workbench finds the first one's trials, and another choice is not among them."""
    choice = Choice("tails", FLOAT_LAYERS)
    first = Workbench(checkpoint, images, images, tmp_path).attempt(choice)
    assert first.int8_share == pytest.approx(0.9723, abs=0.001)
    assert 0 < first.mean_change_months < 60
    with (tmp_path / TRIALS).open("ab") as file:
        file.write(b'["cut off')
    again = Workbench(checkpoint, images, images, tmp_path)
    monkeypatch.setattr("bakit.calib.search.quantize", None)
    assert again.attempt(choice) == first
    with pytest.raises(TypeError):
        again.attempt(Choice("minmax", FLOAT_LAYERS))


@pytest.fixture
def quick(monkeypatch, images):
    """Make a search short: two methods, few layers, the images at hand."""
    monkeypatch.setattr(
        "bakit.calib.search.METHODS", {name: METHODS[name] for name in ("tails", "minmax")}
    )
    layers = ["stem/conv", "block1/depthwise", "age_months", "head/sex"]
    monkeypatch.setattr("bakit.calib.search.layer_names", lambda _: layers)
    monkeypatch.setattr("bakit.calib.command.MIN_VALIDATION", 1)
    monkeypatch.setattr(
        "bakit.calib.search.quantile_interval", lambda values, *_: (0.0, float(values.max()))
    )
    monkeypatch.setattr(
        "bakit.calib.command.calibration_samples",
        lambda *_: (list(images.samples[:2]), list(images.samples[2:4])),
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder of trials: what one search has measured, the next does not measure again."""
    return tmp_path_factory.mktemp("search") / "work"


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def searched(checkpoint, labelled, work, out, *options):
    words = ["calibrate", labelled.folder, "--checkpoint", checkpoint.path, "--search"]
    return run(*words, "--work", work, "--out", out, *options)


def test_the_command_writes_what_export_takes(
    checkpoint, labelled, tmp_path, quick, work, few_goldens
):
    pytest.importorskip("matplotlib")
    out = tmp_path / "ranges.json"
    limits = ["--max-drift-months", 90, "--max-mean-change-months", 90]
    limits += ["--max-p99-change-months", 90]
    result = searched(checkpoint, labelled, work, out, "--plots", tmp_path / "plots", *limits)
    assert result.exit_code == 0, result.output
    assert "kept, best" in result.stdout
    ranges = read_ranges(out)
    assert ranges.float_layers == ALWAYS_FLOAT
    rows = list(csv.DictReader((work / "sensitivity.csv").read_text("utf-8").splitlines()))
    assert {row["layer"] for row in rows} == {"stem/conv", "block1/depthwise"}
    assert (tmp_path / "plots" / "sensitivity.png").read_bytes()[:4] == b"\x89PNG"
    stored = checkpoint.with_header(ranges=ranges).write(tmp_path / "found.safetensors")
    exported = run("export", stored.path, "--target", "onnx", "--int8", "--out", tmp_path)
    assert exported.exit_code == 0, exported.output


def test_the_legend_has_the_colours_of_the_bars():
    pytest.importorskip("matplotlib")
    best = SimpleNamespace(choice=Choice("tails", ("a",)), mean_change_months=0.5)
    outcome = SimpleNamespace(best=best, sensitivity={"a": 0.4, "b": 0.1, "c": 0.2})
    axes = sensitivity_figure(outcome).axes[0]
    colours = {round(bar.get_width(), 3): bar.get_facecolor() for bar in axes.patches}
    shown = [handle.get_facecolor() for handle in axes.get_legend().get_patches()]
    assert shown == [colours[0.1], colours[0.4]]
    assert colours[0.1] == colours[0.2] != colours[0.4]


def test_limits_that_cannot_be_kept_install_nothing(checkpoint, labelled, tmp_path, quick, work):
    out = tmp_path / "ranges.json"
    out.write_text("what was there")
    result = searched(checkpoint, labelled, work, out, "--max-mean-change-months", 0)
    assert result.exit_code == 1
    first, second = result.stderr.splitlines()
    assert first.startswith("bakit: no recipe is within the limits; the best: ")
    assert "mean change +" in first
    assert second == f"{out} was not written; raise the limits, or train longer"
    assert out.read_text() == "what was there"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--search", "--all-images"], "--all-images cannot be used with --search"),
        (["--search", "--method", "mse"], "--method cannot be used with --search"),
        (["--plots", "plots"], "--plots needs --search"),
        (["--method", "luck"], "unknown range method 'luck'"),
        (["--search", "--min-int8-share", "1.5"], "--min-int8-share"),
        (["--search", "--validation", "1"], "1 is not possible; use 368 or more"),
    ],
)
def test_options_that_do_not_go_together(refused, labelled, options, reason):
    assert reason in refused("calibrate", labelled.folder, *options)


def test_the_search_wants_the_folder_of_the_training(refused, checkpoint, labelled):
    line = refused("calibrate", labelled.folder, "--checkpoint", checkpoint.path, "--search")
    assert "has no record of its training data" in line


def test_a_search_on_few_validation_images_is_refused_before_it_starts(
    refused, checkpoint, labelled, monkeypatch
):
    parts = list(labelled.samples[:4]), list(labelled.samples[4:7])
    monkeypatch.setattr("bakit.calib.command.calibration_samples", lambda *_: parts)
    line = refused("calibrate", labelled.folder, "--checkpoint", checkpoint.path, "--search")
    assert "3 validation images (--validation 600); a search needs 368 or more" in line


def test_rounding_once_changes_ages_less_than_int8_itself(model, images, ranges):
    quantized = quantize(model, ranges)
    once = round_once(quantized)
    counts = [
        sum(node.op_type == "QuantizeLinear" for node in graph.graph.node)
        for graph in (quantized, once)
    ]
    assert counts[0] - counts[1] >= 30  # one for each h-swish and each sum
    assert int8_share(once) == int8_share(quantized)
    expected = ages(model, images)
    before, after = (np.abs(ages(graph, images) - expected).mean() for graph in (quantized, once))
    assert after <= 1.2 * before  # one of both rounds less; which is closer, chance decides
