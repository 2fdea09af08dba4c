"""A small sample of tests/fuzz/attacks.py, which ``make attack`` runs whole."""

from __future__ import annotations

import random
import shutil
from itertools import islice

import pytest

from tests.fuzz import doors
from tests.fuzz.attacks import arrays, survives

pytest.importorskip("onnx")
pytest.importorskip("cryptography")

AREAS = {
    "bundle paths": lambda prepared, work: doors.bundle_paths(prepared, work),
    "sealed files": lambda prepared, work: doors.sealed_files(prepared, work),
    "archives": lambda prepared, work: doors.archives(work),
    "signatures": lambda prepared, work: doors.signatures(prepared, work, 2),
    "arrays": lambda prepared, work: arrays(prepared),
    "phone server": lambda prepared, work: doors.phone_server(2, random.Random(1)),
    "ssh answers": lambda prepared, work: doors.ssh_answers(2, random.Random(1)),
    "host strings": lambda prepared, work: doors.host_strings(),
}


@pytest.mark.parametrize("area", AREAS)
def test_a_sample_of_the_attacks_is_parried(exported, tmp_path, area):
    """Damaged files are in test_fuzz.py, signals in test_signals.py, limits in test_files.py."""
    shutil.copytree(exported("onnx", "fp32").root, tmp_path / "prepared" / "bundle")
    made = AREAS[area](tmp_path / "prepared", tmp_path)
    attacks = list(made) if area == "arrays" else list(islice(made, 25))
    assert len(attacks) >= 10
    assert [survivor for attack in attacks if (survivor := survives(attack))] == []


def test_a_survivor_is_seen():
    assert "KeyError" in survives(doors.Attack("a crash", lambda: {}["x"]))
    assert survives(doors.Attack("taken", list)) == "taken: taken"
    assert survives(doors.Attack("taken", list, refused=False)) == ""
