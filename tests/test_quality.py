"""Accept, review, reject: how limits are applied, learned and stored; and what is not answered."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bakit.bundle import Bundle, write_manifest
from bakit.cli import main
from bakit.cli.calibrate import print_limits
from bakit.errors import BakitError, ImageError, InputError, MissingBackendError
from bakit.hand.found import Found
from bakit.hand.prepare import crop
from bakit.image.box import Box
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.phantoms import make_phantom
from bakit.phantoms.decoys import LEARNED, MET, draw
from bakit.prediction import Prediction, prediction_schema
from bakit.quality.judge import Judge, from_constants
from bakit.quality.limits import REASONS, Limit, Quality, QualityLimits, Rate, detect
from bakit.quality.measures import VECTOR, box_measures
from bakit.report.text import read_reference, years_months
from bakit.runtime import Runtime
from bakit.studies.quality.changes import PARTS, _without_part, cut_hand, faded
from bakit.studies.quality.fit import (
    FALSE_REJECTS,
    Rung,
    between,
    ends_of_scale,
    expected_rise,
    fit_detectors,
    from_ladder,
)
from bakit.studies.quality.learn import Amounts, _together, qualify_file
from bakit.targets import get_target, targets

NONE = Rate(0, 0, 0)
DETECTORS = {"never": (0.0,) * (VECTOR + 1)}


def limits(*items):
    return QualityLimits(tuple(items), 127.0, NONE, {}, "made up", DETECTORS)


def with_limits(folder, *items):
    """Give a bundle limits."""
    manifest = Bundle.read(folder).manifest
    manifest = msgspec.structs.replace(manifest, quality=limits(*items))
    write_manifest(folder, manifest)


SIDE = Limit("side_pixels", "too_small", "below", 40.0, 20.0, NONE)
SECOND = Limit("second", "two_hands", "above", 0.2, 0.5, NONE)


@pytest.mark.parametrize(
    ("measures", "known", "expected"),
    [
        ({"side_pixels": 40, "second": 0.2}, (), Quality("accept")),
        ({"side_pixels": 39}, (), Quality("review", ("too_small",))),
        ({"side_pixels": 19, "second": 0.3}, (), Quality("reject", ("two_hands", "too_small"))),
        ({"side_pixels": float("nan")}, (), Quality("reject", ("too_small",))),
        ({}, ("no_hand_found",), Quality("reject", ("no_hand_found",))),
        ({}, ("inverted",), Quality("review", ("inverted",))),
        ({"unknown": 1e9}, (), Quality("accept")),
    ],
)
def test_the_worst_measure_decides_and_all_are_named(measures, known, expected):
    assert limits(SIDE, SECOND).judge(measures, known) == expected


def test_a_rejected_image_has_no_number_unless_asked_for_by_name(fake_bundle, labelled):
    with_limits(fake_bundle, msgspec.structs.replace(SIDE, reject=1e9))
    image = labelled.samples[0].path
    with Runtime(fake_bundle) as runtime:
        prediction = runtime.predict(image, "F")
        assert (prediction.age_months, prediction.interval_months) == (None, None)
        assert prediction.quality == Quality("reject", ("too_small",))
        asked = runtime.predict(image, "F", allow_rejected=True)
        assert asked.age_months == pytest.approx(130, abs=3)
        assert asked.quality == prediction.quality
    arguments = ["predict", str(image), "--sex", "F", "--bundle", str(fake_bundle)]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        "reject: too_small (the hand has too few pixels); use an image with more pixels\nnext: "
    )
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["age_months"] is None
    result = CliRunner().invoke(main, [*arguments, "--allow-rejected"])
    assert result.exit_code == 0
    assert "months" in result.stdout


def test_no_hand_is_rejected_once_there_are_limits(fake_bundle):
    ramp = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
    with_limits(fake_bundle)
    with Runtime(fake_bundle) as runtime:
        assert runtime.predict(ramp, "F").quality == Quality("reject", ("no_hand_found",))


def test_an_inverted_image_is_read_the_right_way_round(exported, labelled):
    from bakit.image.read import decode

    with Runtime(exported("onnx", "fp32")) as runtime:
        grey = decode(labelled.samples[0].path)
        box = runtime.locate(grey)
        usual = runtime.preprocess(grey, box)
        turned = runtime.preprocess(1 - grey, box, inverted=True)
        assert np.abs(usual - turned).max() < 0.02
        runtime._look = lambda g: (None, Found(box, ("inverted",)))
        prediction = runtime.predict(1 - grey, "F")
        assert prediction.age_months == pytest.approx(runtime.regress(usual, male=False), abs=1)


def test_a_model_that_sees_nothing_is_noticed(fake_bundle, labelled, monkeypatch):
    from bakit.backends.fake import FakeSession

    with_limits(
        fake_bundle,
        Limit("from_blank_months", "collapsed_to_mean", "below", None, 0.01, NONE),
        Limit("from_mean_months", "collapsed_to_mean", "below", None, 0.01, NONE),
    )
    image = labelled.samples[0].path
    with Runtime(fake_bundle) as runtime:
        assert runtime.predict(image, "F").quality.status == "accept"
    answer = {"age_months": np.array([[127.0]], np.float32)}
    run = FakeSession.run
    monkeypatch.setattr(
        FakeSession, "run", lambda s, f: answer if s.role == "regressor" else run(s, f)
    )
    with Runtime(fake_bundle) as runtime:
        assert runtime.predict(image, "F").quality == Quality("reject", ("collapsed_to_mean",))


def test_thorough_measures_how_far_the_age_moves(fake_bundle, labelled):
    with Runtime(fake_bundle) as runtime:
        spread = runtime.predict(labelled.samples[0].path, "F", thorough=True).measures
        assert 0 < spread["spread_months"] < 1
        assert "spread_months" not in runtime.predict(labelled.samples[0].path, "F").measures


def test_box_measures():
    grey = np.zeros((60, 60), np.float32)
    grey[10:50, 10:40] = 0.5
    grey[10:20, 10:40] = 1
    got = box_measures(grey, Box(10, 10, 40, 50))
    assert got == {"side_pixels": 30, "grey_levels": 2, "saturated": 0.25}


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_an_inverted_film_is_as_saturated_as_the_film(kind):
    grey = np.random.default_rng(0).random((60, 60)).astype(np.float32)
    grey[:30] = 0  # a black background, which is white in the inverted film
    if kind is np.uint8:
        grey = (grey * 255).astype(np.uint8)
    box, white = Box(0, 0, 60, 60), kind(255 if kind is np.uint8 else 1)
    right = box_measures(grey, box)
    assert right["saturated"] < 0.1
    assert box_measures(white - grey, box, inverted=True)["saturated"] == right["saturated"]
    assert box_measures(white - grey, box)["saturated"] >= 0.5


# Learning


def test_limits_part_good_from_bad_in_the_middle():
    good, bad = np.linspace(0, 1, 1001), np.linspace(5, 6, 1001)
    chosen = between("m", "not_a_hand", good, good, bad, 0.002)
    assert chosen.reject == pytest.approx((1 + 5) / 2, abs=0.05)
    assert 0.99 < chosen.review < chosen.reject
    mixed = between("m", "not_a_hand", good, good, np.linspace(0.5, 2, 1001), 0.002)
    assert mixed.reject == pytest.approx(0.998, abs=1e-3)


@pytest.mark.parametrize("lost", [0, 2, 9])
def test_all_limits_together_reject_few_good_films(lost):
    """Ten measures of 1,000 films: a bar of 0.3 % on each of them would reject 3 % of the films."""
    films = np.random.default_rng(0).normal(0, 1, (1000, 10))
    rows = [{f"m{i}": value for i, value in enumerate(film)} for film in films]
    rows[:lost] = [{}] * lost  # no hand was found in these

    def choose(share):
        tops = np.quantile(films, 1 - share, axis=0)
        return [Limit(f"m{i}", "turned", "above", None, top) for i, top in enumerate(tops)]

    chosen = _together(rows, choose)
    rejected = sum(any(limit.status(row[limit.measure]) == "reject" for limit in chosen)
                   for row in rows[lost:])  # fmt: skip
    assert lost + rejected <= max(3, lost)
    alone = choose(FALSE_REJECTS)
    assert np.mean((films > [limit.reject for limit in alone]).any(1)) > 0.02


def test_limits_lie_where_the_error_rises():
    rungs = [Rung(50, 0.0), Rung(40, 0.5), Rung(30, 1.5), Rung(20, 3.0), Rung(10, 9.0)]
    chosen = from_ladder("side_pixels", "too_small", "below", rungs, np.full(100, 60.0), 0)
    assert (chosen.review, chosen.reject) == (35, 15)
    # Never at the cost of good ones.
    chosen = from_ladder("side_pixels", "too_small", "below", rungs, np.full(100, 32.0), 0)
    assert (chosen.review, chosen.reject) == (32, 15)
    assert from_ladder("m", "too_small", "below", rungs[:2], np.ones(9), 0).reject is None


@pytest.mark.parametrize("change", [0.0, 1.0, 4.0, 12.0])
def test_the_rise_of_an_error_follows_from_the_changes(change):
    generator = np.random.default_rng(0)
    errors = generator.normal(0, 8, 200_000)
    changes = generator.normal(0, change * np.sqrt(np.pi / 2), len(errors))
    rise = np.abs(errors + changes).mean() - np.abs(errors).mean()
    assert expected_rise(float(np.abs(errors).mean()), change) == pytest.approx(rise, abs=0.05)


def test_films_that_fade_without_a_change_of_age_set_no_limit():
    """A few films' errors rise and fall by chance; their ages do not change by chance."""
    rungs = [Rung(levels, expected_rise(6.3, 0.4)) for levels in (60, 40, 30, 20)]
    chosen = from_ladder("grey_levels", "low_contrast", "below", rungs, np.full(9, 99.0), 0)
    assert (chosen.review, chosen.reject) == (None, None)


