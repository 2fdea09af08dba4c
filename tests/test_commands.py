"""Commands as people type them: typos, several images, sexes, levels, and what comes next."""

from __future__ import annotations

import inspect
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import bakit
from bakit.bundle import Bundle, write_manifest
from bakit.cli import COMMANDS, SECTIONS, main
from bakit.cli.options import PRECISIONS, TARGETS, find_images, runnable_bundles
from bakit.cli.progress import duration, progress
from bakit.cli.tables import new_table
from bakit.errors import InputError, MissingBackendError, unknown
from bakit.model.checkpoint import Checkpoint
from bakit.prediction import read_sex
from bakit.quality.limits import REASONS, Quality
from bakit.report.text import REMEDIES, verdict_text
from bakit.runtime import Runtime
from bakit.targets import get_target

ROOT = Path(__file__).parents[1]


def run(*words):
    result = CliRunner().invoke(main, list(map(str, words)))
    assert not isinstance(result.exception, Exception), result.exception
    return result


# Typos


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["exprot"], "unknown command 'exprot'; did you mean 'export'?"),
        (["Predict", "hand.png"], "unknown command 'Predict'; did you mean 'predict'?"),
        (["zzz"], "unknown command 'zzz'; use demo, doctor, "),
        (["--vresion"], "unknown option '--vresion'; did you mean '--version'?"),
        (["predict", "a.png", "--gender", "M"], "unknown option '--gender'; see: bakit predict -h"),
        (["report", "a.json", "--pdf", "x"], "unknown option '--pdf'; see: bakit report -h"),
        (["export", "--taget", "onnx"], "unknown option '--taget'; did you mean '--target'?"),
        (["export", "--target", "onxn"], "unknown target 'onxn'; did you mean 'onnx'?"),
        (["export", "--target", "ONNX"], "unknown target 'ONNX'; did you mean 'onnx'?"),
        (["export", "--target", "onnx,opnvino"], "did you mean 'openvino'?"),
        (["export", "--target", "onnx", "--precision", "int"], "did you mean 'int8'?"),
        (["export", "--target", "onnx", "--precision", "fp23"], "did you mean 'fp32'?"),
        (["check", "x.onnx", "--profile", "jetson-nona"], "did you mean 'jetson-nano'?"),
        (["stress", "data", "--kind", "rotate"], "did you mean 'rotation'?"),
        (["calibrate", "data", "--method", "minmx"], "did you mean 'minmax'?"),
        (["train", "data", "--out", "run", "--recipe", "finetun"], "finetun"),
        (["ablate", "data", "--out", "o", "--rows", "ful-224"], "did you mean 'full-224'?"),
        (["doctor", "onx"], "unknown target 'onx'; did you mean 'onnx'?"),
    ],
)
def test_a_typo_gets_the_name_like_it(refused, words, line):
    assert line in refused(*words)


def test_a_typo_comes_before_a_missing_library(monkeypatch, refused):
    for name in ("onnx", "onnxruntime", "safetensors"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("bakit.export")]:
        monkeypatch.delitem(sys.modules, name)
    assert "did you mean 'onnx'?" in refused("export", "--target", "onxn", "--int8")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["export"], "bakit: missing option --target; see: bakit export -h"),
        (["export", "--target"], "bakit: option --target requires an argument; see: "),
        (["predict"], "bakit: missing argument 'IMAGE...'; see: bakit predict -h"),
        (["phantoms", "--out", "x", "-n", "0"], "bakit: -n: 0 is not possible; use 1 or more"),
        (
            ["phantoms", "--out", "x", "-n", "1", "--seed", "-1"],
            "bakit: --seed: -1 is not possible",
        ),
        (["phantoms", "--out", "", "-n", "1"], "bakit: --out: the path is empty; "),
        (["predict", "", "--sex", "F"], "bakit: the path is empty; name a file"),
        (["predict", "a.png", "--sex", "F", "--sex", "M"], "bakit: --sex is given twice"),
        (
            ["verify", "B", "--threads", "99999999"],
            "bakit: --threads: 99999999 is not possible; use",
        ),
        (["verify", "B", "--threads", "x"], "bakit: --threads: 'x' is not a whole"),
        (["bench", "B", "--seconds", "nan"], "bakit: --seconds: 'nan' is not a"),
        (["train", "a", "--out", "r", "--margin", "inf"], "bakit: --margin: "),
        (
            ["distill", "a", "--out", "s", "--steps", "0"],
            "bakit: --steps: 0 is not possible; use 2",
        ),
        (["distill", "a", "--out", "s.pth"], "bakit: --out: s.pth: end the name with .safetensors"),
        (["distill", "a", "--out", "."], "bakit: --out: File '.' is a directory; see: bakit"),
        (["calibrate", "a", "--out", "/dev/null/x"], "bakit: --out: /dev/null: not a writable"),
        (["gate", "r.json", "--min-int8-share", "2"], "bakit: --min-int8-share 2 is not"),
        (
            ["gate", "r.json", "--max-drift", "1"],
            "bakit: unknown option '--max-drift'; did you mean",
        ),
        (["calibrate", "a", "b"], "bakit: got unexpected extra argument (b); see: "),
    ],
)
def test_wrong_usage_is_one_line_like_every_error(refused, words, line):
    assert refused(*words).startswith(line)


