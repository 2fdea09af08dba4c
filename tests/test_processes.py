"""Processes that bakit starts: what they import, and from where."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from bakit import agent
from bakit.bench.host import read_host
from bakit.data.parallel import in_processes
from bakit.processes import cpu_count, cpu_quota, import_path, python_command

ROOT = Path(__file__).resolve().parents[1]
PLANTED = (
    *("numpy", "json", "onnx", "cv2", "msgspec", "pickle", "socket", "click", "typing", "random"),
    *("struct", "hashlib", "tempfile", "sitecustomize", "usercustomize", "torch", "onnxruntime"),
    *("safetensors", "pydicom", "cryptography", "matplotlib", "lightning"),
)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A working folder with files named like libraries: each says that it was imported."""
    for name in PLANTED:
        text = f"open({str(tmp_path / 'imported.txt')!r}, 'a').write({name!r} + ' ')\n"
        (tmp_path / f"{name}.py").write_text(text + "raise ImportError('planted')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(folder):
    path = folder / "imported.txt"
    return path.read_text() if path.exists() else ""


def run_python(*words):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_child_imports_bakit_from_where_its_parent_does(planted):
    probe = planted / "elsewhere" / "probe.py"
    probe.parent.mkdir()
    probe.write_text("import bakit, json, sys\nprint(bakit.__file__, sys.argv[1:])\n")
    sys.path.append(str(probe.parent))
    try:
        command = python_command("probe", "a b")
    finally:
        sys.path.remove(str(probe.parent))
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    import bakit

    assert out.split()[0] == bakit.__file__
    assert "['a b']" in out
    assert imported(planted) == ""


def test_the_working_folder_is_no_place_to_import_from(planted, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", str(planted), "lib", *sys.path])
    path = import_path()
    assert "" not in path
    assert str(planted) not in path
    assert str(planted / "lib") == path[0]


@pytest.mark.parametrize("words", [["--help"], ["targets"], ["evaluate", "nowhere"]])
def test_the_command_line_imports_nothing_from_the_working_folder(planted, words):
    (planted / "typing.py").unlink()  # Python itself imports it for -m, before bakit can help
    run = run_python("-m", "bakit", *words)
    assert run.returncode == (2 if "nowhere" in words else 0), run.stderr
    assert imported(planted) == ""


def test_plots_ignore_the_settings_file_of_the_working_folder(tmp_path, planted):
    """It could change the numbers' look, or start LaTeX with a text of its own."""
    script = tmp_path / "bin" / "draw.py"
    script.parent.mkdir()
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from bakit.figures import new_figure, save_figures\n"
        "def draw():\n"
        "    figure = new_figure()\n"
        "    figure.subplots().plot([0, 1])\n"
        "    return figure\n"
        "save_figures({'x.png': draw}, Path(sys.argv[1]))\n"
    )
    settings = "text.usetex: True\nfigure.facecolor: red\nbackend: module://numpy\n"
    drawn = []
    for text in ("", settings):
        (planted / "matplotlibrc").write_text(text)
        run = run_python(str(script), str(tmp_path / "plots"))
        assert run.returncode == 0, run.stderr
        drawn.append((tmp_path / "plots" / "x.png").read_bytes())
    assert drawn[0] == drawn[1]
    assert imported(planted) == ""


def test_the_console_script_imports_nothing_from_the_working_folder(planted):
    script = planted / "bin" / "bakit"
    script.parent.mkdir()
    script.write_text("from bakit.cli import main\nmain()\n")
    run = run_python(str(script), "evaluate", "nowhere")
    assert (run.returncode, imported(planted)) == (2, "")


def test_a_bench_worker_imports_nothing_from_the_working_folder(planted, exported):
    from bakit.bench.local.process import Worker

    with Worker(exported("onnx", "fp32"), 1) as worker:
        assert worker.error is None
    assert imported(planted) == ""


def test_a_check_imports_nothing_from_the_working_folder(planted, exported):
    import onnx

    from bakit.export.check.isolated import prepare_apart

    bundle = exported("onnx", "fp32")
    path = bundle.root / next(iter(bundle.artifact("regressor").files))
    assert prepare_apart(onnx.load(path)).invalid == ""
    assert imported(planted) == ""


@pytest.mark.parametrize("version", ["3.10", "3.12", "own"])
def test_a_pool_spawns_no_process_that_imports_from_the_working_folder(
    planted, version, find_python
):
    """A bare child: bakit.processes needs the standard library alone."""
    python = sys.executable if version == "own" else find_python(version)
    if python is None:
        pytest.skip(f"there is no Python {version}")
    (planted / "multiprocessing.py").write_text((planted / "json.py").read_text())
    script = planted / "bin" / "pool.py"
    script.parent.mkdir()
    script.write_text(
        "from multiprocessing import get_context\n"
        "from bakit.processes import begin_child, spawning\n"
        "if __name__ == '__main__':\n"
        "    with spawning(), get_context('spawn').Pool(1, begin_child) as pool:\n"
        "        print(pool.map(abs, [-1, -2]))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [python, script], capture_output=True, text=True, env=environment, check=False
    )
    assert (run.stdout, run.returncode) == ("[1, 2]\n", 0), run.stderr
    assert imported(planted) == ""


def test_worker_processes_import_nothing_from_the_working_folder(planted):
    before = dict(os.environ)
    assert list(in_processes(abs, [-1, -2, -3], 2)) == [1, 2, 3]
    assert imported(planted) == ""
    assert dict(os.environ) == before


def test_cpus_are_those_that_this_process_may_use():
    if hasattr(os, "sched_getaffinity"):
        assert cpu_count() == len(os.sched_getaffinity(0))
    assert cpu_count() >= 1


V2 = "0::/app/job\n"
V1 = "4:memory:/x\n3:cpu,cpuacct:/app\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        (V2, {"app/job/cpu.max": "150000 100000"}, 1.5),
        (V2, {"app/job/cpu.max": "max 100000"}, None),
        (V2, {"app/job/cpu.max": "max 100000", "app/cpu.max": "200000 100000"}, 2.0),
        (V2, {"app/job/cpu.max": "400000 100000", "app/cpu.max": "50000 100000"}, 0.5),
        (V2, {"cpu.max": "300000 100000"}, 3.0),  # a container: only the top is mounted
        (V2, {"app/job/cpu.max": "damaged"}, None),
        (V2, {}, None),
        (V1, {"cpu/app/cpu.cfs_quota_us": "250000", "cpu/app/cpu.cfs_period_us": "100000"}, 2.5),
        (V1, {"cpu/app/cpu.cfs_quota_us": "-1", "cpu/app/cpu.cfs_period_us": "100000"}, None),
        (V1, {"cpu/app/cpu.cfs_quota_us": "1000", "cpu/app/cpu.cfs_period_us": "0"}, None),
    ],
)
def test_the_quota_of_control_groups_is_read(tmp_path, cgroup, files, expected):
    for name, text in ({"proc/self/cgroup": cgroup} | _below(files)).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == expected


