"""Intervals: what they promise, what small groups fall back to, and their way to a prediction."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bakit.bundle import Bundle, seal
from bakit.cli import main
from bakit.errors import InputError
from bakit.export import export_bundle
from bakit.model.checkpoint import Checkpoint, Header
from bakit.model.intervals import (
    EDGES_MONTHS,
    FEWEST,
    LEAST,
    LEVEL,
    Covered,
    Intervals,
    coverage,
    fit_intervals,
)
from bakit.runtime import Runtime
from bakit.types import Precision


class Images(NamedTuple):
    predicted: np.ndarray
    ages: np.ndarray
    male: np.ndarray

    def of(self, chosen):
        return Images(*(column[chosen] for column in self))


ages = st.floats(0, 240)
rows = st.lists(st.tuples(st.floats(-20, 260), ages, st.booleans()), min_size=19, max_size=120)
images = rows.map(lambda found: Images(*map(np.array, zip(*found, strict=True))))


def make_intervals(**fields):
    """Intervals of two bins, with other fields."""
    both = {"F": ((-10.0, 12.0), (-20.0, 5.0)), "M": ((-1.0, 2.0), (-3.0, 4.0))}
    known = {
        "level": 0.9,
        "age_edges_months": (100.0,),
        "offsets_months": both,
        "samples": {"F": (100, 200), "M": (300, 400)},
    }
    return Intervals(**known | fields)


def simulate(seed, count):
    """Images on which the errors depend on sex and age, and girls are read too old."""
    generator = np.random.default_rng(seed)
    predicted = generator.uniform(20, 210, count)
    male = generator.random(count) < 0.5
    sd = np.where(male, 6 + predicted / 20, 20 - predicted / 20)
    errors = generator.standard_t(6, count) * sd + np.where(male, 0, -4)
    return Images(predicted, np.clip(predicted + errors, 0, 240), male)


# The bounds


@given(images, st.floats(0, 300), st.booleans())
def test_the_bounds_are_ordered_and_hold_the_age(found, age, male):
    lower, upper = fit_intervals(*found, least=19).around(age, male=male)
    assert 0 <= lower <= age <= upper


@given(images, st.booleans(), st.floats(-300, -1e-9))
def test_an_age_below_0_has_bounds_from_0_up(found, male, age):
    lower, upper = fit_intervals(*found).around(age, male=male)
    assert lower == 0 <= upper


@given(images, st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(found, random):
    order = random.sample(range(len(found.ages)), len(found.ages))
    assert fit_intervals(*found.of(order), least=19) == fit_intervals(*found, least=19)


@given(st.lists(st.tuples(st.integers(-20, 260), st.integers(0, 240)), min_size=19))
def test_the_images_of_a_group_are_covered_themselves(pairs):
    """Whatever they are: the promise for a new one rests on that."""
    predicted, true = np.transpose(pairs)
    fitted = fit_intervals(predicted, true, None, edges=())
    girls = coverage(fitted, predicted, true, np.zeros(len(true)))
    assert girls.overall.share >= LEVEL


def test_bins_start_at_their_edge():
    found = make_intervals()
    assert found.around(99.99, male=False) == pytest.approx((89.99, 111.99))
    assert found.around(100, male=False) == (80, 105)
    assert found.around(100, male=True) == (97, 104)
    assert found.around(4, male=False) == (0, 16)


# The promise


@pytest.mark.parametrize(("count", "rank"), [(19, 1), (38, 1), (39, 2), (100, 5), (199, 10)])
def test_the_ranks_are_those_of_the_theory(count, rank):
    """Whole numbers, not floats: (1 - 0.9) / 2 * 20 is less than 1 in floats."""
    scores = np.random.default_rng(0).permutation(np.arange(count) - count // 2)
    fitted = fit_intervals(np.full(count, 120.0), 120.0 + scores, None, edges=())
    lower, upper = np.sort(scores)[[rank - 1, count - rank]]
    assert fitted.offsets_months == {"F": ((lower, upper),), "M": ((lower, upper),)}


@pytest.mark.parametrize(("count", "covered"), [(19, 0.9), (30, 29 / 31), (59, 0.9)])
def test_few_images_cover_what_they_promise_on_average(count, covered):
    """The share of a normal distribution inside, over many draws of the images."""
    generator = np.random.default_rng(1)
    shares = []
    for scores in generator.normal(0, 10, (1000, count)):
        fitted = fit_intervals(np.full(count, 120.0), 120 + scores, None, edges=())
        ((lower, upper),) = fitted.offsets_months["F"]
        shares.append((math.erf(upper / 10 / 2**0.5) - math.erf(lower / 10 / 2**0.5)) / 2)
    assert np.mean(shares) == pytest.approx(covered, abs=4 * np.std(shares) / 1000**0.5)


def test_every_group_is_covered_as_promised():
    fitted = fit_intervals(*simulate(2, 4000))
    fresh = simulate(3, 40_000)
    for sex, chosen in (("F", ~fresh.male), ("M", fresh.male)):
        found = coverage(fitted, *fresh.of(chosen))
        for group, count in zip(found.by_age, fitted.samples[sex], strict=True):
            assert LEAST < count < 4000 / 2  # no fallback
            # Of the beta distribution of the share, and of the images that it is counted on.
            sd = (LEVEL * (1 - LEVEL) * (1 / (count + 2) + 1 / group.samples)) ** 0.5
            assert abs(group.share - LEVEL) < 4 * sd
    together = coverage(fitted, *fresh)
    assert together.overall.share == pytest.approx(LEVEL, abs=0.02)
    assert all(abs(found.share - LEVEL) < 0.03 for found in together.by_sex.values())


def test_one_interval_for_all_would_not_keep_the_promise_in_each_group():
    """The simulated errors differ enough for the groups to be of use."""
    fresh = simulate(3, 40_000)
    fitted = fit_intervals(*simulate(2, 4000)[:2], None, edges=())
    girls = coverage(make_intervals(**pooled(fitted)), *fresh.of(~fresh.male))
    assert girls.by_age[0].share < 0.85


def pooled(fitted):
    """One offset for all of several bins."""
    many = {sex: pairs * (len(EDGES_MONTHS) + 1) for sex, pairs in fitted.offsets_months.items()}
    samples = {sex: counts * (len(EDGES_MONTHS) + 1) for sex, counts in fitted.samples.items()}
    return {"age_edges_months": EDGES_MONTHS, "offsets_months": many, "samples": samples}


def test_a_bias_is_corrected():
    """Girls are read 4 months too old: as many fall below as above all the same."""
    fitted = fit_intervals(*simulate(2, 20_000))
    fresh = simulate(3, 40_000)
    girls = fresh.of(~fresh.male & (fresh.predicted > 80))
    bounds = [fitted.around(age, male=False) for age in girls.predicted]
    lower, upper = np.transpose(bounds)
    assert (girls.ages < lower).mean() == pytest.approx(0.05, abs=0.01)
    assert (girls.ages > upper).mean() == pytest.approx(0.05, abs=0.01)


def test_a_bias_beyond_all_errors_leaves_the_age_inside():
    fitted = fit_intervals(np.full(50, 100.0), np.full(50, 130.0), None, edges=())
    assert fitted.around(100, male=False) == (100, 130)


# Small groups


def test_a_small_bin_falls_back_to_its_sex_and_a_small_sex_to_all():
    predicted = np.repeat([50.0, 150.0, 50.0, 150.0], [40, 5, 6, 4])
    scores = np.repeat([1.0, 20.0, -3.0, -4.0], [40, 5, 6, 4])
    male = np.repeat([False, True], [45, 10])
    fitted = fit_intervals(predicted, predicted + scores, male, edges=(100,), least=40)
    assert fitted.samples == {"F": (40, 45), "M": (55, 55)}
    assert fitted.offsets_months == {
        "F": ((0.0, 1.0), (0.0, 20.0)),
        "M": ((-4.0, 20.0), (-4.0, 20.0)),
    }


def test_no_group_has_fewer_images_than_the_level_needs():
    found = simulate(0, 400)
    fitted = fit_intervals(*found, least=1)
    assert min(min(counts) for counts in fitted.samples.values()) >= FEWEST


def test_a_model_without_sex_input_has_one_set_of_offsets():
    found = simulate(0, 2000)
    fitted = fit_intervals(found.predicted, found.ages, None)
    assert fitted.offsets_months["F"] == fitted.offsets_months["M"]
    assert sum(fitted.samples["F"]) == 2000
    assert fitted.samples["F"] == fitted.samples["M"]


def test_too_few_images_are_refused():
    found = simulate(0, 19)
    assert fit_intervals(*found).samples["F"][0] == 19
    with pytest.raises(InputError, match=r"^18 images .* at least 19 are needed$"):
        fit_intervals(*found.of(slice(1, None)))


@pytest.mark.parametrize("column", ["predicted", "ages"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_age_is_refused(column, value):
    found = simulate(0, 100)
    getattr(found, column)[3] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        fit_intervals(*found)
    with pytest.raises(InputError, match="NaN or infinite"):
        coverage(make_intervals(), *found)


def test_columns_that_do_not_fit_are_refused():
    found = simulate(0, 100)
    for columns in (
        (found.predicted, found.ages, found.male[:50]),
        (found.predicted[:50], found.ages, None),
        (found.predicted[:, None], found.ages[:, None], None),
    ):
        with pytest.raises(InputError, match=r"do not fit; expected \(N,\) for each"):
            fit_intervals(*columns)


# What is counted


def test_the_coverage_is_counted():
    predicted, true = [50, 50, 99, 150, 150], [40, 63, 98, 158, 146]
    found = coverage(make_intervals(), predicted, true, [False, False, True, False, True])
    assert found.level == 0.9
    assert found.overall == Covered(5, 2 / 5, (22 + 22 + 3 + 25 + 7) / 5)
    assert found.by_sex == {"F": Covered(3, 1 / 3, 23.0), "M": Covered(2, 1 / 2, 5.0)}
    assert found.by_age == (Covered(3, 2 / 3, 47 / 3), Covered(2, 0.0, 16.0))


def test_no_images_have_no_coverage():
    empty = Covered(0, None, None)
    found = coverage(make_intervals(), [], [], [])
    assert (found.overall, found.by_age) == (empty, (empty, empty))
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


# The document


def test_the_intervals_come_back_from_json():
    found = fit_intervals(*simulate(0, 2000))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Intervals) == found


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"level": 0.0}, "is not between 0 and 1"),
        ({"level": 1.0}, "is not between 0 and 1"),
        ({"age_edges_months": (100.0, 100.0)}, "do not rise"),
        ({"age_edges_months": (math.nan,)}, "do not rise"),
        ({"age_edges_months": ()}, "0 age edges need 1 bins of F and of M"),
        ({"offsets_months": {"F": ((-1.0, 1.0),) * 2}}, "need 2 bins of F and of M"),
        ({"samples": {"F": (1, 2), "M": (1,)}}, "need 2 bins of F and of M"),
        ({"samples": {"F": (1, 2), "M": (1, 0)}}, "each bin needs samples"),
        ({"offsets_months": dict.fromkeys("FM", ((-1, 1), (1, 2)))}, "not on both sides of 0"),
        ({"offsets_months": dict.fromkeys("FM", ((-1, 1), (-2, -1)))}, "not on both sides of 0"),
        ({"offsets_months": dict.fromkeys("FM", ((-1, 1), (0, math.inf)))}, "both sides of 0"),
        ({"offsets_months": dict.fromkeys("FM", ((-1, 1), (math.nan, 0)))}, "both sides of 0"),
    ],
)
def test_what_is_no_set_of_intervals_is_refused(fields, reason):
    with pytest.raises(ValueError, match=reason):
        make_intervals(**fields)


# From the checkpoint to the prediction


def with_intervals(bundle):
    """Put intervals into a bundle's manifest."""
    path = bundle / "manifest.json"
    fields = {"intervals": msgspec.to_builtins(make_intervals())}
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    seal(bundle)