@given(st.text(), st.lists(st.text(min_size=1), unique=True, max_size=5))
def test_the_message_names_the_name_and_some_known_one(name, known):
    message = unknown("thing", name, known)
    assert repr(name) in message
    assert not known or any(item in message for item in known)


# Help


def test_help_is_grouped_and_lists_each_command_once():
    text = run("--help").stdout
    places = [text.index(f"\n{title}:\n") for title in SECTIONS]
    assert places == sorted(places)
    assert re.findall(r"^  ([a-z]+)  +[A-Z]", text, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_both_levels_and_names_the_next_command(name):
    text = run(name, "--help").stdout
    assert "-v, --verbose" in text
    assert "-q, --quiet" in text
    assert max(map(len, text.splitlines())) <= 80
    function = main.get_command(click.Context(main), name).callback
    source = inspect.getmodule(function) if name == "bench" else function
    assert "next_step(" in inspect.getsource(source)


@pytest.mark.parametrize("name", ["calibrate", "evaluate", "quality", "stress", "train"])
def test_the_data_comes_first_and_the_checkpoint_is_an_option(name):
    usage = run(name, "--help").stdout.splitlines()[0]
    assert usage.startswith(f"Usage: bakit {name} [OPTIONS] DATA"), usage


def test_values_are_completed():
    def words(names, text):
        return [item.value for item in names.shell_complete(None, None, text)]

    assert "onnx" in words(TARGETS, "")
    assert words(TARGETS, "tens") == ["tensorrt"]
    assert words(PRECISIONS, "fp32,int") == ["fp32,int8", "fp32,int8-weights"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["verify", "a"], "a: a file, not a folder; a bundle is a folder that bakit"),
        (["describe", "a"], "a: a file, not a folder"),
        (["bench", "B", "--json", "B/x.json"], "B/x.json: given for an output, but is or lies in"),
        (["bench", "B", "--json", "x", "--html", "./x"], "x: given for two outputs; use another"),
        (
            ["gate", "a", "--baseline", "b", "--junit", "a"],
            "a: given for an output, but is or lies",
        ),
        (["report", "a", "--html", "a"], "a: given for an output, but is or lies in an input"),
    ],
)
def test_files_and_folders_are_not_mixed_up(refused, tmp_path, words, line):
    (tmp_path / "a").write_bytes(b"{}")
    (tmp_path / "B").mkdir()
    assert refused(*words).startswith(f"bakit: {line}")


# Sexes


@pytest.mark.parametrize("text", ["f", "F", " Female", "FEMALE", "girl", "woman"])
def test_a_girl(text):
    assert read_sex(text) == "F"


@pytest.mark.parametrize("text", ["m", "M", "Male", "male ", "boy", "man"])
def test_a_boy(text):
    assert read_sex(text) == "M"


@pytest.mark.parametrize("text", ["", "X", "O", "fm", "mal", "1", "None"])
def test_no_sex(text):
    with pytest.raises(InputError, match="use F or M, female or male"):
        read_sex(text)


def test_a_runtime_reads_a_sex_in_words(fake_bundle, labelled):
    with Runtime(fake_bundle) as runtime:
        assert runtime.predict(labelled.samples[0].path, "female").sex == "F"


# Several images


@pytest.fixture
def films(labelled, tmp_path):
    """A folder with two images, one below it, a damaged one, and files that are no images."""
    folder = tmp_path / "films"
    (folder / "more").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.PNG", "more/c.png")):
        (folder / name).write_bytes(labelled.samples[index].path.read_bytes())
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"no image")
    return folder


