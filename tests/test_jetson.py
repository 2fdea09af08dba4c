"""A Jetson as the agent sees it, its refusals, and runs through three generations of trtexec."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bakit import agent
from bakit.bench.conditions import judge
from bakit.bench.device.pack import AgentOptions, write_job
from bakit.bench.gate.baseline import check_timing
from bakit.bench.task import make_settings, read_task
from bakit.errors import InputError

MODES = "< POWER_MODEL ID={} NAME={} >\nCPU_ONLINE CORE_0 1\n"
QUICK = AgentOptions(warm_up_s=0, energy_s=0)


def until_read(meter):
    """Return readings of a meter: as soon as there is one, however long that takes."""

    def wait():
        while not meter.rail:
            agent.time.sleep(0.01)

    return meter.watts(wait)


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


# What a Jetson tells


@pytest.fixture
def nano(tmp_path):
    """Return the files of JetPack 4 that the agent reads."""
    power = "sys/bus/i2c/devices/6-0040/iio:device0"
    zones = "sys/class/thermal/thermal_zone"
    return write(
        tmp_path,
        {
            "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
            "proc/device-tree/compatible": "nvidia,p3450-0000\0nvidia,tegra210\0",
            "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 1, BOARD: t210ref",
            "etc/nvpmodel.conf": MODES.format(0, "MAXN") + MODES.format(1, "5W"),
            "var/lib/nvpmodel/status": "pmode:0001",
            f"{power}/rail_name_0": "POM_5V_IN\n",
            f"{power}/in_power0_input": "2003\n",
            f"{power}/rail_name_1": "POM_5V_GPU\n",
            f"{power}/in_power1_input": "120\n",
            f"{power}/rail_name_2": "POM_5V_CPU\n",
            f"{power}/in_power2_input": "not to be read\n",
            f"{zones}0/type": "CPU-therm\n",
            f"{zones}0/temp": "31500\n",
            f"{zones}1/type": "PMIC-Die\n",
            f"{zones}1/temp": "100000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1479000\n",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "102000\n",
            "sys/class/devfreq/57000000.gpu/cur_freq": "921600000\n",
        },
    )


@pytest.fixture
def orin(tmp_path):
    """Return the files of JetPack 6 that the agent reads."""
    power = "sys/bus/i2c/devices/1-0040/hwmon/hwmon1"
    return write(
        tmp_path,
        {
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit",
            "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic",
            "etc/nvpmodel.conf": MODES.format(0, "15W") + MODES.format(2, "MAXN_SUPER"),
            "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet",
            f"{power}/in1_label": "NC\n",
            f"{power}/in1_input": "0\n",
            f"{power}/curr1_input": "0\n",
            f"{power}/in2_label": "VDD_SOC\n",
            f"{power}/in2_input": "5000\n",
            f"{power}/curr2_input": "280\n",
            f"{power}/in3_label": "VDD_IN\n",
            f"{power}/in3_input": "5000\n",
            f"{power}/curr3_input": "1010\n",
            f"{power}/in7_label": "sum of shunt voltages\n",
            f"{power}/in7_input": "99\n",
            f"{power}/curr7_input": "99\n",
            "sys/class/devfreq/17000000.ga10b/cur_freq": "1020000000\n",
        },
    )


def test_a_nano_is_read(nano):
    assert agent.board_model(nano) == "Jetson Nano"
    assert agent.chip_sm(nano) == (5, 3)
    assert agent.l4t_release(nano) == "L4T 32.7.1"
    assert agent.power_mode(nano) == "5W"
    assert [(name, read()) for name, read in agent.rails(nano)] == [
        ("POM_5V_IN", 2.003),
        ("POM_5V_GPU", 0.12),
    ]
    assert agent.temperatures(nano) == {"CPU-therm": 31.5}, "a PMIC's 100 degrees are made up"
    assert agent.clocks(nano) == {"cpu": 1479.0, "gpu": 921.6}
    sms = {(5, 3): False, (6, 1): True, (6, 2): False, (7, 2): True, (8, 7): True, None: None}
    assert {sm: agent.has_int8(sm) for sm in sms} == sms


def test_an_orin_nano_is_read(orin):
    assert agent.board_model(orin) == "Jetson Orin Nano"
    assert agent.chip_sm(orin) == (8, 7)
    assert agent.l4t_release(orin) == "L4T 36.4.3"
    assert agent.power_mode(orin) == "MAXN_SUPER"
    readings = [(name, round(read(), 6)) for name, read in agent.rails(orin)]
    assert readings == [("VDD_IN", 5.05), ("VDD_SOC", 1.4)], "the total first, no NC, no sum"
    assert agent.clocks(orin) == {"gpu": 1020.0}


def test_elsewhere_there_is_nothing_to_read(tmp_path):
    root = str(tmp_path)
    assert agent.board_model(root) == agent.l4t_release(root) == ""
    assert agent.power_mode(root) is agent.chip_sm(root) is None
    assert agent.rails(root) == []
    assert agent.temperatures(root) == agent.clocks(root) == {}


@pytest.mark.parametrize("board", ["nano", "orin"])
def test_power_is_that_of_the_total_rail(board, request):
    meter = agent.PowerMeter(request.getfixturevalue(board))
    assert meter.available
    watts = until_read(meter)
    assert watts == pytest.approx([{"nano": 2.003, "orin": 5.05}[board]] * len(watts))
    assert watts
    assert meter.rail == {"nano": "POM_5V_IN", "orin": "VDD_IN"}[board]


def test_power_is_taken_from_tegrastats_where_the_sensor_is_not_readable(tmp_path, monkeypatch):
    line = "RAM 2518/7620MB GR3D_FREQ 34% tj@49.0C VDD_IN 5064mW/5000mW VDD_SOC 1440mW/1440mW"
    tool = tmp_path / "tegrastats"
    tool.write_text(f"#!/bin/sh\nwhile :; do echo '{line}'; sleep 0.05; done\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    meter = agent.PowerMeter(str(tmp_path / "no-sensors"))
    assert set(until_read(meter)) == {5.064}
    assert meter.rail == "VDD_IN"


def info(**changes):
    device = {"numpy": "1.19.4", "onnxruntime": None, "tensorrt": "8.2.1.8", "trtexec": None}
    device |= {"board": "Jetson Nano", "gpu": None, "sm": (5, 3), "int8": False}
    device |= {"driver_error": None, "python": "3.6.9", "problems": {}}
    return device | changes


def manifest(precision="int8", target="tensorrt"):
    build = {"path": "m.onnx", "min_version": "8.2"}
    artifacts = [{"role": role, "builds": [build]} for role in agent.ROLES]
    return {"target": target, "precision": precision, "artifacts": artifacts}


def refusal(document, device, engine="auto"):
    with pytest.raises(agent.AgentError) as error:
        agent.choose_way(document, device, {"engine": engine, "allow_downgrade": False})
    return str(error.value)


def test_a_nano_refuses_int8_and_says_what_to_do():
    refused = refusal(manifest(), info())
    assert refused == "Jetson Nano has no INT8 unit: use --fp16, or --allow-downgrade"
    allowed = {"engine": "auto", "allow_downgrade": True}
    assert agent.choose_way(manifest(), info(), allowed) == ("tensorrt", True)
    assert agent.choose_way(manifest("fp16"), info(), allowed) == ("tensorrt", False)


@pytest.mark.parametrize(
    ("document", "device", "engine", "said"),
    [
        (manifest(), info(numpy=None), "auto", "numpy is missing"),
        (manifest("fp32"), info(tensorrt=None), "auto", "sudo apt install tensorrt"),
        (manifest("fp32", "onnx"), info(), "auto", "pip3 install onnxruntime"),
        (manifest("fp32", "onnx"), info(), "tensorrt", "runs no onnx bundle; use onnxruntime"),
        (manifest("fp32", "openvino"), info(), "auto", "measures onnx and tensorrt bundles"),
        (manifest("fp32"), info(tensorrt="8.0.1.6"), "auto", "upgrade to JetPack 4.6.1"),
        (manifest("fp32"), info(driver_error="no GPU"), "auto", "install the NVIDIA driver"),
    ],
)
def test_what_a_device_lacks_is_said_before_anything_is_copied(document, device, engine, said):
    assert said in refusal(document, device, engine)


# trtexec


def test_outputs_of_trtexec():
    text = '[{ "name" : "age_months", "dimensions" : "1x1", "values" : [ 117.25 ] }]'
    assert agent.parse_export_output(text) == {"age_months": [117.25]}
    with pytest.raises(agent.AgentError, match="outputs"):
        agent.parse_export_output("[{}]")


FAKE_TRTEXEC = """#!{python}
import json, sys
print("&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # " + " ".join(sys.argv))
options = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
with open({log!r}, "a") as log:
    log.write(json.dumps(options) + "\\n")
