"""``bakit bench --phone`` as it is typed: what it prints, writes and exits with."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from bakit.bench.report.document import read_report


@pytest.fixture
def typed(runtime_folder, bundles, tmp_path):
    """Return what starts the command and gives the process, the address and what came before."""
    started = []

    def start(*more):
        command = [sys.executable, "-m", "bakit", "bench", *(str(b.root) for b in bundles)]
        command += ["--phone", "--queries", "2", "--seconds", "0", "--limit", "2", *more]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        started.append(process)
        before = ""
        for line in process.stderr:
            before += line
            found = re.search(r"https://127\.0\.0\.1:\d+/\w+/", line)
            if found:
                return process, found[0], before
        pytest.fail(before)

    yield start
    for process in started:
        process.kill()
        process.wait(300)
        process.stdout.close()
        process.stderr.close()


def rest(process):
    """Return what else it printed on stdout and stderr: communicate() forgets what was buffered."""
    out, err = process.stdout.read(), process.stderr.read()
    process.wait(300)
    return out, err


def test_the_report_is_printed_and_written(typed, connect, tmp_path):
    process, url, before = typed("--json", "r.json", "--md", "r.md")
    steps = [line.partition(" ")[2] for line in before.splitlines()]  # after the time of day
    assert steps[:2] == ["phantoms ...", "prepare ..."]
    client = connect(url, tls=True)
    client.start()
    client.measure(0)
    client.measure(1, change=0.5)
    client.say("done")
    out, err = rest(process)
    assert process.returncode == 0, err
    assert "only this machine can open this address" in err
    assert re.search(r"^([0-9A-F]{2}:){31}[0-9A-F]{2}$", err, re.MULTILINE)
    steps = [line.partition(" ")[2] for line in err.splitlines() if line.endswith(" ...")]
    assert steps == ["load ...", "latency ...", "drift ..."]
    assert "Pixel 9, Android 16" in out
    assert "Pixel 9, Android 16" in (tmp_path / "r.md").read_text(encoding="utf-8")
    report = read_report(tmp_path / "r.json")
    assert report.bundles[1].drift.mean_abs_change_months == pytest.approx(0.5)


def test_ctrl_c_keeps_what_came_and_json_is_alone_on_stdout(typed, connect, tmp_path):
    process, url, _ = typed("--json", "-")
    client = connect(url, tls=True)
    client.start()
    client.measure(0)
    process.send_signal(signal.SIGINT)
    out, err = rest(process)
    assert process.returncode == 1
    assert err.splitlines()[-1] == "bakit: the phone did not finish: interrupted"
    (tmp_path / "r.json").write_text(out, encoding="utf-8")
    report = read_report(tmp_path / "r.json")
    assert report.partial
    assert [bundle.error for bundle in report.bundles] == [None, "interrupted"]
