"""A small sample of tests/fuzz/attacks.py, which ``make attack`` runs whole."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.fuzz.attacks import areas, survives
from tests.fuzz.doors import Attack
from tests.fuzz.entries import prepare

pytest.importorskip("onnx")
pytest.importorskip("cryptography")

AREAS = ("bundle paths", "signatures", "arrays", "phone server", "ssh answers", "host strings")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    prepared = prepare(tmp_path_factory.mktemp("prepared"))
    return areas(prepared, tmp_path_factory.mktemp("work"), tries=2, seed=1)


@pytest.mark.parametrize("area", AREAS)
def test_a_sample_of_the_attacks_is_parried(made, area):
    """Damaged files are in test_fuzz.py, signals in test_signals.py, limits in test_files.py."""
    attacks = list(islice(made[area](), 25))
    assert len(attacks) >= 10
    assert [survivor for attack in attacks if (survivor := survives(attack))] == []


def test_a_survivor_is_seen():
    assert "KeyError" in survives(Attack("a crash", lambda: {}["x"]))
    assert survives(Attack("taken", list)) == "taken: taken"
    assert survives(Attack("taken", list, refused=False)) == ""
