"""The device agent: what it reads of boards, and a whole run under the oldest Python it is for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bakit import agent
from bakit.bench.assemble import assemble
from bakit.bench.device.answers import read_raw
from bakit.bench.device.frames import AnswerError
from bakit.bench.device.pack import AGENT, AgentOptions, write_job
from bakit.bench.task import make_settings, read_task
from bakit.bundle import seal

# Written by us in the shape of each system's own.
TEGRASTATS = {
    "JetPack 4, Nano": (
        ("RAM 1211/3964MB (lfb 17x4MB) SWAP 3/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
        "CPU [31%@1479,12%@1479,off,off] EMC_FREQ 0%@1600 GR3D_FREQ 61%@921 APE 25 PLL@33.5C "
        "CPU@36C PMIC@50C GPU@34.5C AO@41.5C thermal@35.25C POM_5V_IN 3312/2940 POM_5V_GPU 644/522 "
        "POM_5V_CPU 886/701"),
        {"POM_5V_IN": 3.312, "POM_5V_GPU": 0.644, "POM_5V_CPU": 0.886},
    ),
    "JetPack 5, Orin": (
        ("11-02-2025 10:11:12 RAM 2210/7620MB (lfb 3x4MB) SWAP 0/3810MB (cached 0MB) "
        "CPU [5%@729,1%@729,0%@729,0%@729,0%@729,0%@729] EMC_FREQ 1%@2133 GR3D_FREQ 44%@[624] "
        "CV0@45.1C CPU@47.7C SOC2@46.6C GPU@46.2C tj@47.7C VDD_IN 5204mW/5111mW "
        "VDD_CPU_GPU_CV 1207mW/1188mW VDD_SOC 1452mW/1440mW"),
        {"VDD_IN": 5.204, "VDD_CPU_GPU_CV": 1.207, "VDD_SOC": 1.452},
    ),
    "JetPack 7, Orin": (
        ("06-30-2026 08:00:01 RAM 1999/7607MB (lfb 5x4MB) CPU [0%@1113,0%@1113] GR3D_FREQ "
        "0%@[1300,1300] gpu@44.9C VDD_IN 6001mW/6000mW"),
        {"VDD_IN": 6.001},
    ),
    "JetPack 6, AGX Orin": (
        ("05-02-2026 09:00:00 RAM 9000/62800MB (lfb 7x4MB) CPU [2%@1190] GR3D_FREQ 0%@[305,305] "
        "cpu@52.9C/52.9C tj@53.1C VDD_GPU_SOC 3200mW/3200mW VDD_CPU_CV 800mW/800mW "
        "VIN_SYS_5V0 4500mW/4480mW NC 0mW/0mW VDDQ_VDD2_1V8AO 900mW/890mW"),
        {"VDD_GPU_SOC": 3.2, "VDD_CPU_CV": 0.8, "VIN_SYS_5V0": 4.5, "VDDQ_VDD2_1V8AO": 0.9},
    ),
    "JetPack 7, Thor": (
        ("RAM 900/125000MB CPU [1%@972] GR3D_FREQ @[1000,1000,1000] gpu@40.0C "
        "VDD_GPU -39mW/100mW/5000mW VDD_CPU_SOC_MSS 6500mW/6500mW/7000mW "
        "VIN_SYS_5V0 6520mW/6500mW/7000mW VIN 21000mW/20500mW/22000mW"),
        {"VDD_GPU": -0.039, "VDD_CPU_SOC_MSS": 6.5, "VIN_SYS_5V0": 6.52, "VIN": 21.0},
    ),
}  # fmt: skip


def until_read(meter):
    """Return readings of a meter: as soon as there is one, however long that takes."""

    def wait():
        while not meter.rail:
            agent.time.sleep(0.01)

    return meter.watts(wait)


@pytest.mark.parametrize("name", TEGRASTATS)
def test_tegrastats_of_every_generation(name):
    line, rails = TEGRASTATS[name]
    assert agent.parse_tegrastats(line) == rails


@pytest.mark.parametrize(
    ("rails", "named"),
    [
        (["POM_5V_GPU", "POM_5V_IN", "POM_5V_CPU"], "POM_5V_IN"),
        (["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"], "VDD_IN"),
        (["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0", "VIN"], "VIN"),
        (
            ["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"],
            "sum of VDD_CPU_SOC_MSS, VDD_GPU, VIN_SYS_5V0",
        ),
        (
            ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"],
            "sum of VDD_CPU_CV, VDD_GPU_SOC, VIN_SYS_5V0",
        ),
        (["VDDQ_VDD2_1V8AO", "VDD_CPU_CV"], "sum of VDDQ_VDD2_1V8AO, VDD_CPU_CV"),
        (["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"], "sum of CPU, CV, GPU, SOC, SYS5V, VDDRQ"),
        (["VDD_X"], "VDD_X"),
        ([], None),
    ],
)
def test_power_is_the_total_or_the_sum_of_what_no_other_rail_holds(rails, named):
    assert agent.rail_name(rails) == named


def test_temperatures_of_tegrastats():
    line = TEGRASTATS["JetPack 6, AGX Orin"][0]
    assert agent.parse_temperatures(line) == {"cpu": 52.9, "tj": 53.1}
    nano = agent.parse_temperatures(TEGRASTATS["JetPack 4, Nano"][0])
    assert nano == {"PLL": 33.5, "CPU": 36, "GPU": 34.5, "AO": 41.5, "thermal": 35.25}
    assert agent.parse_temperatures("gpu@-256C cpu@60.406C/ x@yC CPU [31%@1479,off]") == {
        "cpu": 60.406
    }
    assert agent.parse_temperatures("GR3D_FREQ 0%@[624] no temperature") == {}


def write_tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return str(root)


def test_power_of_an_agx_orin_counts_the_memory_once(tmp_path):
    chips = "sys/bus/i2c/devices/1-004{}/hwmon/hwmon{}"
    files = {}
    rails = [
        ("0", "1", "VDD_GPU_SOC", 3),
        ("0", "2", "VDD_CPU_CV", 1),
        ("0", "3", "VIN_SYS_5V0", 4),
    ]
    for chip, channel, label, watts in [*rails, ("1", "2", "VDDQ_VDD2_1V8AO", 2)]:
        place = chips.format(chip, chip)
        files |= {f"{place}/in{channel}_label": label, f"{place}/in{channel}_input": 1000}
        files[f"{place}/curr{channel}_input"] = 1000 * watts
    meter = agent.PowerMeter(write_tree(tmp_path, files))
    assert set(until_read(meter)) == {8.0}
    assert meter.rail == "sum of VDD_CPU_CV, VDD_GPU_SOC, VIN_SYS_5V0"


def test_power_of_a_thor_is_that_of_its_input(tmp_path):
    module, board = (f"sys/bus/i2c/devices/{n}/hwmon/hwmon{n[0]}" for n in ("2-0040", "5-0044"))
    root = write_tree(
        tmp_path,
        {
            f"{module}/name": "ina3221", f"{module}/in1_label": "VDD_GPU",
            f"{module}/in1_input": 10000, f"{module}/curr1_input": 900,
            f"{board}/name": "ina238", f"{board}/in1_input": 20000, f"{board}/curr1_input": 2000,
            f"{board}/power1_input": 40125000,
        },
    )  # fmt: skip
    assert [(name, read()) for name, read in agent.rails(root)] == [
        ("VIN", 40.125), ("VDD_GPU", 9.0),
    ]  # fmt: skip
    meter = agent.PowerMeter(root)
    assert set(until_read(meter)) == {40.125}
    assert meter.rail == "VIN"


def test_temperatures_come_from_tegrastats_where_no_zone_can_be_read(tmp_path, monkeypatch):
    tool = tmp_path / "tegrastats"
    tool.write_text("#!/bin/sh\nwhile :; do echo 'cpu@52.9C/52.9C gpu@-256C'; sleep 0.05; done\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert agent.temperatures(str(tmp_path)) == {"cpu": 52.9}


def test_power_modes_go_by_name_since_numbers_differ(tmp_path, monkeypatch):
    conf = (
        "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >"
    )
    root = write_tree(
        tmp_path, {"etc/nvpmodel.conf": conf, "var/lib/nvpmodel/status": "pmode:0002"}
    )
    assert agent.power_mode(root) == "MAXN_SUPER"
    assert agent.power_mode(str(tmp_path / "nowhere")) is None
    (tmp_path / "var/lib/nvpmodel/status").write_text("pmode:0000 fmode:quiet")
    assert agent.power_mode(root) == "15W"
    monkeypatch.setattr(agent, "read_text", lambda path: conf if "nvpmodel.conf" in path else "")
    monkeypatch.setattr(agent, "capture", lambda *_: (0, "NV Power Mode: MAXN\n0\n", ""))
    assert agent.power_mode() == "MAXN"


TIMES = {
    "8": [{"startEnqMs": 0.1, "endEnqMs": 0.3, "h2dMs": 0.2, "computeMs": 3.0, "d2hMs": 0.1,
           "latencyMs": 3.3,
           "endToEndMs": 6.0}],
    "10": [{"h2dMs": 0.2, "computeMs": 2.0, "d2hMs": 0.1, "latencyMs": 2.3}],
    "11": [{"h2dMs": 0.25, "computeMs": 1.0, "d2hMs": 0.25}],
}  # fmt: skip


@pytest.mark.parametrize(("generation", "expected"), [("8", 3.3), ("10", 2.3), ("11", 1.5)])
def test_times_of_trtexec(generation, expected):
    (row,) = agent.parse_export_times(json.dumps(TIMES[generation]))
    assert row == pytest.approx((expected, 0.2 if generation == "8" else 0))
    for wrong in ("", "[]", "{}", '[{"other": 1}]'):
        with pytest.raises(agent.AgentError):
            agent.parse_export_times(wrong)


def test_options_of_trtexec():
    assert agent.parse_trtexec_version("&&&& RUNNING TensorRT.trtexec [TensorRT v8201]") == "8.2.1"
    assert agent.parse_trtexec_version("[TensorRT v100300]") == "10.3.0"
    words = agent.trtexec_build_flags
    always = ["--noTF32", "--profilingVerbosity=detailed"]
    assert words({}, ["fp16"], "8.2.1", 256) == ["--workspace=256", *always, "--fp16"]
    last = [f"--layer{name}=age_months:fp32" for name in ("Precisions", "OutputTypes")]
    assert words({}, ["fp16"], "8.6.1", 256) == [
        "--memPoolSize=workspace:256", *always, "--fp16", "--precisionConstraints=obey", *last,
    ]  # fmt: skip
    strong, pool = {"strongly_typed": True}, "--memPoolSize=workspace:64"
    assert words(strong, [], "10.3.0", 64) == [pool, *always, "--stronglyTyped"]
    assert words(strong, [], "11.1.0", 64) == [pool, *always]
    with pytest.raises(agent.AgentError, match="no precision flags"):
        words({}, ["fp16"], "11.1.0", 64)


def test_a_cache_s_first_line_is_of_the_version_at_hand():
    cache = b"TRT-8200-EntropyCalibration2\nimage: 3c010a14\n"
    assert agent.with_header(cache, "8.2.1.8").startswith(b"TRT-8201-Ent")
    assert agent.with_header(cache, "10.3.0").startswith(b"TRT-100300-Ent")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"Layers": ["a name"]}', {}),
        ("no JSON", {}),
        ('{"Layers": [{"Outputs": [{"Format/Datatype": "Channel major INT8 format"}]}]}',
         {"int8": 1}),
        ('{"Layers": [{"Outputs": [{"Datatype": "Half"}]}, {"Outputs": []}]}', {"fp16": 1}),
    ],
)  # fmt: skip
def test_precisions_of_an_engine(text, expected):
    assert agent.count_precisions(text) == expected


# Whole runs


def prepare(folder, bundles, labelled, **how):
    """Write a work folder; return it, and what makes the report of what an agent wrote there."""
    task = read_task(bundles, labelled.folder, None, 4, make_settings(5, 0, 1, 1))
    folder.mkdir()
    references = write_job(folder, task, AgentOptions(warm_up_s=0, energy_s=0, **how))

    def report():
        return assemble(task, read_raw((folder / "raw.json").read_bytes(), task, references))

    return folder, report


def run_agent(python, work, command="run", **environment):
    return subprocess.run(
        [python, work / "agent.py", command, work],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip


def test_a_run_gives_a_report(exported, labelled, tmp_path):
    bundles = [exported("onnx", "fp32"), exported("onnx", "int8")]
    work, report = prepare(tmp_path / "work", bundles, labelled)
    done = run_agent(sys.executable, work)
    assert done.returncode == 0, done.stderr
    float_one, int8 = report().bundles
    assert float_one.drift.max_abs_change_months < 1e-3
    assert int8.drift.mean_abs_change_months > 0
    assert not list(work.glob("*.npz")), "images are not left lying around"


@pytest.fixture(scope="session")
def python36():
    """Return a Python 3.6 with what a Jetson Nano has of ONNX Runtime, made once for all runs."""
    places = sorted(Path("~/.pyenv/versions").expanduser().glob("3.6.*/bin/python"))
    for found in [*places, shutil.which("python3.6")]:
        if found and not subprocess.run([found, "-c", ""], check=False).returncode:
            break
    else:
        pytest.skip("no Python 3.6 here")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bakit-tests"
    folder, python = home / "py36", home / "py36" / "bin" / "python"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([found, "-m", "venv", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for packages in (["pip==21.3.1"], ["onnxruntime==1.10.0", "numpy==1.19.5"]):
            done = subprocess.run([*pip, *packages], capture_output=True, check=False)
            if done.returncode:
                pytest.skip("its wheels cannot be had here")
        (folder / "done").touch()
    return python


def test_a_run_under_python_3_6(exported, labelled, tmp_path, python36):
    bundles = [exported("onnx", "fp32")]
    work, report = prepare(tmp_path / "work", bundles, labelled)
    done = run_agent(python36, work)
    assert done.returncode == 0, done.stderr
    report = report()
    assert report.host.python.startswith("3.6.")
    assert report.host.versions["onnxruntime"] == "1.10.0"
    assert report.bundles[0].drift.max_abs_change_months < 0.01


def test_an_int8_bundle_of_tensorrt_on_a_nano(
    exported, labelled, tmp_path, tensorrt_double, python36
):
    """The whole agent, its TensorRT included, under Python 3.6 on a stand-in of 8.2 and sm_53."""
    bundles = [exported("tensorrt", "int8"), exported("onnx", "fp32")]
    tensorrt_double("8.2.1", "53")
    cache = str(tmp_path / "engines")
    work, report = prepare(tmp_path / "refused", bundles, labelled, cache=cache)
    done = run_agent(python36, work)
    assert done.returncode == 1
    assert "this GPU" in done.stderr or "Double has no INT8 unit: use --fp16" in done.stderr
    assert [item.error is None for item in report().bundles] == [False, True]
    work, report = prepare(
        tmp_path / "allowed", bundles, labelled, cache=cache, allow_downgrade=True
    )
    done = run_agent(python36, work)
    assert done.returncode == 0, done.stderr
    lowered = report().bundles[0]
    assert lowered.provider == "TensorRT 8.2.1 fp16"
    assert lowered.ran.startswith("TensorRT 8.2.1 fp16; FP16 for INT8, which this GPU lacks")
    assert lowered.int8_share == 0
    assert lowered.device.layers == {"fp16": 2}


def test_only_measurements_are_taken_from_a_device(exported, labelled, tmp_path):
    """What identifies a bundle is this machine's; one that claims another name is refused."""
    bundles = [exported("onnx", "fp32"), exported("onnx", "int8")]
    work, report = prepare(tmp_path / "work", bundles, labelled)
    assert run_agent(sys.executable, work).returncode == 0
    raw = json.loads((work / "raw.json").read_text())
    raw["bundles"][1] = {"error": "no memory"}
    (work / "raw.json").write_text(json.dumps(raw))
    for item, bundle in zip(report().bundles, bundles, strict=True):
        assert (item.name, item.bundle_sha256) == (bundle.name, bundle.sha256)
        assert (item.target, item.precision) == ("onnx", bundle.manifest.precision)
    assert [item.error for item in report().bundles] == [None, "no memory"]
    for claim in ("name", "target", "precision", "bundle_sha256", "checkpoint_sha256"):
        other = raw["bundles"][0] | {claim: "other"}
        (work / "raw.json").write_text(json.dumps(raw | {"bundles": [other, raw["bundles"][1]]}))
        with pytest.raises(AnswerError, match=f"unknown field `{claim}`"):
            report()
    assert "age" not in (work / "job.json").read_text(), "labels stay here"


