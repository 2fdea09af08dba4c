"""Intervals: against scipy, against theory, and by how often they hold what is true."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bakit.bench.gate.accuracy import P99_IMAGES, images_needed
from bakit.bench.statistics import (
    block_intervals,
    bootstrap_interval,
    bootstrap_intervals,
    images_for_quantile,
    quantile_interval,
    ratio_interval,
    simultaneous_intervals,
    student_quantile,
)


@pytest.mark.parametrize("count", [12, 80, 700])
@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy"])
def test_the_interval_is_scipys_bca_with_the_same_draws(count: int, kind: str) -> None:
    generator = np.random.default_rng(count)
    values = {
        "normal": generator.normal(0.1, 1.0, count),
        "skewed": generator.exponential(1.0, count),
        "heavy": generator.standard_t(3, count),
    }[kind]
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert bootstrap_interval(values) == pytest.approx(tuple(expected), abs=1e-9)


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


def test_simultaneous_intervals_hold_all_means_at_once_about_95_times_in_100() -> None:
    generator = np.random.default_rng(4)
    hits = 0
    for _ in range(400):
        groups = [generator.normal(mean, 1.0, 25) for mean in range(8)]
        pairs = zip(simultaneous_intervals(groups), range(8), strict=True)
        hits += all(low <= mean <= high for (low, high), mean in pairs)
    assert 0.92 <= hits / 400 <= 0.98
    assert simultaneous_intervals([]) == []


def test_a_single_group_has_students_interval() -> None:
    values = np.random.default_rng(5).normal(1.0, 2.0, 40)
    error = scipy.stats.sem(values)
    expected = scipy.stats.t.interval(0.95, 39, values.mean(), error)
    assert simultaneous_intervals([values])[0] == pytest.approx(expected, rel=1e-4)


def test_the_images_that_are_needed_are_enough() -> None:
    # 0.1 +- 0.4 on 100 images: 0.15 of room needs (0.4 / 0.15) ** 2 times as many.
    assert images_needed(100, 0.1, 0.5, 0.25) == 712


def test_blocks_are_wider_than_single_queries_where_neighbours_are_alike() -> None:
    generator = np.random.default_rng(6)
    moods = np.repeat(generator.normal(10, 1, 30), 10)
    alike = moods + generator.normal(0, 0.01, 300)
    mixed = generator.permutation(alike)
    (narrow,) = block_intervals(mixed, 10, [50]) or []
    (wide,) = block_intervals(alike, 10, [50]) or []
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])
    assert wide[0] < np.median(alike) < wide[1]
    assert block_intervals(alike[:49], 10, [50]) is None


def test_a_ratio_of_one_run_forgets_what_slowed_both_down() -> None:
    generator = np.random.default_rng(7)
    moods = np.repeat(generator.uniform(1, 2, 40), 10)
    first, second = (moods * base * generator.normal(1, 0.01, 400) for base in (12, 10))
    paired = ratio_interval(first, second, 10, 50, paired=True)
    apart = ratio_interval(first, second, 10, 50, paired=False)
    assert paired is not None
    assert apart is not None
    assert paired[0] < 1.2 < paired[1]
    assert paired[1] - paired[0] < 0.3 * (apart[1] - apart[0])
    assert ratio_interval(first[:40], second, 10, 50, paired=True) is None