def test_a_folder_stands_for_its_images(films):
    names = [str(path.relative_to(films)) for path in find_images([films])]
    assert names == ["a.png", "b.PNG", "bad.png", "more/c.png"]
    (films / "IM0001").write_bytes(bytes(128) + b"DICM")
    assert films / "IM0001" in find_images([films])


def test_a_folder_without_images(tmp_path):
    with pytest.raises(InputError, match="no image in this folder"):
        find_images([tmp_path])


def test_predict_goes_on_after_a_bad_image(films, fake_bundle):
    result = run("predict", films, "--sex", "Male", "--bundle", fake_bundle)
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        str(films / name) for name in ("a.png", "b.PNG", "more/c.png")
    ]
    assert f"bakit: {films / 'bad.png'}: not a supported image" in result.stderr
    assert "3 predicted, 0 rejected, 1 not usable" in result.stderr


def test_json_has_a_line_for_each_image(films, fake_bundle):
    result = run("predict", films, "--sex", "m", "--bundle", fake_bundle, "--json", "-q")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(row["image"]).name for row in rows] == ["a.png", "b.PNG", "bad.png", "c.png"]
    assert ["error" in row for row in rows] == [False, False, True, False]
    assert all(row["sex"] == "M" for row in rows if "error" not in row)


def test_one_image_is_as_before(films, fake_bundle):
    one = run("predict", films / "a.png", "--sex", "F", "--bundle", fake_bundle)
    assert one.exit_code == 0
    assert re.match(r"\d+ y \d+ m \(", one.stdout)
    document = run("predict", films / "a.png", "--sex", "F", "--bundle", fake_bundle, "--json")
    assert "image" not in json.loads(document.stdout)


def test_a_report_is_of_one_image(films, fake_bundle, refused):
    line = refused("predict", films, "--sex", "F", "--bundle", fake_bundle, "--sr", "report.dcm")
    assert line == "bakit: --sr takes one image, 4 were given"


def test_localize_goes_on_after_a_bad_image(films, fake_bundle):
    result = run("localize", films, "--bundle", fake_bundle, "--json")
    assert result.exit_code == 2
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert ["error" in row for row in rows] == [False, False, True, False]
    assert f"{films / 'bad.png'}: not a supported image" in result.stderr


# Rejects


@pytest.mark.parametrize("code", REASONS)
def test_a_reject_has_a_sentence_and_what_to_do(code):
    text = verdict_text(Quality("reject", (code,)))
    assert text.startswith(f"reject: {code} ({REASONS[code]}); ")
    assert len(text.rpartition("; ")[2].split()) > 3
    assert set(REMEDIES) <= set(REASONS)
    review = verdict_text(Quality("review", (code,)))
    assert review.startswith(f"review: {code} ({REASONS[code]}); check the age by eye")
    assert review.endswith(REMEDIES.get(code, "by eye"))


# Bundles


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--precision", "fp32,int8"], ["tiny-onnx-fp32", "tiny-onnx-int8"]),
        (["--int8", "--fp32"], ["tiny-onnx-fp32", "tiny-onnx-int8"]),
        (["--precision", "int8", "--int8"], ["tiny-onnx-int8"]),
        (["--target", "openvino"], ["tiny-onnx-fp32", "tiny-openvino-fp32"]),
        ([], ["tiny-onnx-fp32"]),
    ],
)
def test_precisions_and_targets(checkpoint, monkeypatch, exported, tmp_path, options, names):
    written = []
    bundle = exported("onnx", "fp32")

    def export(loaded, target, precision, out, **_):
        written.append(out.name)
        return bundle

    monkeypatch.setattr("bakit.export.command.export_bundle", export)
    result = run("export", checkpoint.path, "--target", "onnx", *options, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert sorted(written) == names
    assert f"next: bakit {'verify' if len(names) == 1 else 'bench'} {bundle.root}" in result.stderr


def test_a_precision_that_one_target_lacks_writes_nothing(refused, checkpoint):
    words = ["--target", "onnx,torch", "--precision", "fp32,int8", "--out", "."]
    assert "target 'torch' does not support int8" in refused("export", checkpoint.path, *words)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("first/best.safetensors", "first"),
        ("second/best.safetensors", "second"),
        ("second/last.safetensors", "second-last"),
        ("second/mine.safetensors", "mine"),
    ],
)
def test_a_bundle_is_named_by_its_run(path, name):
    assert Checkpoint(None, {}, {}, path=Path(path)).name == name


