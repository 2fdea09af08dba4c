"""Odd places and odd text: paths that are not UTF-8, terminal escapes, and a stdout that ends."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bakit.bench.report.document import read_report
from bakit.cli import main
from bakit.cli.tables import echo, safe

ROOT = Path(__file__).resolve().parents[1]
ODD = os.fsdecode(b"odd\xff\xe9")
ESCAPES = ("\x1b[31m", "\x9b31m", "\x07", "\x1b]0;title\x07", "\u202e", "\x7f", "\r")
SHORT = ("--queries", "2", "--seconds", "0.01")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="names here are Unicode")


@pytest.fixture(scope="module")
def odd(tmp_path_factory, exported, labelled):
    """A folder with such a name that holds a bundle and a data folder of such names."""
    root = tmp_path_factory.mktemp("odd") / ODD
    shutil.copytree(exported("onnx", "fp32").root, root / f"bundle{ODD}")
    shutil.copytree(labelled.folder, root / f"data{ODD}")
    return root


def run(*words, status=0):
    result = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=True)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == status, result.output
    return result.stdout


def test_commands_on_a_bundle_and_images_whose_paths_are_not_utf_8(odd):
    bundle, data = odd / f"bundle{ODD}", odd / f"data{ODD}"
    image = data / "images" / f"{ODD}.png"
    shutil.copy(next((data / "images").glob("*.png")), image)
    words = ("predict", image, "--sex", "M", "--bundle", bundle, "--allow-rejected", "--json")
    assert json.loads(run(*words))["age_months"] > 0
    assert json.loads(run("localize", image, "--json", "--bundle", bundle))["image"]
    image.unlink()
    run("verify", bundle)
    run("inspect", bundle)
    run("check", bundle, "--profile", "tensorrt-10")
    assert json.loads(run("describe", data, "--json"))["images"] == 12
    assert json.loads(run("evaluate", data, "--bundle", bundle, "--json"))["schema_version"]


def test_a_bench_of_such_a_bundle_on_such_data(odd):
    report = odd / "report.json"
    files = ("--json", report, "--html", odd / "report.html", "--md", odd / "report.md")
    words = (
        odd / f"bundle{ODD}",
        "--data",
        odd / f"data{ODD}",
        "--reference",
        odd / f"bundle{ODD}",
    )
    run("bench", *words, *SHORT, *files)
    (measured,) = read_report(report).bundles
    assert measured.error is None
    assert (measured.name, measured.drift.samples) == ("bundleodd��", 12)
    run("report", report, "--html", odd / "again.html")
    assert (odd / "again.html").read_text("utf-8")


def test_the_next_command_of_a_folder_with_spaces_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("films of Zoë & co")
    result = CliRunner().invoke(
        main, ["phantoms", "--out", str(folder), "-n", "10", "--height", "128"]
    )
    next_line = result.stderr.splitlines()[-1]
    assert shlex.split(next_line)[1:5] == ["bakit", "bench", "--data", str(folder)]
    result = CliRunner().invoke(main, ["describe", str(folder)])
    assert f"next: bakit train '{folder}' --out run" in result.stderr


def test_phantoms_and_bundles_are_written_to_such_folders(odd, checkpoint):
    run("phantoms", "--out", odd / "made", "-n", "1", "--height", "128")
    assert (odd / "made/images/0.png").stat().st_size > 0
    given = odd / f"{ODD}.safetensors"
    shutil.copy(checkpoint.path, given)
    run("export", given, "--target", "onnx", "--out", odd / "exported")
    run("verify", next((odd / "exported").iterdir()))


@pytest.mark.parametrize("name", ["bundle", "data", "report.json", "image.png"])
def test_a_missing_file_of_such_a_name_costs_one_line(name, refused):
    odd = f"{ODD}-{name}"
    words = {
        "bundle": ("verify", odd),
        "data": ("describe", odd),
        "report.json": ("gate", odd),
        "image.png": ("localize", odd),
    }[name]
    assert r"odd\udcff\udce9" in refused(*words)


@pytest.mark.parametrize("escape", ESCAPES)
def test_text_that_goes_out_has_no_control_characters(escape, capsys):
    echo(f"a{escape}b\nc")
    echo(json.dumps({"name": f"a{escape}b"}, ensure_ascii=False).encode())
    echo(f"a{escape}b", err=True)
    out, err = capsys.readouterr()
    text, document = out.rsplit("\n", 2)[0].split("\n")[:-1], out.splitlines()[-1]
    assert text == [f"a{safe(escape)}b"]
    assert json.loads(document) == {"name": f"a{escape}b"}
    assert all(letter.isprintable() or letter == "\n" for letter in out + err)


@pytest.mark.parametrize("escape", ESCAPES[:3])
@pytest.mark.parametrize(
    "words",
    [
        ("verify", "BUNDLE"),
        ("inspect", "no{}bundle"),
        ("predict", "no{}image", "--sex", "M", "--bundle", "BUNDLE"),
        ("gate", "no{}report"),
        ("describe", "no{}data"),
        ("predict", "a.png", "b{}.png"),
        ("no{}command",),
        ("bench", "BUNDLE", "--host", "a{}b"),
        ("check", "no{}model.onnx", "--profile", "tensorrt-10"),
    ],
)
def test_no_command_prints_an_escape(words, escape, fake_bundle):
    renamed = fake_bundle.rename(fake_bundle.parent / f"b{escape}")
    (renamed / f"left{escape}").write_bytes(b"")
    words = [str(renamed) if word == "BUNDLE" else word.format(escape) for word in words]
    result = CliRunner().invoke(main, words)
    assert not isinstance(result.exception, Exception), result.exc_info
    assert result.output
    assert all(letter.isprintable() or letter == "\n" for letter in result.output)


def test_click_echo_is_called_in_one_place():
    rooms = [ROOT / room for room in ("bakit", "bench", "calib", "export")]
    calls = [
        path.name
        for room in rooms
        for path in room.rglob("*.py")
        if path.name != "agent.py" and "click.echo(" in path.read_text("utf-8")
    ]
    assert calls == ["tables.py"]


def test_without_stderr_a_command_does_its_work(tmp_path):
    """Nor gets a file of its own the number of stderr, and what libraries print."""
    words = [sys.executable, "-m", "bakit", "phantoms", "--out", "out", "-n", "1", "--height", "96"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = ["sh", "-c", f"{shlex.join(words)} 2>&-"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, stdout=-1)
    assert (done.returncode, b"1 radiographs" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("redirection", "status", "words"),
    [
        (">&-", 2, "stdout is closed, so the result is lost"),
        (">/dev/full", 2, "No space left on device"),
        ("| true", 1, ""),
    ],
)
def test_a_result_that_nobody_can_read_is_no_success(redirection, status, words):
    """A pipe's reader may end before or after all is written: both is right."""
    command = f"set -o pipefail; {sys.executable} -m bakit targets --json {redirection}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode in ({status, 0} if "|" in redirection else {status})
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == bool(words)
