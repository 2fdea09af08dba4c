"""``bakit check``: each rule found on a graph that breaks it, and none on our own graphs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from bakit.bundle import Build, seal
from bakit.cli import main
from bakit.errors import VerificationError
from bakit.export.check import PROFILES, RULES, check_model
from bakit.export.check.judge import check_builds, prepare
from bakit.export.check.run import check_paths
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.regressor import regressor_model
from bakit.hand.unrolled import initial_weights
from bakit.hand.weights import METHODS, get_localizer
from bakit.settings import UnrolledSettings
from tests.bad_graphs import BAD, ELEVEN, FIVE, NANO, SIX
from tests.benchmarks.check_agreement import agreement
from tests.graphs import convolution, foreign, model, node, relu

DOCS = Path(__file__).parents[1] / "docs" / "check.md"

BEYOND_A_GRAPH = {"no-build"}
"""Rules on bundles."""


def found(graph, profile):
    return {(item.severity, item.rule) for item in check_model(graph, PROFILES[profile])}


def rules(graph, profile):
    return {rule for _, rule in found(graph, profile)}


# Each rule


def test_each_rule_has_a_graph_that_breaks_it():
    assert {bad.rule for bad in BAD.values()} | BEYOND_A_GRAPH == set(RULES)


@pytest.mark.parametrize("name", BAD)
def test_a_broken_rule_is_found_and_its_node_named(name):
    bad = BAD[name]
    findings = [f for f in check_model(bad.model, PROFILES[bad.profile]) if f.rule == bad.rule]
    assert (bad.graph, bad.node) in {(item.graph, item.node) for item in findings}
    for item in findings:
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


def test_errors_stand_before_warnings():
    bad = onnx.ModelProto()
    bad.CopyFrom(BAD["many"].model)
    bad.ir_version = 10
    severities = [item.severity for item in check_model(bad, PROFILES[NANO])]
    assert severities == ["error", "warning"]


@pytest.mark.parametrize(
    ("graph", "profile", "finding"),
    [
        (relu(ir=10), NANO, ("error", "ir-version")),
        (relu(ir=10), FIVE, ("warning", "ir-version")),
        (foreign("Gelu"), SIX, ("error", "domain")),
        (foreign("Gelu"), ELEVEN, ("warning", "domain")),
        (convolution(kind=np.uint8), SIX, ("error", "qdq-type")),
        (convolution(kind=np.uint8), ELEVEN, ("warning", "qdq-type")),
    ],
)
def test_how_bad_it_is_depends_on_the_profile(graph, profile, finding):
    assert finding in found(graph, profile)


def test_an_end_beyond_int32_is_clamped_without_harm():
    ends = {
        "from": np.array([1], np.int64),
        "to": np.array([2**63 - 1], np.int64),
        "axis": np.array([0], np.int64),
    }
    made = node("Slice", ["x", "from", "to", "axis"], "y")
    graph = model([made], [("x", 1, (4,))], [("y", 1, (3,))], ends)
    assert check_model(graph, PROFILES[NANO]) == ()


def test_a_model_is_left_as_it_was():
    graph = BAD["operator-in-loop"].model
    before = graph.SerializeToString(deterministic=True)
    check_model(graph, PROFILES[NANO])
    assert graph.SerializeToString(deterministic=True) == before


# Our own graphs


@pytest.mark.parametrize("profile", PROFILES)
def test_the_float_regressor_is_for_every_profile(checkpoint, profile):
    assert check_model(regressor_model(checkpoint), PROFILES[profile]) == ()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("method", METHODS)
def test_every_localizer_is_for_every_profile(method, profile):
    localizer = get_localizer(method)
    graph = localizer_model(localizer.weights, localizer.settings, "loop")
    assert check_model(graph, PROFILES[profile]) == ()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("form", ["loop", "unrolled", "winograd"])
def test_every_form_is_for_every_profile_but_all_steps_spelled_out(form, profile):
    settings = UnrolledSettings(steps=50)
    graph = localizer_model(initial_weights(settings), settings, form)
    spelled_out = form == "unrolled" and profile == NANO
    assert found(graph, profile) == ({("warning", "many-nodes")} if spelled_out else set())


@pytest.fixture
def here(monkeypatch):
    """Our own graphs crash nothing: they need no process of their own."""
    monkeypatch.setattr("bakit.export.check.run.prepare_apart", prepare)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_bundle_for_tensorrt_is_for_every_profile_with_its_hardware(exported, here, precision):
    for judged in check_paths([exported("tensorrt", precision).root], list(PROFILES)):
        rules_found = {finding.rule for finding in judged.findings}
        nano = judged.profile == NANO and judged.file.endswith("regressor.onnx")
        assert rules_found == ({"int8-hardware"} if nano and precision == "int8" else set())


def test_of_a_bundle_what_the_profile_builds_is_judged(exported, here):
    names = {}
    for judged in check_paths([exported("tensorrt", "int8").root], [NANO, FIVE, ELEVEN]):
        names.setdefault(judged.profile, set()).add(Path(judged.file).name)
    assert names[NANO] == {"localizer.onnx", "regressor.onnx"}
    assert names[FIVE] == {"localizer.onnx", "regressor-qdq.onnx", "regressor-qdq-depthwise.onnx"}
    half = {"regressor-qdq-fp16.onnx", "regressor-qdq-fp16-depthwise.onnx"}
    assert names[ELEVEN] == {"localizer.onnx", *half}


def test_the_bundle_of_onnx_runtime_is_refused_for_what_tensorrt_refuses(exported, here):
    for judged in check_paths([exported("onnx", "int8").root], [FIVE, SIX]):
        broken = {finding.rule for finding in judged.findings}
        regressor = Path(judged.file).name == "regressor.onnx"
        assert broken == ({"qdq-type", "qdq-zero-point", "qdq-bias"} if regressor else set())


# The export


def test_an_export_refuses_a_graph_that_a_device_would_refuse():
    build = Build("g.onnx", "8.2")
    check_builds({"g.onnx": relu()}, [build])
    with pytest.raises(VerificationError, match=r"jetson-nano .*conv-constant-weights"):
        check_builds({"g.onnx": BAD["run-time-weights"].model}, [build])
    check_builds({"g.onnx": BAD["run-time-weights"].model}, [Build("g.onnx", "8.5")])


@pytest.mark.parametrize(
    ("first", "below", "profiles"),
    [
        ("8.2", None, set(PROFILES)),
        ("8.2", "8.5", {NANO}),
        ("8.5", "10.0", {FIVE}),
        ("10.0", None, {SIX, "tensorrt-10", ELEVEN}),
        ("10.5", "11.0", {"tensorrt-10"}),
    ],
)
def test_which_build_is_for_which_profile(first, below, profiles):
    build = Build("g.onnx", first, below)
    assert {name for name, profile in PROFILES.items() if profile.uses(build)} == profiles


# NVIDIA's compiler


def test_nvidia_s_compiler_mostly_agrees():
    pytest.importorskip("tensorrt_rtx_bindings")
    result = agreement()
    assert result.cases > 1000
    assert result.share > 0.95, result.disagreements


# The command


def run(*arguments):
    result = CliRunner().invoke(main, ["check", *map(str, arguments)])
    assert not isinstance(result.exception, Exception), result.exception
    return result


@pytest.fixture
def file(tmp_path):
    def write(graph, name="graph.onnx"):
        path = tmp_path / name
        path.write_bytes(graph if isinstance(graph, bytes) else graph.SerializeToString())
        return path

    return write


def test_a_good_graph_exits_with_0_and_a_bad_one_with_1(file):
    good, bad = file(relu(), "good.onnx"), file(BAD["hard-swish"].model, "bad.onnx")
    assert run(good, "--profile", NANO).exit_code == 0
    result = run(good, bad, "--profile", NANO)
    assert result.exit_code == 1
    assert "good.onnx for jetson-nano (TensorRT 8.2): ok; 1 nodes, opset 13, IR 7" in result.stdout
    assert "HardSwish y: TensorRT 8.2 has no HardSwish" in result.stdout
    assert "HardSigmoid(x, alpha=1/6, beta=0.5)" in result.stdout


def test_a_warning_exits_with_0(file):
    result = run(file(BAD["many"].model), "--profile", NANO)
    assert result.exit_code == 0
    assert "1 warning;" in result.stdout


def test_json_is_one_object_a_graph_and_profile(file):
    result = run(
        file(convolution(bias=np.ones(3, np.int32))), "--json", "--profile", SIX, "--profile", NANO
    )
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["profile"], second["profile"]) == (SIX, NANO)
    assert [f["rule"] for f in first["findings"]] == ["qdq-bias"]
    assert first["findings"][0] | {"message": "", "remedy": ""} == {
        "severity": "error",
        "rule": "qdq-bias",
        "graph": "main",
        "node": "b",
        "operator": "DequantizeLinear",
        "message": "",
        "remedy": "",
    }


def test_many_nodes_of_a_rule_are_shortened(file):
    nodes = [node("Det", [f"n{index}"], f"n{index + 1}") for index in range(9)]
    path = file(model(nodes, [("n0", 1, (2, 2))], [("n9", 1, ())]))
    short, whole = (run(path, "--profile", SIX, *more).stdout for more in ([], ["--all"]))
    assert "and 4 more; --all shows them" in short
    assert "Det n9" not in short
    assert "Det n9" in whole
    assert "--all" not in whole


def test_the_help_and_the_list_name_every_profile():
    listed, helped = run("--list").stdout, " ".join(run("--help").stdout.split())
    for name in PROFILES:
        assert name in listed
        assert name in helped


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "no such file"),
        (b"", "not an ONNX file: it has no graph; give a file that ends in .onnx"),
        (b"Dear colleague", "not an ONNX file, or a truncated one; export it again"),
        (relu().SerializeToString()[:-9], "not an ONNX file, or a truncated one; export it again"),
        (
            relu().SerializeToString().replace(b"Relu", b"Re\xff\xff"),
            "damaged: a name in it is not UTF-8; export it again",
        ),
    ],
)
def test_a_file_that_is_no_graph(refused, tmp_path, data, reason):
    if data is not None:
        (tmp_path / "graph.onnx").write_bytes(data)
    assert refused("check", "graph.onnx", "--profile", NANO) == f"bakit: graph.onnx: {reason}"


def test_weights_beside_the_file_are_read_and_missed(file, refused, tmp_path):
    graph = onnx.ModelProto()  # a copy: saving moves the weights out
    graph.CopyFrom(BAD["big-index"].model)
    onnx.save(
        graph,
        tmp_path / "graph.onnx",
        save_as_external_data=True,
        location="weights",
        size_threshold=0,
    )
    assert "int64-range (1)" in run(tmp_path / "graph.onnx", "--profile", NANO).stdout
    (tmp_path / "weights").unlink()
    line = refused("check", "graph.onnx", "--profile", NANO)
    assert line.startswith("bakit: graph.onnx: its weights are in other files that cannot be read")


def test_an_unknown_profile_and_none(refused, file):
    file(relu())
    line = refused("check", "graph.onnx", "--profile", "nano")
    assert f"unknown profile 'nano'; use {', '.join(PROFILES)}" in line
    assert "--profile" in refused("check", "graph.onnx")


def test_folders_that_hold_no_graph(refused, fake_bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "not a bundle" in refused("check", "empty", "--profile", NANO)
    line = refused("check", fake_bundle, "--profile", NANO)
    assert line.endswith("a bundle for fake, without ONNX graphs")


def test_builds_for_other_versions_and_for_none(exported, refused, tmp_path):
    root = Path(shutil.copytree(exported("tensorrt", "fp32").root, tmp_path / "bundle"))
    manifest = json.loads((root / "manifest.json").read_text())

    def write(version):
        for artifact in manifest["artifacts"]:
            for build in artifact["builds"]:
                build["min_version"] = version
        (root / "manifest.json").write_text(json.dumps(manifest))
        seal(root)

    write("10.0")
    judged = check_paths([root], [NANO])
    assert {finding.rule for item in judged for finding in item.findings} == {"no-build"}
    write("new")
    assert "'new' is not a version of TensorRT" in refused("check", "bundle", "--profile", NANO)


# The page


def test_the_page_has_every_profile():
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    for name, profile in PROFILES.items():
        lowest, highest = profile.opsets
        row = f"| `{name}` | {profile.tensorrt} | {lowest} to {highest} | {profile.max_ir} |"
        assert [line for line in lines if line.startswith(row)]
