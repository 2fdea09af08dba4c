"""Radiograph and sex in, months out; on the fake target, which answers at once."""

from __future__ import annotations

import json

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bakit.backends.fake import FakeSession
from bakit.bundle import Bundle, seal
from bakit.cli import main
from bakit.errors import ImageError, InputError
from bakit.image.box import Box
from bakit.runtime import STAGES, Quality, Runtime

FIELDS = {
    "age_months",
    "interval_months",
    "box",
    "quality",
    "stages_ms",
    "target",
    "precision",
    "provider",
    "bundle_sha256",
    "sex",
    "interval_level",
    "input_sha256",
    "checkpoint",
    "checkpoint_sha256",
    "mirrored",
    "measures",
    "chronological_months",
    "difference_months",
    "versions",
    "turned_degrees",
}


@pytest.fixture
def runtime(fake_bundle):
    with Runtime(fake_bundle) as opened:
        yield opened


@pytest.fixture
def image(labelled):
    return labelled.samples[0].path


def answer(prediction):
    """Return what does not change between two calls."""
    return {k: v for k, v in msgspec.to_builtins(prediction).items() if k != "stages_ms"}


def test_a_prediction_has_the_promised_fields(runtime, image, fake_bundle):
    fields = msgspec.to_builtins(runtime.predict(image, "F"))
    assert set(fields) == FIELDS
    assert (fields["target"], fields["precision"], fields["provider"]) == ("fake", "fp32", "fake")
    assert fields["interval_months"] is None
    assert fields["bundle_sha256"] == Bundle.read(fake_bundle).sha256
    assert len(fields["box"]) == 4
    assert set(fields["quality"]) == {"status", "reasons"}


def test_the_stages_add_up(runtime, image):
    stages = runtime.predict(image, "F").stages_ms
    assert tuple(stages) == STAGES
    assert min(stages.values()) >= 0
    assert sum(stages[name] for name in STAGES[:-1]) == pytest.approx(stages["total"])


def test_the_sex_reaches_the_model(runtime, image):
    girl, boy = (runtime.predict(image, sex).age_months for sex in "FM")
    assert boy == pytest.approx(girl + 1)  # the fake adds the input


@pytest.mark.parametrize("sex", ["x", "X", "", "mal", 1])
def test_a_wrong_sex_is_refused(runtime, image, sex):
    with pytest.raises(InputError, match=r"is not possible; use F or M, female or male$"):
        runtime.predict(image, sex)


def test_path_bytes_and_array_give_the_same_answer(runtime, image):
    expected = answer(runtime.predict(image, "M"))
    array = cv2.imread(str(image), cv2.IMREAD_UNCHANGED)
    for source in (str(image), image.read_bytes(), array):
        assert answer(runtime.predict(source, "M")) == expected


@pytest.mark.parametrize(
    "image", [np.full((64, 64), np.nan), np.zeros((64, 64)), b"", "nowhere.png"]
)
def test_an_unusable_image_is_refused(runtime, image):
    with pytest.raises(ImageError):
        runtime.predict(image, "F")


def test_without_a_hand_the_whole_image_is_used_and_a_person_asked(runtime):
    ramp = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
    prediction = runtime.predict(ramp, "F")
    assert prediction.box == Box(0, 0, 64, 48)
    assert prediction.quality == Quality("review", ("no_hand_found",))
    assert runtime.localize(ramp).box is None


def test_a_found_hand_is_accepted(runtime, image):
    prediction = runtime.predict(image, "F")
    assert prediction.quality == Quality("accept")
    assert runtime.localize(image).box == prediction.box


def test_a_bundle_that_does_not_localize_uses_the_whole_image(fake_bundle, image):
    path = fake_bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["preprocessing"]["localize"] = False
    path.write_text(json.dumps(manifest))
    seal(fake_bundle)
    height, width = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE).shape
    with Runtime(fake_bundle) as runtime:
        prediction = runtime.predict(image, "F")
    assert prediction.box == Box(0, 0, width, height)
    assert prediction.quality == Quality("accept")


