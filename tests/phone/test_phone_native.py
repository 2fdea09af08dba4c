"""Times by benchmark binaries over adb: on a stand-in adb, with outputs as the programs print them.

Nothing here ran on a phone.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import time
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from bakit.bench.gate.check import Gate
from bakit.bench.phone import native
from bakit.bench.phone.binary import Binary, OutputError, read_binaries
from bakit.bench.phone.inputs import DriftInputs, golden_inputs
from bakit.bench.phone.listener import PhoneOptions
from bakit.bench.phone.run import run_phone
from bakit.bench.render import render_html
from bakit.bench.report.document import read_report
from bakit.bench.report.latency import StageTimes
from bakit.bench.task import make_settings, read_task
from bakit.cli.bench import print_report
from bakit.errors import InputError
from bakit.runtime import Runtime

LITERT = b"Inference timings in us: "
ORT = b"Average inference time cost"
BUILT_IN = "litert-builtin"

# LiteRT's benchmark_model on a board (TI's documentation); the older form has no percentiles.
LITERT_SAYS = """INFO: STARTING!
INFO: Graph: [model.tflite]
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be {how}.
INFO: The input model file size (MB): 67.3128
INFO: Initialized session in 614.333ms.
INFO: Running benchmark for at least 1 iterations and at least 0 seconds but terminate if \
exceeding 150 seconds.
INFO: count=1 curr=905463{one}
INFO: Running benchmark for at least 50 iterations and at least 0 seconds but terminate if \
exceeding 150 seconds.
INFO: count=50 first=900416 curr=898333 min=898007 max=906121 avg=899641 std=1549{many}
INFO: Inference timings in us: Init: 614333, First inference: 905463, Warmup (avg): 905463, \
Inference (avg): 899641
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only \
APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your \
discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=58.25 overall=138.8
"""
NEWER = LITERT_SAYS.format(
    how="partially executed by the delegate w/ 1 delegate kernels",
    one=" p5=905463 median=905463 p95=905463",
    many=" p5=898333 median=899281 p95=904305",
)
OLDER = LITERT_SAYS.format(how="completely executed by the delegate", one="", many="")

# onnxruntime_perf_test on an Android phone (Arm's learning path).
ORT_SAYS = """Setting intra_op_num_threads to 1
Session creation time cost: 0.217932 s
First inference time cost: 196 ms
Total inference time cost: 0.49481 s
Total inference requests: 5
Average inference time cost total: 98.961997 ms
Total inference run time: 0.494854 s
Number of inferences per second: 10.104
Avg CPU usage: 11 %
Peak working set size: 271122432 bytes
"""
ORT_SUMMARY = """Avg CPU usage:11
Peak working set size:271122432
Runs:5
Min Latency: 0.0958204 s
Max Latency: 0.101519 s
P50 Latency: 0.0995086 s
P90 Latency: 0.101519 s
P95 Latency: 0.101519 s
P99 Latency: 0.101519 s
P999 Latency: 0.101519 s
"""
ORT_ROWS = "".join(f"0-regressor,0.0{ms},271122432,11,{i}\n" for i, ms in enumerate(range(95, 100)))

ADB = """#!/bin/sh
echo "$*" >>"$PHONE/log"
verb=$1; shift
. "$PHONE/trouble"
case $verb in
push) cp -r "$1" "$2"; for b in "$2"/work/*/benchmark; do cp "$PHONE/program" "$b"; done
      echo "$1: 9 files pushed. 30.1 MB/s (15669632 bytes in 0.497s)" ;;
pull) cp -r "$1" "$2" ;;
shell) if [ "$1" != am ]; then sh -c "$1"; fi ;;
esac
"""
PROGRAM = """#!/bin/sh
echo "$*" >>"$PHONE/runs"
for word; do
  case $word in --output_filepath=*) out=${word#*=} ;; times.csv) rows=$word ;; esac
done
. "$PHONE/fault"
if [ -n "$out" ]; then cp "$PHONE/answers/${PWD##*-}/${out#out/}" "$out"; exit; fi
if [ -n "$rows" ]; then cat "$PHONE/rows" >"$rows"; fi
cat "$PHONE/says"
"""
PROPS = """[ro.build.version.release]: [14]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a,armeabi]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 8]
[ro.serialno]: [38181FDJH00ABC]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [Tensor G3]
"""
THERMAL = """Thermal Status: 2
Cached temperatures:
	Temperature{mValue=98.0, mType=0, mName=stale, mStatus=4}
Current temperatures from HAL:
	Temperature{mValue=57.8, mType=3, mName=skin, mStatus=0}
	Temperature{mValue=51.5, mType=0, mName=CPU0, mStatus=0}
	Temperature{mValue=3980.0, mType=7, mName=vbat, mStatus=0}
"""


def elf(path, mark):
    """Write what looks like a program for a phone."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x7fELF" + mark)
    return path


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """The folder of a phone that a stand-in of adb reaches, and whose storage has a blank."""
    folder, tools = tmp_path / "phone", tmp_path / "platform-tools"
    storage = folder / "local tmp"
    for made in (storage, tools):
        made.mkdir(parents=True)
    texts = {"trouble": "", "fault": "", "says": NEWER, "rows": ORT_ROWS, "program": PROGRAM}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    programs = {"adb": ADB, "getprop": PROPS, "dumpsys": THERMAL}
    for name, text in programs.items():
        script = text if name == "adb" else f"#!/bin/sh\ncat <<'END'\n{text}END\n"
        (tools / name).write_text(script, encoding="utf-8")
    for program in (*tools.iterdir(), folder / "program"):
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PHONE", str(folder))
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(native, "FOLDER", str(storage))
    yield folder
    assert list(storage.iterdir()) == []


def binary_of(path):
    (binary,) = read_binaries([path]).values()
    return binary


def answer(folder, role, arrays):
    """Let the phone's program give these outputs for the inputs 0 and so on."""
    place = folder / "answers" / role
    place.mkdir(parents=True)
    for index, array in enumerate(arrays):
        (place / str(index)).write_bytes(np.asarray(array).tobytes())


def runs_of(folder):
    return (folder / "runs").read_text(encoding="utf-8").splitlines()


def test_litert_s_times_and_ages_become_a_report(phone, exported, tmp_path, capsys):
    bundle = exported("litert", "fp32")
    goldens = bundle.manifest.golden
    with Runtime(bundle, 1) as runtime:
        answer(phone, "localizer", golden_inputs(runtime).answers)
    ages = [golden.bundle_months for golden in goldens] + [100.0, 110.0]
    answer(phone, "regressor", np.float32(ages))
    program = elf(tmp_path / "my tools/benchmark_model", LITERT + b"output_filepath")
    options = PhoneOptions(adb=True, benchmark_binary=(program,))
    how = {"limit": 2, "min_queries": 50, "warm_up": 3, "threads": 2}
    how["reference"] = exported("onnx", "fp32", "litert")
    report, failures = run_phone([bundle], options=options, on_address=None, **how)
    assert failures == []
    (found,) = report.bundles
    assert (found.error, report.phone, report.partial) == (None, None, False)
    stages = found.latency.stages
    assert stages["regress"].p50_ms == pytest.approx(899.281)
    assert stages["regress"].mean_ms == pytest.approx(899.641)
    assert stages["regress"].cv == pytest.approx(1.549 / 899.641)
    assert stages["total"] == StageTimes(None, None, None, pytest.approx(2 * 899.641))
    assert {stages[name].p90_ms for name in stages} == {None}
    assert stages["regress"].p50_ci95_ms is None
    assert (found.latency.queries, found.latency.turns, found.latency.samples) == (50, (50,), {})
    assert found.footprint.load_ms == pytest.approx(2 * 614.333)
    assert found.provider == "litert-xnnpack and litert-builtin"
    assert [row.bundle_months for row in found.drift.rows] == [100, 110]
    assert found.device.golden_change_months < 1e-4
    assert found.device.board.startswith("Google Pixel 8, ")
    assert report.host.system == found.device.system == "Android 14"
    assert (found.device.timing, found.device.temperature_after_c) == ("benchmark_model", 51.5)
    assert (report.host.machine, report.host.cpu) == (
        "arm64-v8a",
        "Google Pixel 8, Google Tensor G3",
    )
    times = [line for line in runs_of(phone) if "output_filepath" not in line]
    for words in ("--num_threads=2", "--num_runs=50", "--warmup_runs=3", "--use_xnnpack=true"):
        assert all(words in line for line in times)
    side = bundle.manifest.preprocessing.image_size
    assert f"--input_layer=image,sex --input_layer_shape=1,1,{side},{side}:1,1 " in times[1]
    report.write(tmp_path / "phone.json")
    assert read_report(tmp_path / "phone.json") == report
    no_drift = dict.fromkeys(field.name for field in dataclasses.fields(Gate))
    verdict = Gate(**{**no_drift, "max_p90_ms": 3000.0}).check(report)
    assert not verdict.passed
    assert "p90 of the total time is unknown" in str(verdict)
    print_report(report)
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "Google Pixel 8, Google Tensor G3",
        "50 runs of each network by benchmark_model",
        "one after the other",
        "in part by XNNPACK",
        "no percentiles of the total time",
        "ages are those that benchmark_model wrote",
        "thermal status 2",
    ):
        assert words in printed
    assert "1,799" in render_html(report)


def test_onnx_runtime_takes_the_times_and_the_browser_gives_the_ages(
    phone, runtime_folder, begin, connect, bundles, tmp_path
):
    (phone / "says").write_text(ORT_SAYS, encoding="utf-8")
    program = elf(tmp_path / "tools/onnxruntime_perf_test", ORT)
    elf(tmp_path / "tools/libonnxruntime.so", b"")
    run = begin(bundles, benchmark_binary=(program,), min_queries=5)
    client = connect(run.page().url)
    client.start()
    assert client.plan["min_queries"] == 1  # the page need not time anything
    for index, change in enumerate((0.0, 1.5)):
        client.measure(index, change)
    client.say("done")
    report, failures = run.result()
    assert failures == []
    floats, ints = report.bundles
    assert ints.latency.samples_ns("regress").tolist() == [95e6, 96e6, 97e6, 98e6, 99e6]
    assert ints.latency.stages["total"].p50_ms == 194
    assert ints.latency.stages["total"].p90_ci95_ms is None
    assert (ints.provider, ints.device.timing) == ("CPUExecutionProvider", "onnxruntime_perf_test")
    assert ints.drift.mean_abs_change_months == pytest.approx(1.5)
    assert any("none was checked natively" in note for note in ints.device.notes)
    assert "peak memory: localizer 271 MB, regressor 271 MB" in " ".join(ints.device.notes)
    assert floats.footprint.load_ms == pytest.approx(2 * 217.932)
    assert report.machine.startswith("Google Pixel 8, Google Tensor G3, ")
    assert "onnxruntime-web" in report.machine
    no_drift = dict.fromkeys(field.name for field in dataclasses.fields(Gate))
    assert Gate(**{**no_drift, "max_p90_ms": 300.0}).check(report).passed
    verdict = str(Gate(**{**no_drift, "max_p90_ratio": 1.0}).check(report))
    assert "measured one after the other" in verdict
    assert all(" -r 5 -x 1 -y 1 -e cpu" in line for line in runs_of(phone))
    log = (phone / "log").read_text(encoding="utf-8")
    assert "am start" in log.partition("times.csv")[2]  # the phone is still cool for the binary


@pytest.fixture(scope="module")
def prepared(exported):
    """What ``measure_natively`` gets for a bundle without a drift set."""
    bundle = exported("litert", "fp32")
    with Runtime(bundle, 1) as runtime:
        golden = golden_inputs(runtime)
    return read_task([bundle], None, None, None, make_settings(50, 0, 3, 1)), golden


@pytest.fixture
def measure(phone, prepared, tmp_path):
    """Return what measures that bundle with a binary that cannot write outputs."""
    task, golden = prepared
    drift = DriftInputs([golden.crops[:0]], [0], [[]], {})
    binary = binary_of(elf(tmp_path / "tools/benchmark_model", LITERT))

    def run(binary=binary, run_s=30, on_progress=lambda *_: None):
        how = [golden], drift, run_s, on_progress
        _, found = native.measure_natively(task, {"litert": binary}, *how)
        return found[task.bundles[0].name]

    return run


def test_ages_that_were_not_checked_are_said_to_be(measure, phone):
    raw = measure()
    assert raw.readings is None
    assert not raw.golden_months
    assert any("ages were not checked" in note for note in raw.board.notes)


TROUBLE = {  # what adb or the phone does, and what is said of it
    "more than one": (
        'echo "adb: more than one device/emulator" >&2; exit 1',
        "more than one device/emulator\\); set ANDROID_SERIAL",
    ),
    "full": (
        ("case $verb in push) echo \"adb: error: failed to copy 'a' to 'b': remote No space left "
        'on device" >&2; exit 1 ;; esac'),
        "No space left on device\\); free some space on the phone",
    ),
    "full at once": (
        ('case $1 in *umask*) set -- "echo mkdir: No space left on device; (exit 1)${1##*2>&1}" ;; '
        "esac"),
        "No space left on device\\); free some space",
    ),
    "unplugged": ("case $1 in *umask*) sh -c \"$1\"; exit 0 ;; *--graph*) exit 0 ;; esac",
                  "the connection ended"),
    "floods": (
        "case $1 in *--graph*) exec head -c 3000000 /dev/zero ;; esac",
        "prints more than 1048576 bytes",
    ),
}  # fmt: skip
FAULTS = {
    "another CPU": (
        'echo "sh: ../benchmark: not executable: 64-bit ELF file"; exit 126',
        "64-bit ELF file; take the binary for the phone's CPU",
    ),
    "a library": (
        "echo 'CANNOT LINK EXECUTABLE: library \"libonnxruntime.so\" not found'; exit 1",
        "put the libraries that it needs beside the binary",
    ),
    "a full phone": ("echo 'write: No space left on device'; exit 1", "free some space"),
}


@pytest.mark.parametrize("case", [*TROUBLE, *FAULTS])
def test_a_phone_that_cannot_measure_costs_one_line(measure, phone, case):
    name = "trouble" if case in TROUBLE else "fault"
    script, said = (TROUBLE | FAULTS)[case]
    (phone / name).write_text(script, encoding="utf-8")
    with pytest.raises(InputError, match=said) as error:
        measure()
    assert "\n" not in str(error.value)


BUNDLE_FAULTS = {
    "segfault": ("echo Segmentation fault; exit 139", "with status 139: Segmentation fault"),
    "Latin-1": (r"printf 'Mod\350le cass\351\n'; exit 1", r"status 1: Mod\\xe8le cass\\xe9"),
    "escape": (r"printf '\033[2Jgone\n'; exit 1", r"\\x1b\[2Jgone"),
    "silent": ("exit 0", "printed no inference timings"),
    "an adb-like line": ("echo 'ERROR: Failed to load model'; exit 1", "Failed to load model"),
}


@pytest.mark.parametrize("case", BUNDLE_FAULTS)
def test_a_bundle_that_fails_is_named_and_the_run_goes_on(measure, phone, case):
    script, said = BUNDLE_FAULTS[case]
    (phone / "fault").write_text(script, encoding="utf-8")
    error = measure().error
    assert re.search(said, error), error
    assert error.startswith("benchmark_model ")
    assert error.isprintable()


def test_a_binary_that_hangs_is_ended_on_the_phone(measure, phone):
    (phone / "fault").write_text('echo $$ >"$PHONE/hung"; exec sleep 60', encoding="utf-8")
    with pytest.raises(InputError, match="was not done after 1 seconds"):
        measure(run_s=0.7)
    process = int((phone / "hung").read_text())
    until = time.monotonic() + 30
    while Path(f"/proc/{process}/cmdline").exists() and time.monotonic() < until:
        time.sleep(0.02)  # its parent has not waited for it yet
    assert not Path(f"/proc/{process}/cmdline").exists()


def test_ctrl_c_leaves_nothing_on_the_phone(measure):
    def interrupt(step, done, total):
        if step == "native":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(on_progress=interrupt)


def test_files_that_are_no_benchmark_binary_are_refused(refused, tmp_path, exported, adb):
    def say(*more, host=("--phone", "--adb"), target="onnx"):
        return refused("bench", exported(target, "fp32").root, *host, *more)

    script = tmp_path / "run.sh"
    script.write_bytes(b"#!/bin/sh\n")
    both = elf(tmp_path / "benchmark", LITERT + ORT)
    litert = elf(tmp_path / "benchmark_model", LITERT)
    assert "neither LiteRT's" in say("--benchmark-binary", script)
    assert "neither LiteRT's benchmark_model nor" in say("--benchmark-binary", both)
    assert "runs litert bundles, and none is named" in say("--benchmark-binary", litert)
    twice = ("--benchmark-binary", litert) * 2
    assert "are both benchmark_model" in say(*twice)
    assert "add --adb" in say("--benchmark-binary", litert, host=("--phone",))
    assert "needs --phone" in say("--benchmark-binary", litert, host=())
    onnx = elf(tmp_path / "onnxruntime_perf_test", ORT)
    assert "runs onnx bundles" in say("--benchmark-binary", onnx, target="litert")
    assert "FILE with LiteRT's benchmark_model" in say("--limit", 1, target="litert")


PRINTED = {  # what a program prints, and: p50, p90, mean, load in ms, unit
    "newer": (LITERT, NEWER, (899.281, None, 899.641, 614.333, f"litert-xnnpack and {BUILT_IN}")),
    "older": (LITERT, OLDER, (None, None, 899.641, 614.333, "litert-xnnpack")),
    "one time": (
        LITERT,
        ("count=3 curr=5\ncount=50 curr=7(all same)\nInference timings in us: Init: 9, First "
        "inference: 5, Warmup (avg): 5, Inference (avg): 7\n"),
        (0.007, None, 0.007, 0.009, BUILT_IN),
    ),
    "exponents": (
        LITERT,
        ("count=1 curr=3512391\n\ncount=50 first=2990275 curr=2913402 min=2727568 max=3189954 "
        "avg=2.95034e+06 std=109798\n\nInference timings in us: Init: 17187, First inference: "
        "3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06\n"),
        (None, None, 2950.34, 17.187, BUILT_IN),
    ),
    "runs": (ORT, ORT_SAYS + ORT_ROWS, (None, None, 98.961997, 217.932, "CPUExecutionProvider")),
    "percentiles": (
        ORT, ORT_SAYS + ORT_SUMMARY, (99.5086, 101.519, 98.961997, 217.932, "CPUExecutionProvider"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PRINTED)
def test_the_formats_of_both_programs_are_read(tmp_path, case):
    mark, text, expected = PRINTED[case]
    binary = binary_of(elf(tmp_path / "b", mark))
    found = binary.parse(text, 50 if mark == LITERT else 5)
    times = found.times
    assert (times.p50_ms, times.p90_ms, times.mean_ms, found.load_ms, found.unit) == pytest.approx(
        expected
    )
    assert len(found.runs_ns) == (5 if case == "runs" else 0)
    with pytest.raises(OutputError, match="instead of 51"):
        binary.parse(text, 51)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(st.data())
def test_damaged_output_is_an_error_or_gives_possible_times(data):
    mark, text, _ = PRINTED[data.draw(st.sampled_from(sorted(PRINTED)))]
    start = data.draw(st.integers(0, len(text)))
    text = text[:start] + data.draw(st.text("0123456789.e+-nainf ,=\n", max_size=9)) + text[start:]
    target = "litert" if mark == LITERT else "onnx"
    try:
        found = Binary(Path("b"), target, answers=False).parse(
            text, 50 if target == "litert" else 5
        )
    except OutputError:
        return
    assert 0 < found.times.mean_ms <= 1e9
    assert all(0 < run <= 1e15 for run in found.runs_ns)


def test_golden_inputs_are_onnx_s_test_data(tmp_path, exported):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    model = exported("onnx", "fp32").artifact("regressor")
    side = model.inputs[0].shape[-1]
    pixels = np.linspace(0, 1, side * side, dtype=np.float32)
    feed = {"image": pixels, "sex": np.float32([1])}
    Binary(tmp_path, "onnx", answers=False).write_inputs(tmp_path, model, [feed, feed], 1)
    assert [path.name for path in tmp_path.iterdir()] == ["test_data_set_0"]
    for place, spec in enumerate(model.inputs):
        data = (tmp_path / f"test_data_set_0/input_{place}.pb").read_bytes()
        tensor = onnx.TensorProto.FromString(data)
        assert tensor.name == spec.name
        found = onnx.numpy_helper.to_array(tensor)
        assert np.array_equal(found, feed[spec.name].reshape(spec.shape))
