"""Intervals: against scipy, against theory, and by how often they hold what is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bakit.bench.gate.accuracy import P99_IMAGES
from bakit.bench.statistics import (
    bootstrap_interval,
    bootstrap_intervals,
    images_for_quantile,
    quantile_interval,
    ratio_interval,
    serial_intervals,
    share_bound,
    student_interval,
    student_quantile,
)

if TYPE_CHECKING:
    from bakit.types import Floats


@pytest.mark.parametrize("count", [12, 80, 700])
@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy"])
def test_the_interval_is_scipys_bca_with_students_percentiles(count: int, kind: str) -> None:
    generator = np.random.default_rng(count)
    values = {
        "normal": generator.normal(0.1, 1.0, count),
        "skewed": generator.exponential(1.0, count),
        "heavy": generator.standard_t(3, count),
    }[kind]
    # Var(s^2) = sigma^4 (kurtosis / n - (n - 3) / (n (n - 1))), of chi-square 2 sigma^4 / freedom.
    kurtosis = scipy.stats.kurtosis(values, fisher=False)
    freedom = min(2 / (kurtosis / count - (count - 3) / (count * (count - 1))), count - 1)
    reach = scipy.stats.t.ppf(0.975, max(freedom, 4)) * np.sqrt(count / (count - 1))
    expected = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=2000,
        method="BCa",
        confidence_level=scipy.stats.norm.cdf(reach) - scipy.stats.norm.cdf(-reach),
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = expected.high - expected.low
    assert bootstrap_interval(values) == pytest.approx(tuple(expected), abs=0.002 * width)


def test_few_large_changes_among_many_small_ones_are_covered() -> None:
    """The means of 60 changes like those of INT8; the plain BCa covers 91 %."""
    generator = np.random.default_rng(4)
    changes = 0.49 * generator.standard_t(3, 400_000)
    drawn = changes[generator.integers(len(changes), size=(600, 60))]
    ends = [bootstrap_interval(values, resamples=500) for values in np.abs(drawn)]
    held = [low <= np.abs(changes).mean() <= high for low, high in ends]
    assert 0.92 <= np.mean(held) <= 0.97


def test_the_interval_is_that_of_the_normal_theory_and_repeats() -> None:
    differences = np.random.default_rng(1).normal(0.4, 2.0, 2000)
    low, high = bootstrap_interval(differences)
    mean, half = differences.mean(), 1.96 * differences.std() / np.sqrt(2000)
    assert low == pytest.approx(mean - half, abs=0.15 * half)
    assert high == pytest.approx(mean + half, abs=0.15 * half)
    assert bootstrap_interval(differences) == (low, high)
    assert bootstrap_interval(differences, seed=1) != (low, high)


def test_the_interval_contains_the_true_mean_about_95_times_in_100() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(generator.normal(0.3, 1.0, 80), resamples=500)
        hits += low <= 0.3 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_the_intervals_do_not_depend_on_how_resamples_are_chunked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(2).normal(0, 1, (3, 37))
    whole = bootstrap_intervals(values, resamples=250)
    monkeypatch.setattr("bakit.bench.statistics._CHUNK", 37 * 7)
    assert bootstrap_intervals(values, resamples=250) == whole
    assert bootstrap_interval(values[1], resamples=250) == whole[1]


@given(value=st.floats(-300, 300), count=st.integers(1, 50))
def test_values_that_are_all_the_same_have_no_width(value: float, count: int) -> None:
    low, high = bootstrap_interval(np.full(count, value))
    assert low == high == pytest.approx(value, abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 2000))
@settings(max_examples=40, deadline=None)
def test_order_statistics_are_scipys(seed: int, count: int) -> None:
    values = np.random.default_rng(seed).exponential(1.0, count)
    found = quantile_interval(values, 0.99)
    if count < images_for_quantile(0.99):
        assert found is None
        return
    expected = scipy.stats.quantile_test(values, p=0.99).confidence_interval(0.95)
    assert found == (expected.low, expected.high)


def test_the_gate_knows_how_many_images_a_p99_needs_without_numpy() -> None:
    assert images_for_quantile(0.99) == P99_IMAGES
    assert quantile_interval(np.arange(P99_IMAGES - 1.0), 0.99) is None
    assert quantile_interval(np.arange(float(P99_IMAGES)), 0.99) is not None


@given(share=st.floats(0.5, 0.9999), freedom=st.integers(15, 2000))
def test_student_is_scipys(share: float, freedom: int) -> None:
    expected = scipy.stats.t.ppf(share, freedom)
    assert student_quantile(share, freedom) == pytest.approx(expected, rel=1e-3, abs=1e-9)


@given(share=st.just(0.975), freedom=st.integers(4, 14))
def test_student_holds_for_few_turns(share: float, freedom: int) -> None:
    expected = scipy.stats.t.ppf(share, freedom)
    assert student_quantile(share, freedom) == pytest.approx(expected, rel=2e-3)


def test_a_group_has_students_interval() -> None:
    values = np.random.default_rng(5).normal(1.0, 2.0, 40)
    error = scipy.stats.sem(values)
    expected = scipy.stats.t.interval(0.95, 39, values.mean(), error)
    assert student_interval(values) == pytest.approx(expected, rel=1e-4)


@given(hits=st.integers(0, 20), more=st.integers(0, 2000))
@settings(max_examples=40, deadline=None)
def test_the_bound_of_a_share_is_scipys(hits: int, more: int) -> None:
    count = max(hits, 1) + more
    found = scipy.stats.binomtest(hits, count, alternative="less").proportion_ci(0.95)
    assert share_bound(hits, count) == pytest.approx(found.high, rel=1e-5)


@pytest.mark.parametrize(("count", "percent"), [(60, 5), (100, 3), (1156, 0.26)])
def test_without_a_hit_the_bound_is_three_in_so_many(count: int, percent: float) -> None:
    assert 100 * share_bound(0, count) == pytest.approx(percent, rel=0.03)


def test_films_of_one_patient_are_drawn_together() -> None:
    generator = np.random.default_rng(8)
    patients = np.repeat(np.arange(40), 4)
    held = alone = 0
    for _ in range(60):
        values = generator.normal(0, 1, 40)[patients] + generator.normal(0, 0.3, 160)
        (clustered,) = bootstrap_intervals(values[None], patients, resamples=300)
        (single,) = bootstrap_intervals(values[None], resamples=300)
        held += clustered[0] <= 0 <= clustered[1]
        alone += single[0] <= 0 <= single[1]
    assert held >= 53
    assert alone <= 50  # as if every film were another child's
    numbers = np.arange(160)
    assert bootstrap_intervals(values[None], numbers, resamples=300) == [single]


def wandering(
    generator: np.random.Generator, count: int, memory: float, wander: float = 0.05
) -> Floats:
    """Return latencies of a machine whose speed wanders, with noise of single queries."""
    keep = np.exp(-1 / memory) if memory else 0.0
    steps = generator.normal(0, np.sqrt(1 - keep * keep), count)
    steps[0] = generator.normal()
    speed = scipy.signal.lfilter([1.0], [1.0, -keep], steps)
    return 10 * np.exp(wander * speed) * (1 + 0.03 * generator.exponential(size=count))


@pytest.mark.parametrize(("memory", "count"), [(0, 60), (0, 400), (3, 1200), (20, 120), (100, 400)])
def test_percentiles_of_latency_hold_the_truth_or_have_no_interval(memory: int, count: int) -> None:
    generator = np.random.default_rng(9)
    truth = np.percentile(wandering(generator, 10**6, 0), (50, 90, 99))
    given_, held = np.zeros(3), np.zeros(3)
    for _ in range(80):
        intervals = serial_intervals(wandering(generator, count, memory), (50, 90, 99))
        for place, interval in enumerate(intervals):
            if interval is not None:
                given_[place] += 1
                held[place] += interval[0] <= truth[place] <= interval[1]
    if memory > 10:
        assert (given_ <= 8).all()  # the run is too short for such a machine
    else:
        assert (held >= 0.88 * given_).all()
        assert given_[0] >= 60
    assert count >= 368 or given_[2] == 0


def turns(times: Floats, length: int) -> list[Floats]:
    return np.split(times, range(length, len(times) - length + 1, length))


def test_a_ratio_of_one_run_forgets_what_slowed_both_down() -> None:
    generator = np.random.default_rng(7)
    moods = np.repeat(generator.uniform(1, 2, 40), 10)
    first, second = (moods * base * generator.normal(1, 0.01, 400) for base in (12, 10))
    paired = ratio_interval(turns(first, 10), turns(second, 10), 50, paired=True)
    apart = ratio_interval(turns(first, 10), turns(second, 10), 50, paired=False)
    assert paired is not None
    assert apart is not None
    assert paired[0] < 1.2 < paired[1]
    assert paired[1] - paired[0] < 0.3 * (apart[1] - apart[0])
    assert ratio_interval(turns(first[:40], 10), turns(second, 10), 50, paired=True) is None


@pytest.mark.parametrize("memory", [1, 30, 3000])
def test_the_ratio_of_six_turns_on_a_wandering_device_holds_the_truth(memory: int) -> None:
    generator = np.random.default_rng(10)
    held = 0
    for _ in range(80):
        line = wandering(generator, 12 * 17, memory).reshape(6, 2, 17)
        interval = ratio_interval(list(1.2 * line[:, 0]), list(line[:, 1]), 90, paired=True)
        assert interval is not None
        held += interval[0] <= 1.2 <= interval[1]
    assert held >= 70