def test_both_models_are_closed(fake_bundle, image, monkeypatch):
    closed = []
    monkeypatch.setattr(FakeSession, "__exit__", lambda self, *_: closed.append(self.role))
    with Runtime(fake_bundle) as runtime:
        runtime.predict(image, "F")
        assert closed == []
    assert sorted(closed) == ["localizer", "regressor"]


def test_the_first_model_is_closed_when_the_second_cannot_be_opened(fake_bundle, monkeypatch):
    from bakit.backends import fake

    closed = []
    opened = fake.open_session

    def only_one(files, artifact, threads):
        if artifact.role == "localizer":
            raise MemoryError
        return opened(files, artifact, threads)

    monkeypatch.setattr(FakeSession, "__exit__", lambda self, *_: closed.append(self.role))
    monkeypatch.setattr(fake, "open_session", only_one)
    with pytest.raises(MemoryError):
        Runtime(fake_bundle)
    assert closed == ["regressor"]


def test_a_runtime_takes_a_path_a_text_or_a_bundle(fake_bundle, image):
    answers = []
    for bundle in (fake_bundle, str(fake_bundle), Bundle.read(fake_bundle)):
        with Runtime(bundle) as runtime:
            answers.append(answer(runtime.predict(image, "F")))
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("threads", [0, -1])
def test_a_number_of_threads_below_one_is_refused(fake_bundle, threads):
    with pytest.raises(InputError, match=f"threads={threads} is not possible"):
        Runtime(fake_bundle, threads=threads)


def test_the_threads_reach_the_backend(fake_bundle, monkeypatch):
    from bakit.backends import fake

    seen = []
    opened = fake.open_session
    monkeypatch.setattr(fake, "open_session", lambda *a: seen.append(a[2]) or opened(*a))
    with Runtime(fake_bundle, threads=3):
        assert seen == [3, 3]


# The commands


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_predict_prints_one_json_object(runtime, image, fake_bundle):
    out = run("predict", image, "--sex", "M", "--bundle", fake_bundle, "--json").stdout
    fields = json.loads(out)
    assert out.count("\n") == 1
    assert set(fields) == FIELDS
    del fields["stages_ms"]
    assert fields == msgspec.json.decode(msgspec.json.encode(answer(runtime.predict(image, "M"))))


def test_predict_prints_months_and_years(image, fake_bundle):
    result = run("predict", image, "--sex", "F", "--bundle", fake_bundle)
    assert result.stdout == "10 y 10 m (130.2 months)\n"
    assert result.stderr.startswith("next: bakit bench ")


def test_predict_says_on_stderr_when_a_person_should_look(tmp_path, fake_bundle):
    cv2.imwrite(str(tmp_path / "ramp.png"), np.tile(np.arange(64, dtype=np.uint8), (48, 1)))
    result = run("predict", tmp_path / "ramp.png", "--sex", "F", "--bundle", fake_bundle)
    assert result.stderr.startswith("review: no_hand_found (no region looks like a hand); check ")


def test_predict_finds_the_only_bundle(image, fake_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bakit-bundles" / ".half-written").mkdir(parents=True)
    (tmp_path / "bakit-bundles" / ".half-written" / "manifest.json").touch()
    fake_bundle.rename(tmp_path / "bakit-bundles" / "only")
    assert run("predict", image, "--sex", "F").stdout.startswith("10 y ")


def test_localize_prints_an_object_an_image(runtime, labelled, fake_bundle):
    images = [str(sample.path) for sample in labelled.samples[:2]]
    lines = run("localize", *images, "--bundle", fake_bundle, "--json").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    fields = {"image", "box", "method", "ms", "reasons", "scores", "turn"}
    assert [set(item) for item in found] == [fields] * 2
    assert [item["image"] for item in found] == images
    assert [item["box"] for item in found] == [list(runtime.localize(i).box) for i in images]


def test_localize_prints_boxes_for_people(runtime, image, fake_bundle):
    box = " ".join(map(str, runtime.localize(image).box))
    out = run("localize", image, "--bundle", fake_bundle).stdout
    assert out == f"{image}: {box}\n"