def test_a_bundle_of_another_checkpoint_is_not_replaced(
    checkpoint, exported, fake_bundle, tmp_path, refused
):
    place = tmp_path / "tiny-fake-fp32"
    fake_bundle.rename(place)
    manifest = Bundle.read(place).manifest
    words = ["export", checkpoint.path, "--target", "fake", "--out", "."]
    write_manifest(place, msgspec.structs.replace(manifest, checkpoint_sha256="0" * 64))
    line = refused(*words)
    assert line == (
        "bakit: tiny-fake-fp32: a bundle of another checkpoint; use another --out, or --force"
    )
    # With --force it goes on, and fails later: the fake model is not the float model.
    assert "another checkpoint" not in refused(*words, "--force", status=1)


def test_a_bundle_that_cannot_run_here_is_skipped_by_name(
    fake_bundle, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "bakit-bundles").mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", fake_bundle, tmp_path / "bakit-bundles" / name], check=True)
    manifest = Bundle.read(tmp_path / "bakit-bundles/b").manifest
    write_manifest(
        tmp_path / "bakit-bundles/b", msgspec.structs.replace(manifest, target="tensorrt")
    )
    assert [path.name for path in runnable_bundles()] == ["a"]
    assert "skipped: b: " in capsys.readouterr().err
    (tmp_path / "bakit-bundles/a").rename(tmp_path / "gone")
    with pytest.raises(InputError, match="no bundle in bakit-bundles/ runs here"):
        runnable_bundles()


def test_verify_prints_the_float_age_and_the_change(fake_bundle):
    result = run("verify", fake_bundle)
    assert result.exit_code == 0
    assert re.search(r"float model \d+\.\d\d \([+-]\d+\.\d\d\)", result.stdout)
    assert "mean change from the float model: " in result.stdout
    assert "next: bakit bench " in result.stderr


# Doctor


def test_doctor_probes_what_it_is_asked_for(fake_target):
    result = run("doctor", "onnx")
    assert result.exit_code == 0
    assert re.search(r"^ *onnx +ready.* +ready", result.stdout, re.MULTILINE)
    assert "openvino" not in result.stdout
    document = json.loads(run("doctor", "onnx", "--json", "-q").stdout)
    assert document["targets"]["onnx"]["export"] == "ready"
    assert document["ready"] is True


def test_doctor_finds_that_tensorrt_is_missing():
    pytest.importorskip("onnx")
    try:
        get_target("tensorrt").check_runs()
    except MissingBackendError:
        result = run("doctor", "tensorrt")
        assert result.exit_code == 3
        assert re.search(r"^ *tensorrt +missing +ready", result.stdout, re.MULTILINE)
        assert "tensorrt, run: TensorRT is not installed here: a Jetson's JetPack" in result.stdout
    else:
        pytest.skip("TensorRT is installed")


def test_doctor_finds_tensorrt_and_its_gpu(tensorrt_double):
    tensorrt_double("10.3.0", "87")
    text = get_target("tensorrt").check_runs()
    assert text.startswith("TensorRT 10.3.0, ")
    assert text.endswith(", INT8")


# Levels


def test_quiet_prints_results_only(fake_bundle, labelled):
    words = ["predict", labelled.samples[0].path, "--sex", "F", "--bundle", fake_bundle]
    loud, quiet = run(*words), run(*words, "-q")
    assert quiet.stdout == loud.stdout
    assert "next: " in loud.stderr
    assert "next: " not in quiet.stderr
    assert "next: " not in run("-q", *words).stderr


def test_verbose_prints_times_and_a_traceback(fake_bundle, labelled, tmp_path):
    words = ["--sex", "F", "--bundle", fake_bundle, "-v"]
    assert "regress" in run("predict", labelled.samples[0].path, *words).stderr
    result = run("verify", tmp_path / "gone", "-v")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("bakit: ")


def test_a_log_has_time_step_share_and_the_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("bakit.cli.progress.time.monotonic", lambda: now[0])
    with progress(log=True) as on_progress:
        for now[0], done in ((0.0, 1), (10.0, 2), (40.0, 25), (50.0, 26), (100.0, 100)):
            on_progress("boxes", done, 100)
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d boxes \.\.\.", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d boxes 25/100, about 2 min left", second)