@pytest.mark.parametrize("levels", [6, 16, 40])
def test_a_film_fades_by_the_hands_own_range(levels):
    """A bright marker or a wide background leave the hand no fewer levels."""
    generator = np.random.default_rng(levels)
    grey = generator.uniform(0.4, 0.5, (200, 160)).astype(np.float32)
    box = Box(20, 20, 140, 180)
    for marker in (0.5, 1.0):
        film = grey.copy()
        film[:10, :10] = 0
        film[30:36, 30:36] = marker
        inside = np.rint(faded(film, box, levels)[40:180, 40:140] * 255)
        assert levels <= len(np.unique(inside)) <= 1.1 * levels + 2
        assert inside.min() >= 0
        assert inside.max() <= 255


def test_ends_of_the_scale_lie_where_the_true_ends_land():
    true = np.linspace(10, 230, 2001)
    shrunk = 120 + 0.8 * (true - 120)  # such a model never predicts more than 208
    young, mature, low, high = ends_of_scale(true, shrunk, true)
    assert (young.code, mature.code) == ("below_trained_ages", "skeletally_mature")
    assert shrunk.min() < young.review < 40
    assert 200 < mature.review < shrunk.max()
    assert (low.reject, high.reject) == (10, 230)
    assert np.mean(shrunk > mature.review) <= 0.011