@pytest.mark.parametrize("age", ["nan", "inf", "-1e7"])
def test_a_model_that_predicts_no_age_is_broken(age):
    class Broken:
        def run(self, feeds):
            return {"age_months": np.array([float(age)])}

    measurement = object.__new__(agent.Measurement)
    with pytest.raises(agent.AgentError, match="broken on this device"):
        measurement._age({"regressor": Broken()}, {})


def test_a_user_without_a_home_gets_one_line(monkeypatch, capfd):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert agent.main(["info"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "has no home folder" in line
    assert "set HOME" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user without an account")
def test_a_user_without_an_account_gets_one_line(tmp_path):
    copy = shutil.copy(AGENT, tmp_path / "agent.py")
    python = "/usr/bin/python3"
    if not os.access(python, os.X_OK):
        pytest.skip("no Python outside of this environment")
    for folder in (tmp_path, *tmp_path.parents[:3]):  # one more in a process of many
        folder.chmod(0o755)
    done = subprocess.run(
        [python, copy, "info"], env={}, user=54321, cwd="/", timeout=600,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "agent.py: user 54321 has no home folder" in done.stderr


def test_a_home_that_is_not_there_ends_too(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "not" / "there"))
    monkeypatch.setattr(agent, "capture", lambda *_: (-1, "", ""))
    assert agent.device_info(str(tmp_path))["cache"].startswith(str(tmp_path / "not" / "there"))


def test_probes_import_nothing_from_the_folder_they_start_in(tmp_path, monkeypatch):
    for name in ("numpy", "json", "ctypes", "tensorrt", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w'); __version__ = 'planted'\n")
    monkeypatch.chdir(tmp_path)
    info = agent.device_info()
    assert info["numpy"] == np.__version__
    assert info["tensorrt"] != "planted"
    assert not (tmp_path / "ran").exists()


def test_a_damaged_bundle_is_refused_there_too(exported, labelled, tmp_path):
    work, _ = prepare(tmp_path / "work", [exported("onnx", "fp32")], labelled)
    path = work / "bundle-0" / "regressor.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    done = run_agent(sys.executable, work)
    assert done.returncode == 1
    assert "regressor.onnx: changed since it was exported" in done.stderr


def test_a_manifest_that_leaves_the_bundle_is_refused_there_too(exported, labelled, tmp_path):
    work, _ = prepare(tmp_path / "work", [exported("onnx", "fp32")], labelled)
    path = work / "bundle-0" / "manifest.json"
    path.write_text(path.read_text().replace("regressor.onnx", "../../outside"))
    seal(path.parent)
    done = run_agent(sys.executable, work)
    assert done.returncode == 1
    assert "which leaves the bundle" in done.stderr


def test_the_file_is_python_3_6():
    vermin = shutil.which("vermin") or str(Path(sys.executable).with_name("vermin"))
    if not Path(vermin).exists():
        pytest.skip("vermin is not installed")
    words = [vermin, "--no-tips", "--violations", "--target=3.6-", str(AGENT)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", ["run", "start", "watch", "fetch", "log", "stop", "step"])
def test_a_command_without_a_work_folder_is_refused(tmp_path, command):
    """``stop`` would remove the kit, which holds a job."""
    copy = shutil.copy(AGENT, tmp_path / "agent.py")
    (tmp_path / "job.json").write_text("{}")
    ran = subprocess.run([sys.executable, copy, command], capture_output=True, text=True)
    assert ran.returncode == 2
    assert f"{command} needs a work folder" in ran.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"agent.py", "job.json"}


def test_a_step_never_gets_the_result_of_an_earlier_one(tmp_path, monkeypatch):
    """One that was ended after it had written leaves its result."""
    (tmp_path / "step.json").write_text('{"golden_months": [1.0]}')
    ended = SimpleNamespace(wait=lambda limit_s: 1)
    monkeypatch.setattr(agent.subprocess, "Popen", lambda *_, **__: ended)
    assert "exit status 1" in agent.run_apart(str(tmp_path), "build:0:0")["error"]