known = {known!r}
for name in options:
    if name not in known:
        print("[E] Unknown option: --" + name)
        sys.exit(1)
if {memory} and "saveEngine" in options and "tacticSources" not in options:
    print("[E] Error Code 2: OutOfMemory (no further information)")
    sys.exit(1)
if "saveEngine" in options:
    open(options["saveEngine"], "wb").write(open(options["onnx"], "rb").read())
if "loadEngine" in options:
    import numpy, onnxruntime
    engine = options["loadEngine"]
    session = onnxruntime.InferenceSession(engine, providers=["CPUExecutionProvider"])
    files = dict(pair.split(":", 1) for pair in options["loadInputs"].split(","))
    feeds = {{i.name: numpy.fromfile(files[i.name], "float32").reshape(i.shape)
             for i in session.get_inputs()}}
    outputs = session.run(None, feeds)
    if "exportOutput" in options:
        values = [dict(name=o.name, dimensions="1x1", values=v.ravel().tolist())
                  for o, v in zip(session.get_outputs(), outputs)]
        json.dump(values, open(options["exportOutput"], "w"))
    if "exportLayerInfo" in options:
        layers = [dict(Outputs=[{{"Format/Datatype": "Half"}}])]
        json.dump(dict(Layers=layers), open(options["exportLayerInfo"], "w"))
    if "exportTimes" in options:
        row = dict(h2dMs=0.1, computeMs=1.0, d2hMs=0.1, latencyMs=1.2)
        json.dump([row] * int(options["iterations"]), open(options["exportTimes"], "w"))