def test_an_age_that_happens_to_be_the_mean_is_no_collapse():
    asked = []

    def upside_down(age):
        asked.append(age)
        return lambda: age

    far = from_constants(90.0, 127.0, 140.0, lambda: pytest.fail("not needed"))
    assert far == {"from_mean_months": 37, "from_blank_months": 50}
    assert from_constants(127.01, 127.0, 140.0, upside_down(100.0))["from_mean_months"] == 27
    same = from_constants(139.99, 127.0, 140.0, upside_down(140.0))
    assert same["from_blank_months"] < 0.05
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("months", "status"), [(0.5, "review"), (1, "accept"), (215, "accept"), (216, "review")]
)
@pytest.mark.parametrize("limited", [False, True])
def test_the_patient_s_age_is_asked(months, status, limited):
    judge = Judge(Checkpoint.read(SHIPPED).header.quality if limited else None)
    found = Found(Box(0, 0, 9, 9))
    got = judge.judge(found, {"patient_months": months})
    assert got == Quality(status, ("patient_age",) if status == "review" else ())


def test_a_fitted_model_tells_two_kinds_apart():
    rng = np.random.default_rng(0)
    hands, others = rng.normal(0, 1, (400, VECTOR)), rng.normal(0.7, 2, (400, VECTOR))
    fitted = fit_detectors({"not_a_hand": (hands, others)})
    good = [detect(fitted, v)["not_a_hand"] for v in rng.normal(0, 1, (100, VECTOR))]
    bad = [detect(fitted, v)["not_a_hand"] for v in rng.normal(0.7, 2, (100, VECTOR))]
    assert np.mean(np.array(good) < 0) > 0.97
    assert np.mean(np.array(bad) > 0) > 0.97
    with pytest.raises(InputError, match="3 images are too few for not_a_hand"):
        fit_detectors({"not_a_hand": (hands[:3], others)})