def test_the_time_left_of_a_step_that_begins_again_is_its_own(monkeypatch, capsys):
    """As for cropping, which each part of a split has."""
    now = [0.0]
    monkeypatch.setattr("bakit.cli.progress.time.monotonic", lambda: now[0])
    with progress(log=True) as on_progress:
        for now[0], done in ((0.0, 1), (5000.0, 100), (5001.0, 1), (5041.0, 11)):
            on_progress("boxes", done, 100)
    assert capsys.readouterr().err.endswith("boxes 11/100, about 6 min left\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "1 h 0 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


# Tables

WORD = st.text("abc-_0123456789.,[]%+", min_size=1, max_size=18)


@given(st.data(), st.integers(2, 9), st.integers(1, 4), st.sampled_from([60, 80, 100, 120, 200]))
def test_a_table_never_cuts_a_cell(data, columns, rows, width):
    names = [f"name{index}\nms" for index in range(columns)]
    table = new_table("A title", names, wrap=data.draw(st.booleans()))
    cells = [data.draw(st.lists(WORD, min_size=columns, max_size=columns)) for _ in range(rows)]
    for row in cells:
        table.add_row(*row)
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for cell in [cell for row in cells for cell in row]:
        assert cell in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def in_terminal(width, *words):
    """Run a command in a pseudo-terminal of so many columns; return what it prints."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-m", "bakit", *map(str, words)]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment
    ) as process:
        os.close(theirs)
        data = b""
        while True:
            try:
                found = os.read(ours, 1 << 16)
            except OSError:  # the terminal's other end is closed
                break
            data += found
            if not found:
                break
    os.close(ours)
    assert process.returncode in {0, 1}, data
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", data.decode())


NUMBER = re.compile(r"\d[\d.,]*")


@pytest.mark.parametrize("words", [["check", "--list"]])
def test_a_terminal_of_any_width_shows_every_number(words):
    widest = in_terminal(200, *words)
    numbers = set(NUMBER.findall(widest))
    assert len(numbers) > 3
    for width in (60, 80, 100, 120):
        text = in_terminal(width, *words)
        assert numbers <= set(NUMBER.findall(text)), width
        assert "\N{HORIZONTAL ELLIPSIS}" not in text


# The Python API


def test_a_runtime_and_a_prediction_are_readable(fake_bundle, labelled):
    with Runtime(fake_bundle) as runtime:
        assert repr(runtime).startswith(f"Runtime({str(fake_bundle)!r}: fake fp32 of tiny, ")
        found = runtime.predict(labelled.samples[0].path, "F")
    assert found.to_dict() == json.loads(found.to_json())
    assert repr(found).startswith("Prediction(age_months=")


def test_dir_lists_public_names_only():
    assert dir(bakit) == sorted([*bakit.__all__, "__version__"])


def test_records_without_a_title_begin_with_the_first():
    table = new_table("", ("profile", "devices"))
    table.add_row("jetson-nano", "a" * 40)
    out = io.StringIO()
    Console(width=30, file=out).print(table)
    assert out.getvalue().startswith("profile jetson-nano\n")


# Options


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--host a@b --threads 1,2", "--host does not support a thread sweep"),
        ("--host a@b --whole", "--host does not support --whole"),
        ("--phone --host a@b", "--phone does not support --host"),
        ("--phone --goal", "--phone does not support --goal"),
        ("--phone --threads 1,2", "--phone does not support a thread sweep"),
        ("--kit kit.tar.gz --json r.json", "--kit does not support --json"),
        ("--kit kit.tar.gz --host a@b", "--kit does not support --host"),
        ("--kit kit.tar.gz --limit 2", "--kit does not support --limit"),
    ],
)
def test_bench_refuses_what_a_device_would_ignore(refused, words, fault):
    assert fault in refused("bench", *words.split())


def test_a_typo_in_an_argument_is_named_without_its_metavar(refused):
    assert refused("doctor", "onnxx") == "bakit: unknown target 'onnxx'; did you mean 'onnx'?"


@pytest.mark.parametrize(
    ("command", "default"), [("node", "BAKIT"), ("train", "not described"), ("bench", "400")]
)
def test_help_shows_defaults(command, default):
    assert f"[default: {default}" in " ".join(run(command, "-h").stdout.split())
