"""The choice of calibration images: seeded, stratified, and independent of the order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bakit.calib.select import AGE_BIN_MONTHS, choose_samples
from bakit.data.labels import Sample

samples = st.lists(st.tuples(st.integers(0, 240), st.booleans()), min_size=1, max_size=60).map(
    lambda rows: [Sample(f"{i}", Path(f"{i}.png"), float(a), m) for i, (a, m) in enumerate(rows)]
)


def stratum(sample):
    return int(sample.age_months // AGE_BIN_MONTHS), sample.male


@given(samples, st.integers(1, 70), st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(rows, count, seed, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert choose_samples(rows, count, seed) == choose_samples(shuffled, count, seed)


@given(samples, st.integers(1, 70), st.integers(0, 9))
def test_it_chooses_as_many_as_asked_and_none_twice(rows, count, seed):
    chosen = choose_samples(rows, count, seed)
    assert len(chosen) == min(count, len(rows))
    assert set(chosen) <= set(rows)
    assert [s.id for s in chosen] == sorted({s.id for s in chosen})


@given(samples, st.integers(1, 70), st.integers(0, 9))
def test_strata_have_equal_shares_while_they_last(rows, count, seed):
    """A stratum with images to spare is at most one behind any other."""
    there = Counter(map(stratum, rows))
    taken = Counter(map(stratum, choose_samples(rows, count, seed)))
    spare = [taken[key] for key in there if taken[key] < there[key]]
    assert not spare or max(taken.values()) - min(spare) <= 1


def test_another_seed_chooses_others():
    rows = [Sample(f"{i}", Path(), 100.0, male=True) for i in range(100)]
    assert choose_samples(rows, 10, seed=0) == choose_samples(rows, 10, seed=0)
    assert choose_samples(rows, 10, seed=0) != choose_samples(rows, 10, seed=1)