@pytest.mark.parametrize("kind", [*LEARNED, *MET])
def test_pictures_follow_from_their_seed(kind):
    first = draw(kind, 5)
    assert first.dtype == np.uint8
    assert np.ptp(first) > 0
    assert np.array_equal(first, draw(kind, 5))
    assert not np.array_equal(first, draw(kind, 6)[: first.shape[0], : first.shape[1]])
    assert not set(LEARNED) & set(MET)


@pytest.mark.parametrize("part", PARTS)
def test_every_cut_takes_a_part_of_the_hand_away(part):
    phantom = make_phantom(6100, height=200, nuisances=())
    grey = (phantom.image / 255).astype(np.float32)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        found = cut_hand(grey, phantom.box, part, rng)
        assert found.dtype == np.float32
        if part.startswith("slant") or part == "round":  # the hand keeps its place
            gone = (found != grey) & phantom.mask
            assert 0.05 < gone.sum() / phantom.mask.sum() < 0.9
        else:
            kept = _without_part(phantom.box, part, np.random.default_rng(seed))
            assert kept.area < 0.91 * phantom.box.area
            assert kept.inside(phantom.box) == kept


def test_limits_are_learned_measured_and_kept(tmp_path, checkpoint_for, few_goldens):
    from bakit.phantoms import write_phantoms

    folder = write_phantoms(tmp_path / "data", 100, height=100)
    small = Amounts(20, 10, 7, 12, others=6, spoiled=20, ladder=2)
    found, out = checkpoint_for("litert"), tmp_path / "with.safetensors"
    steps = []
    written = qualify_file(
        found.path, folder, out, small, on_progress=lambda step, *_: steps.append(step)
    )
    learned = written.header.quality
    assert written.weights_sha256 == found.weights_sha256
    assert learned.good.samples == 10
    detectors = {"not_a_hand", "no_side", "no_fingers", "no_wrist", "turned"}
    assert set(learned.detectors) == detectors
    others = {"no_hand_found", "inverted"}
    others |= {"patient_age", "not_a_radiograph", "other_body_part", "both_hands"}  # of headers
    assert {item.code for item in learned.limits} == set(REASONS) - others
    assert learned.caught["noise"] == Rate(3, 3, 0)
    assert "hands" in steps
    assert Checkpoint.read(out).header.quality == learned


def test_data_of_another_model_are_refused(refused, labelled):
    line = refused("quality", labelled.folder, "--out", "out.safetensors")
    assert "not the training folder of bakit-rsna299.safetensors" in line
    assert "must end in .safetensors" in refused("quality", labelled.folder, "--out", "out.json")


def test_the_shipped_checkpoint_has_limits():
    quality = Checkpoint.read(SHIPPED).header.quality
    assert quality is not None
    assert quality.good.samples == 1156
    assert quality.good.rejected <= 0.005 * quality.good.samples
    assert quality.good.reviewed <= 0.06 * quality.good.samples
    caught = quality.caught
    for kind in ("cut off: fingers", "cut off: wrist", "two hands", "noise", "nearly blank"):
        assert caught[kind].rejected >= 0.95 * caught[kind].samples
    for kind in ("cut off: side", "cut off: corner", "cut off: tips", "turned by 45 degrees"):
        assert caught[kind].rejected + caught[kind].reviewed >= 0.95 * caught[kind].samples
    for kind in ("turned by 90 degrees", "turned by 180 degrees"):  # they are turned upright
        assert caught[kind].rejected + caught[kind].reviewed <= 0.15 * caught[kind].samples
    others = [caught[kind] for kind in MET if kind in caught]
    assert sum(r.rejected for r in others) >= 0.95 * sum(r.samples for r in others)


