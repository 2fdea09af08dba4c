"""A short slice of tests/fuzz/fuzz.py: damaged inputs end in bakit's own errors."""

from __future__ import annotations

import random
import shutil
import time

import pytest

from tests.fuzz.entries import attempt, damaged, entries, prepare
from tests.fuzz.fuzz import LIMIT_S, SHARES
from tests.fuzz.mutate import with_checksums

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def all_entries(shipped, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copytree(shipped.root, folder / "bundle")
    return entries(prepare(folder), tmp_path_factory.mktemp("work"))


@pytest.mark.parametrize("name", SHARES)
def test_damaged_inputs_end_in_bakit_s_own_errors(all_entries, name):
    if name not in all_entries:
        pytest.skip("its library is not installed")
    entry, outcomes = all_entries[name], set()
    for seed in entry.seeds:
        assert attempt(entry, seed) == "taken", "undamaged, an input is taken"
    for index in range(30):
        draw = random.Random(f"slice/{name}/{index}")
        data = damaged(name, entry, draw)
        started = time.thread_time()
        outcomes.add(attempt(entry, data))
        assert time.thread_time() - started < LIMIT_S, f"input {index}"
    assert "refused" in outcomes


def test_the_same_seed_makes_the_same_input(all_entries):
    first, again = (damaged("png", all_entries["png"], random.Random("x")) for _ in range(2))
    assert first == again


def test_checksums_are_mended(all_entries):
    png = all_entries["png"].seeds[0]
    assert with_checksums(png) == png
    broken = png[:29] + b"\0\0\0\0" + png[33:]
    assert with_checksums(broken) == png