def test_a_header_from_before_has_none(checkpoint):
    fields = msgspec.to_builtins(checkpoint.header)
    del fields["intervals"]
    assert msgspec.convert(fields, Header).intervals is None


def test_intervals_travel_from_the_checkpoint_to_the_prediction(
    checkpoint, exported, labelled, tmp_path, few_goldens
):
    fitted = fit_intervals(*simulate(0, 2000))
    path = tmp_path / "with.safetensors"
    stored = Checkpoint.read(checkpoint.with_header(intervals=fitted).write(path).path)
    assert stored.header.intervals == fitted
    bundle = export_bundle(stored, "onnx", Precision.FP32, tmp_path / "bundle")
    assert bundle.manifest.intervals == fitted
    image = labelled.samples[0].path
    with Runtime(bundle, threads=1) as runtime, Runtime(exported("onnx", "fp32")) as without:
        for sex in "FM":
            prediction = runtime.predict(image, sex)
            expected = fitted.around(prediction.age_months, male=sex == "M")
            assert prediction.interval_months == expected
            assert expected[0] < prediction.age_months < expected[1]
            assert without.predict(image, sex).interval_months is None


def test_a_bundle_from_before_has_none(fake_bundle, labelled):
    path = fake_bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["intervals"]
    path.write_text(json.dumps(manifest))
    seal(fake_bundle)
    assert Bundle.read(fake_bundle).manifest.intervals is None
    with Runtime(fake_bundle) as runtime:
        assert runtime.predict(labelled.samples[0].path, "F").interval_months is None


