"""A checkpoint leaves with another localizer than it was trained with, and both say so."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from bakit.bundle import Bundle
from bakit.cli import main
from bakit.export.command import with_localizer
from bakit.export.session import open_localizer
from bakit.localizer import initial_weights
from bakit.localizers import get_localizer
from bakit.locate import locate
from bakit.phantoms import make_phantom
from bakit.preprocess import decode
from bakit.runtime import Runtime
from bakit.settings import AmortisedSettings, UnrolledSettings

SMALL = {"steps": 3, "size": 32, "features": 5, "labels": 6}
OPTIONS = ["--steps", "3", "--working-size", "32", "--features", "5", "--labels", "6"]


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_the_bundle_finds_the_hand_as_it_was_told(checkpoint, tmp_path, target):
    pytest.importorskip(target)
    words = ["export", checkpoint.path, "--target", target, "--localizer", "unrolled", *OPTIONS]
    words += ["--similarity", "2", "--continuity", "0.5", "--out", tmp_path]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    (folder,) = tmp_path.iterdir()
    settings = UnrolledSettings(**SMALL, similarity=2.0, continuity=0.5)
    manifest = Bundle.read(folder).manifest
    assert manifest.localizer == settings
    assert manifest.localizer_form == "winograd"
    picture = make_phantom(7000, height=160).image
    with (
        open_localizer(initial_weights(settings), settings, 1) as session,
        Runtime(folder, threads=1) as runtime,
    ):
        expected = locate(decode(picture), session, settings)
        found = runtime.localize(picture)
    assert found.method == "unrolled"
    assert found.box.iou(expected.box) >= 0.9


def test_trained_weights_travel_with_their_method(checkpoint):
    changed = with_localizer(checkpoint, "amortised", {"steps": 2})
    shipped = get_localizer("amortised")
    assert isinstance(changed.header.localizer, AmortisedSettings)
    assert changed.header.localizer.steps == 2
    assert changed.localizer is not checkpoint.localizer
    for name, value in shipped.weights.items():
        np.testing.assert_array_equal(changed.localizer[name], value)


def test_a_checkpoint_keeps_its_weights_where_only_steps_change(checkpoint):
    changed = with_localizer(checkpoint, None, {"steps": 1})
    assert changed.header.localizer.steps == 1
    assert changed.localizer is checkpoint.localizer
    assert with_localizer(checkpoint, None, {}).header == checkpoint.header
