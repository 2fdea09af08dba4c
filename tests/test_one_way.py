"""An inverted and turned film in a frame gives the same age wherever it is prepared."""

from __future__ import annotations

import csv
import inspect
from dataclasses import replace

import cv2
import numpy as np
import pytest

from bakit.data.labels import read_samples
from bakit.export import export_bundle
from bakit.hand import prepare as prepare_module
from bakit.hand.prepare import to_bytes
from bakit.image.read import decode
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.types import Precision

MONTHS = 0.01
SEEDS = (7001, 7003, 7004)


def film_of(seed, phantom):
    """The phantom's film, turned by quarter turns, in a frame."""
    film = np.rot90(phantom.image, SEEDS.index(seed) + 1)
    return np.pad(film, 30, constant_values=0)


@pytest.fixture(scope="module")
def inverted(tmp_path_factory):
    """A labelled folder of inverted films."""
    folder = tmp_path_factory.mktemp("inverted")
    (folder / "images").mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "boneage", "male"])
        for seed in SEEDS:
            phantom = make_phantom(seed, height=320, nuisances=("inverted",))
            cv2.imwrite(str(folder / "images" / f"{seed}.png"), film_of(seed, phantom))
            rows.writerow([seed, phantom.age_months, phantom.male])
    return read_samples(folder)