# Many threads, many images


def same(prediction):
    return msgspec.structs.replace(prediction, stages_ms={})


# Those that run on a CPU at full speed: a stand-in for other hardware takes seconds an image.
FAST = [t.name for t in targets().values() if t.localizer_form == "winograd"]


@pytest.mark.parametrize("target", [*FAST, "fake"])
def test_many_threads_get_what_one_gets(exported, labelled, fake_target, target):
    try:
        get_target(target).load_backend()
    except MissingBackendError as missing:
        pytest.skip(str(missing))
    with Runtime(exported(target, "fp32"), 1) as runtime:
        work = [(s.path.read_bytes(), sex) for s in labelled.samples[:2] for sex in "FM"]
        alone = [same(runtime.predict(*item)) for item in work]
        wrong = []

        def many():
            wrong.extend(
                item
                for item, one in zip(work, alone, strict=True)
                if same(runtime.predict(*item)) != one
            )

        count = 4 if target in {"torch", "coreai"} else 16  # these take long for an image
        threads = [threading.Thread(target=many) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_session_that_is_not_concurrent_serves_one_at_a_time(fake_bundle, labelled, monkeypatch):
    from bakit.backends.fake import FakeSession

    inside, most = [], []
    run = FakeSession.run

    def counted(self, feeds):
        inside.append(1)
        most.append(len(inside))
        try:
            return run(self, feeds)
        finally:
            inside.pop()

    monkeypatch.setattr(FakeSession, "concurrent", False)
    monkeypatch.setattr(FakeSession, "run", counted)
    with Runtime(fake_bundle) as runtime:
        runtime._regressor.run  # noqa: B018
        list(runtime.predict_many([labelled.samples[0].path] * 40, "F", threads=8))
    assert len(most) == 80
    assert max(most) <= 2  # the localizer and the regressor are two sessions


def test_predict_many_keeps_the_order_and_goes_on_after_errors(fake_bundle, labelled):
    images = [labelled.samples[0].path, "nowhere.png", labelled.samples[1].path]
    with Runtime(fake_bundle) as runtime:
        first, error, last = runtime.predict_many(images, ["F", "M", "X"], threads=2)
        assert same(first) == same(runtime.predict(images[0], "F"))
        assert isinstance(error, ImageError)
        assert isinstance(last, InputError)
        assert len(list(runtime.predict_many(images[:1] * 5, "F"))) == 5
        assert all(isinstance(e, BakitError) for e in runtime.predict_many(images[:1]))
        for sexes, text in ((["F"], "fewer sexes"), (["F"] * 4, "more sexes")):
            with pytest.raises(InputError, match=text):
                list(runtime.predict_many(images, sexes))
        with pytest.raises(InputError, match="threads=0"):
            runtime.predict_many(images, "F", threads=0)
        for one in ("hand.png", Path("hand.png"), b"PNG"):
            with pytest.raises(InputError, match="one image; give predict_many a list"):
                list(runtime.predict_many(one, "F"))


@pytest.mark.parametrize("rejected", [0, 10, 11, 20])
def test_limits_that_reject_most_good_radiographs_get_a_note(capsys, rejected):
    good = Rate(20, rejected, 0)
    print_limits(QualityLimits((), 127.0, good, {}, "made up"))
    assert ("most good radiographs are rejected" in capsys.readouterr().err) == (rejected > 10)


def test_predict_many_takes_images_only_as_it_needs_them(fake_bundle, labelled):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield labelled.samples[0].path

    with Runtime(fake_bundle) as runtime:
        stream = runtime.predict_many(endless(), "F", threads=2)
        for count in range(1, 10):
            next(stream)
            assert len(taken) <= count + 4
        stream.close()


def test_warm_up_and_logging_tell_nothing_of_the_child(fake_bundle, labelled, caplog):
    import logging

    with Runtime(fake_bundle) as runtime, caplog.at_level(logging.DEBUG, "bakit"):
        assert runtime.warm_up() > 0
        runtime.predict(labelled.samples[0].path, "F")
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("accept - {'decode'")
    assert str(labelled.samples[0].path) not in text
    assert "130" not in text.split("{")[0]


# What is said of a prediction


def test_a_prediction_says_what_an_auditor_asks(exported, labelled):
    bundle = exported("onnx", "fp32")
    with Runtime(bundle) as runtime:
        prediction = runtime.predict(labelled.samples[0].path, "F")
    assert len(prediction.input_sha256) == 64
    assert prediction.checkpoint_sha256 == bundle.manifest.checkpoint_sha256
    assert {"bakit", "python", "numpy", "opencv", "onnxruntime"} <= set(prediction.versions)
    assert msgspec.json.decode(prediction.to_json(), type=Prediction) == prediction


def test_the_same_pixels_have_the_same_digest_in_any_file(fake_bundle, labelled):
    import cv2

    data = labelled.samples[0].path.read_bytes()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    other = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    assert other != data
    with Runtime(fake_bundle) as runtime:
        digests = {runtime.predict(source, "F").input_sha256 for source in (data, other, image)}
        assert len(digests) == 1
        image[0, 0] ^= 1
        assert runtime.predict(image, "F").input_sha256 not in digests


def test_bytes_and_greys_are_prepared_alike():
    from bakit.image.read import read_radiograph
    from bakit.settings import Preprocessing

    rng = np.random.default_rng(0)
    for span in (2, 7, 90, 256):
        for inverted in (False, True):
            image = rng.integers(256 - span, 256, (300, 200), np.uint8)
            film = read_radiograph(image)
            assert film.pixels.dtype == np.uint8
            for box in (None, Box(20, 30, 150, 290)):
                one, other = (
                    crop(pixels, box, inverted, Preprocessing())
                    for pixels in (film.pixels, film.grey)
                )
                assert np.array_equal(one, other)


def test_the_published_schema_is_the_schema():
    from pathlib import Path

    published = Path(__file__).parents[1] / "docs/prediction.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(prediction_schema()))


@pytest.mark.parametrize(
    ("months", "text"),
    [(124.3, "10 y 4 m"), (0, "0 y 0 m"), (11.6, "1 y 0 m"), (143.5, "12 y 0 m"), (-3, "-0 y 3 m")],
)
def test_years_and_months(months, text):
    assert years_months(months) == text


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("sex,age_months,mean\nF,1,1\n", "column 'sd' is missing"),
        ("sex,age_months,mean,sd\n", "no rows; expected the header sex,age_months,mean,sd"),
        ("sex,age_months,mean,sd\nF,1,1,1,5\n", "t.csv:2: 5 fields under 4 columns"),
        ("sex,age_months,mean,sd,mean\nF,1,1,1,1\n", "two columns of 'mean'"),
        ("sex,age_months,mean,sd\nX,1,1,1\n", "use F or M"),
        ("sex,age_months,mean,sd\nF,1,1,0\n", "an sd above 0"),
        ("sex,age_months,mean,sd\nF,1,1,old\n", "t.csv:2: use numbers"),
        ("sex,age_months,mean,sd\nF,1,1,1\nF,2,2,1\n", "two or more rows for M"),
    ],
)
def test_a_bad_reference_table_is_refused(tmp_path, table, text):
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(InputError, match=text):
        read_reference(tmp_path / "t.csv")


def test_sds_is_interpolated_and_never_extrapolated(tmp_path):
    rows = "sex,age_months,mean,sd\nF,100,100,8\nF,120,120,12\nM,100,101,9\nM,120,121,9\n"
    (tmp_path / "t.csv").write_text(rows)
    reference = read_reference(tmp_path / "t.csv")
    assert reference.sds(120, 110, "F") == pytest.approx(1.0)
    assert reference.sds(120, 121, "F") is None