"""
COMMON = (
    "help onnx saveEngine loadEngine loadInputs iterations duration warmUp exportOutput exportTimes"
    " noTF32 profilingVerbosity exportLayerInfo exposeDMA useSpinWait"
)
KNOWN = {
    "8201": "workspace buildOnly fp16 int8 calib tacticSources",
    "100300": "memPoolSize skipInference fp16 int8 calib stronglyTyped",
    "110401": "memPoolSize skipInference stronglyTyped",
}


@pytest.mark.parametrize("number", KNOWN)
def test_a_bundle_is_measured_through_trtexec(number, exported, tmp_path, monkeypatch):
    """A stand-in that knows one generation's options and computes with ONNX Runtime."""
    tools, log = tmp_path / "tools", tmp_path / "log"
    tools.mkdir()
    known = [*COMMON.split(), *KNOWN[number].split()]
    script = FAKE_TRTEXEC.format(
        python=sys.executable, number=number, known=known, log=str(log), memory=number == "8201"
    )
    (tools / "trtexec").write_text(script)
    (tools / "trtexec").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    options = replace(QUICK, engine="trtexec", cache=str(tmp_path / "c"))
    (bundle,) = run_agent(tmp_path, [exported("tensorrt", "fp32")], options)["bundles"]
    assert bundle["provider"].startswith("trtexec ")
    assert bundle["stages_ns"]["regress"] == [1_200_000] * 5
    assert bundle["board"]["timing"] == "trtexec"
    assert bundle["board"]["layers"] == {"fp16": 1}, "seen, not claimed"
    assert len(bundle["golden_months"]) > 0
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    builds = [call for call in calls if "saveEngine" in call]
    assert len(builds) == (4 if number == "8201" else 2), "one engine a model, or tried twice"


def test_times_of_trtexec_are_never_compared_with_the_wall_clock():
    here, there = (
        SimpleNamespace(name=name, device=SimpleNamespace(timing=kind))
        for name, kind in (("new", "wall"), ("old", "trtexec"))
    )
    check_timing(here, SimpleNamespace(name="local", device=None))
    with pytest.raises(InputError, match="new was timed by wall and old by trtexec"):
        check_timing(here, there)


# Whole runs


