"""A checkpoint leaves with another localizer than it was trained with, and both say so."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from bakit.bundle import Bundle
from bakit.cli import main
from bakit.errors import MissingBackendError
from bakit.export.command import with_localizer
from bakit.export.onnx.localizer import open_localizer
from bakit.hand.prepare import find
from bakit.hand.unrolled import initial_weights
from bakit.image.read import decode
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.settings import Preprocessing, UnrolledSettings
from bakit.targets import get_target, targets

SMALL = {"steps": 3, "size": 32, "features": 5, "labels": 6}
OPTIONS = ["--steps", "3", "--working-size", "32", "--features", "5", "--labels", "6"]


# The target torch exports the checkpoint as it is.
FAST = [
    target.name
    for target in targets().values()
    if target.localizer_form == "winograd"
    and "unrolled" in target.localizers
    and target.name != "torch"
]


@pytest.mark.parametrize("target", FAST)
def test_the_bundle_finds_the_hand_as_it_was_told(checkpoint, tmp_path, target, few_goldens):
    try:
        get_target(target).load_backend()
    except MissingBackendError as missing:
        pytest.skip(str(missing))
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
    localizer = open_localizer(initial_weights(settings), settings, 1)
    with Runtime(folder, threads=1) as runtime:
        expected = find(decode(picture), localizer, Preprocessing())[1]
        found = runtime.localize(picture)
    assert found.method == "unrolled"
    assert found.box.iou(expected.box) >= 0.9


def test_a_checkpoint_keeps_its_weights_where_only_steps_change(checkpoint):
    changed = with_localizer(checkpoint, None, {"steps": 1})
    assert changed.header.localizer.steps == 1
    assert changed.localizer is checkpoint.localizer
    assert with_localizer(checkpoint, None, {}).header == checkpoint.header
    literal = with_localizer(checkpoint, None, {"box_rule": "literal"})
    assert literal.header.localizer.box_rule == "literal"
    assert literal.localizer is checkpoint.localizer