def _below(files):
    return {f"sys/fs/cgroup/{name}": text for name, text in files.items()}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
@pytest.mark.parametrize(("target", "precision"), [("onnx", "fp32"), ("openvino", "fp32")])
def test_a_backend_gets_one_thread_for_each_cpu_of_the_mask(target, precision, exported):
    """On its own choice, ONNX Runtime pins threads outside of the mask, and prints red errors."""
    code = (
        "import os, sys\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
        "from bakit import targets\n"
        "from bakit.runtime import Runtime\n"
        "backend = targets.get_target(sys.argv[2]).load_backend()\n"
        "handed, open_session = [], backend.open_session\n"
        "def spy(files, artifact, threads):\n"
        "    handed.append(threads)\n"
        "    return open_session(files, artifact, threads)\n"
        "backend.open_session = spy\n"
        "with Runtime(sys.argv[1]) as runtime:\n"
        "    runtime.warm_up()\n"
        "print(handed)\n"
    )
    run = run_python("-c", code, str(exported(target, precision).root), target)
    assert (run.stdout, run.stderr, run.returncode) == ("[1, 1]\n", "", 0)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 6),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 6),
        ({}, 6),
    ],
)
def test_the_agent_counts_the_cpus_of_a_container(monkeypatch, files, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    texts = {f"/sys/fs/cgroup/{name}": text for name, text in files.items()}
    monkeypatch.setattr("bakit.agent.read_text", lambda path: texts.get(path, ""))
    assert agent.cpu_count() == expected


def test_a_quota_is_part_of_the_host(monkeypatch):
    monkeypatch.setattr("bakit.bench.host.cpu_quota", lambda: 1.5)
    limited = read_host()
    assert limited.cpu_text.endswith("quota 1.5 CPUs")
    monkeypatch.undo()
    assert limited.fingerprint != msgspec.structs.replace(limited, cpu_quota=None).fingerprint


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "expected"), [(None, 6), (2.5, 3), (0.2, 1), (64.0, 6)])
def test_the_smallest_limit_counts(monkeypatch, quota, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr("bakit.processes.cpu_quota", lambda: quota)
    assert cpu_count() == expected


POOL = """
import os, sys, time
from bakit.data.parallel import in_processes

def work(task):
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(float(sys.argv[2]))

if __name__ == "__main__":
    list(in_processes(work, range(2), 2, chunk=1))
    time.sleep(3600)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("seconds", [0, 3600])
def test_a_pool_s_processes_end_with_a_killed_parent(tmp_path, seconds):
    """Those that wait for a task, and those that have one."""
    script, names = tmp_path / "job.py", tmp_path / "workers.txt"
    script.write_text(POOL)
    command = [sys.executable, script, names, str(seconds)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}) as parent:
        while not names.exists() or len(names.read_text().splitlines()) < 2:
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    workers = {Path("/proc", name) for name in names.read_text().splitlines()}
    until = time.monotonic() + 120
    while any(worker.exists() for worker in workers):
        assert time.monotonic() < until, f"still there: {workers}"
        time.sleep(0.05)