@pytest.fixture(scope="module")
def runtime(shipped):
    with Runtime(shipped, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def ages(runtime, inverted):
    """What ``Runtime.predict`` answers: the others are held to it."""
    found = {}
    for sample in inverted:
        prediction = runtime.predict(sample.path, sex(sample), allow_rejected=True)
        assert "inverted" in prediction.quality.reasons
        assert prediction.turned_degrees == 360 - 90 * (SEEDS.index(int(sample.id)) + 1)
        found[sample.id] = prediction.age_months
        straight = 1 - decode(sample.path)
        assert runtime.predict(straight, sex(sample)).age_months == pytest.approx(
            prediction.age_months, abs=8
        )
    return found


def sex(sample):
    return "M" if sample.male else "F"


def age_of(runtime, pixels, sample):
    """The age of a crop, given as bytes or as float32 in 0..1."""
    if pixels.dtype == np.uint8:
        pixels = pixels.astype(np.float32) / np.float32(255)
    return runtime.regress(pixels, male=sample.male)


def test_golden_records(ages, inverted, monkeypatch, tmp_path):
    from bakit.export import bundle as module
    from bakit.verify import check_golden

    drawn = {seed: make_phantom(seed, height=320, nuisances=("inverted",)) for seed in SEEDS}
    pictures = {
        seed: replace(phantom, image=film_of(seed, phantom)) for seed, phantom in drawn.items()
    }
    monkeypatch.setattr(module, "GOLDEN_SEEDS", SEEDS)
    monkeypatch.setattr(module, "make_phantom", lambda seed, height: pictures[seed])
    written = export_bundle(Checkpoint.read(SHIPPED), "onnx", Precision.FP32, tmp_path / "golden")
    assert all(golden.inverted and golden.turn for golden in written.manifest.golden)
    for golden in written.manifest.golden:
        assert golden.age_months == pytest.approx(ages[golden.path[7:-4]], abs=MONTHS)
    for check in check_golden(written):
        assert check.passed
        assert check.age_months == pytest.approx(ages[check.path[7:-4]], abs=MONTHS)


def test_golden_images_are_accepted_and_repeat_the_manifest(shipped, runtime):
    assert len(shipped.manifest.golden) == 16
    for golden in shipped.manifest.golden:
        prediction = runtime.predict(shipped.root / golden.path, golden.sex)
        assert prediction.quality.status == "accept"
        assert prediction.age_months == pytest.approx(golden.age_months, abs=MONTHS)
        assert prediction.box == golden.box


def test_calibration(runtime, inverted, ages):
    from bakit.calib.dataset import load_images

    for sample, feeds in zip(
        inverted, load_images(Checkpoint.read(SHIPPED), inverted), strict=True
    ):
        assert age_of(runtime, feeds["image"][0, 0], sample) == pytest.approx(
            ages[sample.id], abs=MONTHS
        )


def test_training(runtime, inverted, ages, tmp_path):
    from bakit.hand.weights import get_localizer
    from bakit.training.boxes import places_by_id
    from bakit.training.crops import load_part, phantom_part

    settings = Checkpoint.read(SHIPPED).header.preprocessing
    places = places_by_id(inverted, settings, get_localizer("student"), tmp_path, workers=1)
    part = load_part(inverted, places, settings, tmp_path)
    for sample, crops in zip(inverted, part.images.numpy(), strict=True):
        assert age_of(runtime, crops[0], sample) == pytest.approx(ages[sample.id], abs=MONTHS)
    # Generated films know their polarity themselves: bones are bright in what is learned.
    seed = next(s for s in range(1000) if make_phantom(s, height=100).inverted)
    (crop,) = phantom_part(1, settings, tmp_path, first=seed, workers=1).images.numpy()[:, 0]
    edge = np.concatenate([crop[:8].ravel(), crop[:, :4].ravel(), crop[:, -4:].ravel()])
    middle = crop[len(crop) // 3 : -len(crop) // 3, len(crop) // 3 : -len(crop) // 3]
    assert middle.mean() > edge.mean()


def test_a_device(runtime, shipped, inverted, ages, tmp_path):
    from bakit.bench.device.pack import _sample_rows

    rows, readings = _sample_rows(shipped, shipped, inverted, lambda: None)
    for sample, row, reading in zip(inverted, rows, readings, strict=True):
        assert reading.age_months == pytest.approx(ages[sample.id], abs=MONTHS)
        assert age_of(runtime, row["crops"], sample) == pytest.approx(ages[sample.id], abs=MONTHS)


def test_a_phone(runtime, shipped, inverted, ages):
    from bakit.bench.phone.inputs import drift_inputs

    references = {shipped.manifest.checkpoint_sha256: runtime}
    inputs = drift_inputs([runtime], references, inverted, lambda *_: None)
    (readings,) = inputs.references.values()
    for sample, crop, reading in zip(inverted, inputs.crops[0], readings, strict=True):
        assert reading.age_months == pytest.approx(ages[sample.id], abs=MONTHS)
        assert age_of(runtime, crop, sample) == pytest.approx(ages[sample.id], abs=MONTHS)


def test_a_benchmark_s_worker(runtime, inverted, ages):
    from bakit.bench.local.worker import Server

    server = Server(runtime)
    for sample in inverted:
        sex = "M" if sample.male else "F"
        said = server.ask(sample.path, sex, None)
        assert said.age_months == pytest.approx(ages[sample.id], abs=MONTHS)
        again = server.ask(sample.path, sex, said.seen)
        assert again.age_months == pytest.approx(ages[sample.id], abs=MONTHS)


def test_learning_of_limits(runtime, inverted, ages):
    from bakit.studies.quality.measure import Eye
    from bakit.studies.quality.streams import radiographs

    eye = Eye(runtime, mean_months=130)
    for sample, looked in zip(inverted, eye.look("", radiographs(inverted)), strict=True):
        assert looked.measures["age_months"] == pytest.approx(ages[sample.id], abs=MONTHS)


def test_the_overlay_shows_the_crop_of_the_regressor(runtime, inverted):
    from bakit.hand.overlay import draw_overlay

    for sample in inverted:
        grey = decode(sample.path)
        hand = runtime.prepare(grey)
        picture = draw_overlay(grey, hand)
        side = picture.shape[0] - 44 - 12
        panel = picture[44 : 44 + side, -side - 12 : -12, 0]
        shown = cv2.resize(panel, hand.pixels.shape, interpolation=cv2.INTER_AREA)
        # The panel is resampled; the wrong polarity would correlate negatively.
        pair = shown.ravel(), to_bytes(hand.pixels).ravel()
        assert np.corrcoef(*pair)[0, 1] > 0.95


def test_nobody_has_to_remember_the_polarity():
    """A crop cannot be asked for without its polarity."""
    parameter = inspect.signature(prepare_module.crop).parameters["inverted"]
    assert parameter.default is inspect.Parameter.empty