def test_a_manifest_with_broken_intervals_is_refused(refused, fake_bundle):
    with_intervals(fake_bundle)
    path = fake_bundle / "manifest.json"
    path.write_text(
        path.read_text().replace('"age_edges_months": [100.0]', '"age_edges_months": []')
    )
    seal(fake_bundle)
    line = refused("inspect", fake_bundle)
    assert "0 age edges need 1 bins of F and of M" in line


@pytest.mark.parametrize("as_json", [False, True])
def test_predict_prints_the_interval(fake_bundle, labelled, as_json):
    with_intervals(fake_bundle)
    arguments = ["predict", str(labelled.samples[0].path), "--sex", "F", "--bundle"]
    arguments += [str(fake_bundle), *(["--json"] if as_json else [])]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stderr.partition("next: ")[0]) == (0, "")
    if as_json:
        fields = json.loads(result.stdout)
        bounds = [fields["age_months"] - 20, fields["age_months"] + 5]
        assert fields["interval_months"] == pytest.approx(bounds)
    else:
        line = "10 y 10 m (130.2 months), 90 % interval 9 y 2 m to 11 y 3 m\n"
        assert result.stdout == line


def test_inspect_shows_the_intervals(fake_bundle):
    with_intervals(fake_bundle)
    result = CliRunner().invoke(main, ["inspect", str(fake_bundle)])
    assert json.loads(result.stdout)["intervals"]["level"] == 0.9
