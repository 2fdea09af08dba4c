"""``bakit check``: each rule found on a graph that breaks it, and none on our own graphs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from bakit.export.check import PROFILES, RULES, check_model
from tests.bad_graphs import BAD, convolution, relu

DOCS = Path(__file__).parents[1] / "docs" / "check.md"

BEYOND_A_GRAPH = {"no-build"}
"""Rules on bundles."""


def rules(model, profile):
    return {finding.rule for finding in check_model(model, PROFILES[profile])}


# Each rule


def test_each_rule_has_a_graph_that_breaks_it():
    assert {bad.rule for bad in BAD.values()} | BEYOND_A_GRAPH == set(RULES)


@pytest.mark.parametrize("name", BAD)
def test_a_broken_rule_is_found_and_its_node_named(name):
    bad = BAD[name]
    found = [f for f in check_model(bad.model, PROFILES[bad.profile]) if f.rule == bad.rule]
    assert (bad.graph, bad.node) in {(item.graph, item.node) for item in found}
    for item in found:
        assert item.message
        assert item.remedy


@pytest.mark.parametrize("name", [name for name, bad in BAD.items() if bad.good_for])
def test_a_graph_is_only_refused_where_it_breaks_the_rule(name):
    bad = BAD[name]
    assert bad.rule not in rules(bad.model, bad.good_for)


@pytest.mark.parametrize("name", [name for name in BAD if name != "dangling"])
def test_the_bad_graphs_are_valid_onnx(name):
    onnx.checker.check_model(BAD[name].model)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_good_graph_has_no_finding(profile):
    assert check_model(relu(), PROFILES[profile]) == ()
    if PROFILES[profile].int8:
        assert check_model(convolution(), PROFILES[profile]) == ()