def run_agent(tmp_path, bundles, options=QUICK, **how):
    work = tmp_path / "work"
    work.mkdir()
    write_job(work, latency_task(bundles), options, **how)
    done = subprocess.run(
        [sys.executable, work / "agent.py", "run", work],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((work / "raw.json").read_text())


def latency_task(bundles):
    return read_task(bundles, None, None, None, make_settings(5, 0, 1, 1))


def test_images_stay_where_they_are_asked_to(exported, tmp_path):
    run_agent(tmp_path, [exported("onnx", "fp32")], keep=True)
    assert list((tmp_path / "work").glob("golden-*.npz"))


def test_one_bundle_that_fails_does_not_cost_the_others(exported, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    write_job(work, latency_task([exported("onnx", "fp32"), exported("onnx", "int8")]), QUICK)
    (work / "bundle-0/regressor.onnx").write_bytes(b"x")
    done = subprocess.run([sys.executable, work / "agent.py", "run", work], capture_output=True)
    assert done.returncode == 1
    failed, measured = json.loads((work / "raw.json").read_text())["bundles"]
    assert "changed since it was exported" in failed["error"]
    assert len(measured["stages_ns"]["total"]) == 6  # one in each turn


def test_a_module_that_cannot_be_imported_is_not_missing(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("raise ImportError('libnvinfer.so.8: cannot open')")
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    problems = {}
    assert agent.module_version("no_such_module", problems) is None
    assert problems == {}
    assert agent.module_version("broken", problems) is None
    assert "libnvinfer.so.8: cannot open" in problems["broken"]
    original = agent.capture
    monkeypatch.setattr(agent, "capture", lambda command: original(command, timeout_s=1))
    assert agent.module_version("slow", problems) is None
    assert "no answer within 1 seconds" in problems["slow"]
    broken = info(tensorrt=None, problems={"tensorrt": problems["broken"]})
    said = refusal(manifest("fp32"), broken)
    assert "tensorrt does not start with Python 3.6.9: ImportError: libnvinfer.so.8" in said
    broken = info(numpy=None, problems={"numpy": "it crashed (signal 4)"})
    said = refusal(manifest("fp32"), broken)
    assert said == "numpy cannot be imported: it crashed (signal 4)"


def test_a_trtexec_that_does_not_start_is_not_missing(tmp_path):
    tool = tmp_path / "trtexec"
    tool.write_text("#!/bin/sh\necho 'libnvinfer.so.8: cannot open shared object' >&2; exit 127\n")
    tool.chmod(0o755)
    problems = {}
    assert agent.trtexec_version(str(tool), problems) is None
    broken = info(tensorrt=None, problems=problems)
    said = refusal(manifest("fp32"), broken)
    assert "trtexec does not start with Python 3.6.9: libnvinfer.so.8: cannot open" in said


def test_locked_clocks_that_fall_are_said():
    def board(mhz, locked):
        trace = tuple((float(i), 60.0, 1500.0, clock) for i, clock in enumerate(mhz))
        return SimpleNamespace(clocks_locked=locked, trace=trace)

    steady, shaky = np.full(100, 5.0), np.linspace(1, 99, 100)
    assert judge(steady, None, None, board([918.0, 918.0, None], True)).warning is None
    fell = judge(steady, None, None, board([918.0, 612.0], True)).warning
    assert fell.startswith("throttled: the GPU's locked clock fell from 918 to 612 MHz")
    free = judge(shaky, None, None, board([918.0, 306.0], False))
    assert "throttled" not in free.warning
    assert "the board's clocks are not locked: sudo jetson_clocks" in free.causes


def test_a_user_outside_the_gpu_s_group_is_told_the_group(tmp_path, monkeypatch):
    node = tmp_path / "nvmap"
    node.touch()
    monkeypatch.setattr(agent.os, "access", lambda *_: False)
    said = agent.no_access((str(node),))
    assert said.startswith(f"no permission to open {node}: sudo usermod -aG ")
    assert agent.no_gpu(info(driver_error=said)) == f"TensorRT has no GPU to run on ({said})"
    assert agent.no_access((str(tmp_path / "none"),)) == ""


@pytest.mark.parametrize(
    ("swaps", "said"),
    [
        ("", "0.0 GB of swap on disk: add 4 GB of swap"),
        ("/dev/zram0 partition 2000000 0 5\n", "0.0 GB of swap on disk: add 4 GB of swap"),
        ("/swapfile file 4194300 0 -2\n", "4.2 GB of swap on disk: stop the desktop"),
    ],
)
def test_memory_and_swap_are_named_rightly(tmp_path, swaps, said):
    files = {"proc/meminfo": "MemTotal:        4059264 kB\n", "proc/swaps": f"Filename\n{swaps}"}
    remedy = agent.memory_remedy(write(tmp_path, files))
    assert "4.1 GB of memory" in remedy
    assert said in remedy


def test_clocks_are_locked_where_their_limits_are_equal(orin, tmp_path):
    assert agent.clocks_locked(orin) is None
    gpu, cpu = "sys/class/devfreq/17000000.ga10b", "sys/devices/system/cpu/cpu0/cpufreq"
    limits = {f"{gpu}/min_freq": "5", f"{gpu}/max_freq": "9"}
    assert agent.clocks_locked(write(tmp_path, limits)) is False
    limits = {
        f"{gpu}/min_freq": "9",
        f"{cpu}/scaling_min_freq": "7",
        f"{cpu}/scaling_max_freq": "7",
    }
    assert agent.clocks_locked(write(tmp_path, limits)) is True


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (-9, "add 4 GB of swap"),
        (-11, "crashed"),
        (-15, "it was ended (signal 15)"),
        (7, "exit status 7"),
    ],
)
def test_what_kills_a_measurement_is_said(status, said):
    assert said in agent.why_failed(status)


def test_only_a_work_folder_is_removed(tmp_path):
    (tmp_path / "precious").write_text("x")
    assert agent.stop_job(str(tmp_path)) == 0
    assert (tmp_path / "precious").exists()


def test_boxes_by_the_plain_rule():
    hand = np.zeros((8, 8), np.float32)
    hand[2:6, 1:4] = 0.9
    hand[0, 7] = 0.9  # smaller: not the hand
    assert agent.rough_box(hand) == (1, 2, 4, 6)
    assert agent.rough_box(np.where(hand > 0, 3, 7).astype(np.int32)) == (1, 2, 4, 6)
    assert agent.rough_box(np.zeros((8, 8), np.float32)) == (0, 0, 8, 8), "the whole image"
