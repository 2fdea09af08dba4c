"""The amortised localizer: trained on references, chosen by boxes that need no label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from bakit.cli import main
from bakit.errors import InputError
from bakit.localizer import initial_weights, localize
from bakit.localizers import Localizer, get_localizer
from bakit.settings import AmortisedSettings
from bakit.training.amortise import Trials, amortise, train_on
from bakit.training.processes import spread

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Labelled

SETTINGS = AmortisedSettings(size=32, features=4, labels=4)
TRIALS = Trials(candidates=3, references=2, steps=3, images=4, phantoms=3, seed=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, labelled: Labelled) -> tuple[Path, Localizer]:
    """Return a file and the localizer that was written to it."""
    out = tmp_path_factory.mktemp("amortised") / "a.safetensors"
    return out, amortise(labelled.folder, out, TRIALS, settings=SETTINGS, workers=1)


def test_same_seed_gives_the_same_file(
    made: tuple[Path, Localizer], labelled: Labelled, tmp_path: Path
) -> None:
    best: list[int] = []
    done: dict[str, int] = {}
    again = tmp_path / "again.safetensors"
    amortise(
        labelled.folder,
        again,
        TRIALS,
        settings=SETTINGS,
        workers=1,
        on_step=lambda what, count: done.update({what: done.get(what, 0) + count}),
        on_best=lambda number, _: best.append(number),
    )
    assert again.read_bytes() == made[0].read_bytes()
    assert best[0] == 0
    assert done == {
        "asking the student": 4,
        "drawing phantoms": 3,
        "training candidates": 3,
        "judging the best": 3,
    }


def test_file_is_read_back_and_weights_are_trained(made: tuple[Path, Localizer]) -> None:
    path, written = made
    read = get_localizer(str(path))
    assert read.sha256 == written.sha256
    assert read.settings == written.settings
    assert isinstance(read.settings, AmortisedSettings)
    assert "candidate" in read.origin
    start = initial_weights(read.settings)  # the seed of the chosen candidate is on record
    assert not np.array_equal(start["conv1.weight"], read.weights["conv1.weight"])


def test_training_on_one_reference_is_the_unrolled_localizer() -> None:
    image = np.random.default_rng(0).random((32, 32), np.float32)
    seen = []
    start = initial_weights(SETTINGS)
    steps = AmortisedSettings(size=32, features=4, labels=4, steps=5)
    localize(image, start, steps, lambda _, weights: seen.append(weights))
    trained = train_on([image], SETTINGS, 5, average=False)
    for name, value in seen[-1].items():
        assert np.allclose(trained[name], value, atol=1e-6), name


def test_average_of_equal_references_is_one_of_them() -> None:
    image = np.random.default_rng(0).random((32, 32), np.float32)
    one = train_on([image], SETTINGS, 3, average=False)
    three = train_on([image] * 3, SETTINGS, 3, average=True)
    assert np.allclose(one["conv3.weight"], three["conv3.weight"], atol=1e-5)


@pytest.mark.parametrize("steps", [0, 2])
def test_graph_is_the_numpy_localizer(made: tuple[Path, Localizer], steps: int) -> None:
    from bakit.export.session import open_localizer

    settings = AmortisedSettings(size=32, features=4, labels=4, steps=steps)
    weights = made[1].weights
    image = np.random.default_rng(5).random((32, 32), np.float32)
    image[8:24, 8:24] += 1
    image /= image.max()
    labels = open_localizer(weights, settings, 1).run({"image": image[None, None]})["labels"]
    assert (labels == localize(image, weights, settings)).mean() > 0.99


def test_processes_keep_the_order() -> None:
    done: list[int] = []
    assert list(spread(abs, [-3, 2, -1], 2, done.append, chunk=1)) == [3, 2, 1]
    assert list(spread(abs, [-3], 2, done.append)) == [3]
    assert sum(done) == 4


def test_shipped_weights_find_the_hand_of_a_phantom() -> None:
    from bakit.export.session import open_localizer
    from bakit.locate import locate
    from bakit.phantoms import make_phantom
    from bakit.preprocess import decode

    shipped = get_localizer("amortised")
    assert shipped.method == "amortised"
    phantom = make_phantom(7, height=200, nuisances=())
    grey = decode(phantom.image)
    found = locate(grey, open_localizer(shipped.weights, shipped.settings, 1), shipped.settings)
    assert found.box is not None
    assert found.box.iou(phantom.box) > 0.9


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        (Trials(candidates=0), "--candidates 0 is not possible; use 1 or more"),
        (Trials(images=0, phantoms=0), "leaves nothing to choose by"),
        (Trials(references=9), "too few for --references 9; use at most"),
    ],
)
def test_impossible_numbers(
    trials: Trials, message: str, labelled: Labelled, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        amortise(labelled.folder, tmp_path / "a.safetensors", trials)


def test_command_writes_the_same_method(labelled: Labelled, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    words = "--candidates 1 --references 2 --steps 2 --images 2 --phantoms 1 --warm-steps 1"
    command = ["distill", str(labelled.folder), "--method", "amortised", "--out", str(out)]
    result = CliRunner().invoke(main, [*command, *words.split(), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert get_localizer(str(out)).settings.steps == 1
    assert "candidate 0 of 1" in result.stderr


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("student", "--candidates"),
        ("student", "--references"),
        ("student", "--warm-steps"),
        ("amortised", "--empties"),
        ("amortised", "--batch-size"),
    ],
)
def test_options_of_the_other_method_are_refused(method: str, option: str, tmp_path: Path) -> None:
    command = ["distill", str(tmp_path), "--out", "x.safetensors", "--method", method, option, "3"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert f"{option} is not an option of --method {method}" in result.stderr
