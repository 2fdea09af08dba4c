"""Scales: what every picture stands on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bakit.bench.render.figure import Scale, around, log_around

positive = st.floats(1e-3, 1e5)


@given(st.lists(positive, min_size=1, max_size=9))
def test_a_logarithmic_axis_has_ticks_and_holds_all(values):
    scale = Scale(*log_around(values), log=True)
    ticks = scale.ticks(6)
    assert 1 <= len(ticks) <= 12
    assert all(scale.low * 0.999 <= tick <= scale.high * 1.001 for tick in ticks)
    assert all(0 < scale(value) < 1 for value in values)


@given(st.lists(st.floats(-1e4, 1e4), max_size=9))
def test_a_linear_axis_has_ticks_and_holds_all(values):
    scale = Scale(*around(values))
    assert 2 <= len(scale.ticks(7)) <= 9
    assert all(0 < scale(value) < 1 for value in values)


def test_a_narrow_logarithmic_axis_has_several_ticks():
    assert Scale(13.0, 18.0, log=True).ticks(6) == [13, 14, 15, 16, 17, 18]
    assert Scale(4.5, 8.2, log=True).ticks(6) == [5, 6, 7, 8]
    assert Scale(0.9, 110.0, log=True).ticks(6) == [1, 3, 10, 30, 100]


def test_what_is_outside_is_put_at_the_end():
    assert [Scale(0.0, 2.0)(value) for value in (-5, 0, 1, 9)] == [0, 0, 0.5, 1]
