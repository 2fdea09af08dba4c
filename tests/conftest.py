"""A real, untrained checkpoint and its bundles, small enough to be made in every run."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis
import pytest
from click.testing import CliRunner
from filelock import FileLock

from bakit.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bakit.bundle import Bundle, Golden
    from bakit.data.labels import Sample
    from bakit.model.checkpoint import Checkpoint

# The same examples everywhere, and none fails because a machine is busy.
hypothesis.settings.register_profile("bakit", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("bakit")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # more only wait for each other on a busy machine

# Programs that tests start inherit what is ignored: SIGINT in the background, SIGHUP after nohup.
if os.name == "posix":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SAMPLES = 12
GOLDENS = 4
"""Golden images of the untrained checkpoint's bundles; those of the shipped one have all."""

SHARED = "BAKIT_TESTS_SHARED"
"""Environment variable: the folder of a run that started this one, whose fixtures it uses."""

LONGEST = (
    "test_readme.py",
    "test_targets_contract.py",
    "test_tensorrt.py",
    "test_hostile_device.py",
    "test_contributing.py",
    "test_ablate.py",
    "test_train.py",
    "test_agent.py",
    "test_gate_faults.py",
    "test_quality.py",
    "test_phone_browser.py",
    "test_resume.py",
    "test_pretrained.py",
    "test_int8_search.py",
    "test_coreml.py",
    "test_jetson.py",
    "test_student_contract.py",
)
"""Files of tests that start first, so that no core waits for one of them at the end."""

REMEDIES = {
    "chromium": ".venv/bin/python -m playwright install --with-deps chromium",
    "openssh": "sudo apt install openssh-server openssh-client",
    "sshd": "sudo apt install openssh-server openssh-client, and root",
    "npm": "sudo apt install npm, and a connection to its registry",
    "c compiler": "sudo apt install gcc",
    "onnxruntime_cxx_api.h": "sudo apt install libonnxruntime-dev (Debian 13), or its headers in "
    "CPLUS_INCLUDE_PATH",
    "png.h": "sudo apt install libpng-dev",
    "openssl": "sudo apt install openssl",
    "dcmtk": "sudo apt install dcmtk dicom3tools",
    "kotlinc": "sudo apt install kotlin libopencv-java",
    "no python": "uv python install 3.6 3.10 3.12, or the same with pyenv",
    "coreai": "make test, with Python 3.11 or later on x86-64 Linux",
    "could not import": "make test, which installs the extra dev",
    "not installed": "make test, which installs the extra dev",
    "package index": "a connection to a package index",
    "emulated arm": "make test-arm, as root on Debian",
    "radiographs": "real radiographs in ../shared/data; they are not part of the repository",
}
"""What brings a test that was skipped, by words of the reason; the first that fits."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Make one skipped test of a module that skips itself: pytest-xdist reports tests alone."""
    report = yield
    if report.skipped and isinstance(collector, pytest.Module):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        skip = partial(pytest.skip, reason)
        report.result = [pytest.Function.from_parent(collector, name="all tests", callobj=skip)]
        report.outcome, report.longrepr = "passed", None
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest files."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(LONGEST)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was not run, and the command that brings it."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    if not reasons:
        return
    terminalreporter.section(f"{reasons.total()} not run")
    for reason, count in reasons.most_common():
        remedy = next((how for words, how in REMEDIES.items() if words in reason.lower()), "")
        terminalreporter.line(f"{count:4}  {reason}" + (f"\n      run: {remedy}" if remedy else ""))


def pytest_collection_finish() -> None:
    """Leave the libraries and the tests themselves out of later garbage collections."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_cpu() -> Iterator[None]:
    """Use one thread and one process where a test asks for no more: the tests are on every core."""
    with pytest.MonkeyPatch.context() as patch:
        modules = ["data.parallel", "runtime"]
        if find_spec("onnx"):
            modules.append("export.onnx.localizer")
        for module in modules:
            patch.setattr(f"bakit.{module}.cpu_count", lambda: 1)
        yield


class Labelled(NamedTuple):
    """A labelled folder of phantoms."""

    folder: Path
    samples: list[Sample]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return what makes a folder once for all processes of a test run; tests leave it as it is."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    root = Path(os.environ.get(SHARED, base / "shared"))

    def make(name: str, write: Callable[[Path], object]) -> Path:
        (root / "unfinished").mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{name}.lock"):
            if not (root / name).exists():
                write(root / "unfinished" / name)
                (root / "unfinished" / name).rename(root / name)
        return root / name

    return make


@pytest.fixture(scope="session")
def labelled(shared: Callable[..., Path]) -> Labelled:
    """Return a data folder of small phantoms."""
    from bakit.data.labels import read_samples
    from bakit.phantoms import write_phantoms

    folder = shared("phantoms", lambda folder: write_phantoms(folder, SAMPLES, height=128))
    return Labelled(folder, read_samples(folder))


@pytest.fixture(scope="session")
def checkpoint(shared: Callable[..., Path], labelled: Labelled) -> Checkpoint:
    """Return a checkpoint on disk with all that training leaves in one, but random weights.

    Its batch norms know the statistics of the phantoms, so that its ages differ between images
    and stay near the mean.
    """
    from bakit.model.checkpoint import Checkpoint

    folder = shared("checkpoint", lambda folder: _write_checkpoint(folder, labelled))
    return Checkpoint.read(folder / "tiny.safetensors")


def _write_checkpoint(folder: Path, labelled: Labelled) -> None:
    import numpy as np
    import torch

    from bakit.calib.dataset import CalibrationSet
    from bakit.calib.ranges import ranges_on
    from bakit.hand.found import Place
    from bakit.hand.unrolled import initial_weights
    from bakit.model.checkpoint import SCHEMA_VERSION, Checkpoint, FloatReference, Header
    from bakit.model.regressor import Regressor
    from bakit.settings import Architecture, Preprocessing, UnrolledSettings
    from bakit.training.callbacks import module_weights
    from bakit.training.crops import load_part
    from bakit.training.scoring import predict_part

    localizer = UnrolledSettings(size=32, features=4, labels=4, steps=3)
    header = Header(SCHEMA_VERSION, Architecture(), 130.0, 40.0, Preprocessing(96), localizer)
    samples = labelled.samples[:8]
    part = load_part(samples, {s.id: Place(None) for s in samples}, header.preprocessing)
    torch.manual_seed(0)
    model = Regressor(header.architecture, header.mean_months, header.sd_months)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the plain average of all that it sees
    with torch.no_grad():
        model.train()(part.images.float() / 255, part.sexes)
        model.output.weight *= 5
    folder.mkdir()
    path = folder / "tiny.safetensors"
    # Read back before anything is measured: the weights are stored as float16.
    stored = Checkpoint(header, module_weights(model), initial_weights(localizer)).write(path)
    pixels = part.images.numpy()[:, 0]
    prepared = [image.astype(np.float32) / np.float32(255) for image in pixels]
    ranges = ranges_on(stored, CalibrationSet(samples, prepared))
    reference = FloatReference(pixels, part.sexes.numpy()[:, 0], predict_part(stored, part))
    final = stored.with_header(ranges=ranges)
    Checkpoint(final.header, final.regressor, final.localizer, reference).write(path)


@pytest.fixture(scope="session")
def checkpoint_for(
    checkpoint: Checkpoint, shared: Callable[..., Path]
) -> Callable[[str], Checkpoint]:
    """Return what returns the checkpoint that a target can run: the same, or with the student."""
    from bakit.hand.weights import get_localizer
    from bakit.model.checkpoint import Checkpoint
    from bakit.targets import targets

    def write(folder: Path) -> None:
        folder.mkdir()
        checkpoint.with_localizer(get_localizer("student")).write(folder / "tiny.safetensors")

    def find(name: str) -> Checkpoint:
        target = targets().get(name)
        if target is None or "unrolled" in target.localizers:
            return checkpoint
        return Checkpoint.read(shared("student", write) / "tiny.safetensors")

    return cache(find)


@pytest.fixture
def no_ranges(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """Return a checkpoint file without INT8 ranges."""
    return checkpoint.with_header(ranges=None).write(tmp_path / "no-ranges.safetensors").path


@pytest.fixture
def fake_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the target ``fake`` known for one test."""
    _register_fake(monkeypatch)


@pytest.fixture
def few_goldens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make exports of one test as those of ``exported``, with a few golden images."""
    monkeypatch.setattr("bakit.export.bundle.GOLDENS", GOLDENS)


@pytest.fixture(scope="session")
def exported(
    checkpoint_for: Callable[[str], Checkpoint], shared: Callable[..., Path]
) -> Callable[..., Bundle]:
    """Return what exports the checkpoint, once for each target and precision.

    ``like`` names another target, whose checkpoint is exported instead; ``whole`` adds the whole
    graph.
    """
    from bakit.bundle import Bundle
    from bakit.export import export_bundle
    from bakit.types import Precision

    def export(
        target: str, precision: str, like: str | None = None, *, whole: bool = False
    ) -> Bundle:
        checkpoint = checkpoint_for(like or target)
        name = f"{target}-{precision}-{checkpoint.sha256[:8]}{'-whole' * whole}"

        def write(out: Path) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("bakit.export.bundle.GOLDENS", GOLDENS)
                if target == "fake":
                    _register_fake(patch)
                    patch.setattr("bakit.export.bundle._write_golden", _fake_golden)
                export_bundle(checkpoint, target, Precision(precision), out, whole=whole)

        return Bundle.read(shared(name, write))

    return cache(export)


@pytest.fixture(scope="session")
def shipped(shared: Callable[..., Path]) -> Bundle:
    """Return the shipped checkpoint's bundle for ONNX Runtime, in FP32; that in INT8 is beside it.

    They are exported by README's command.
    """
    from bakit.bundle import Bundle

    def write(out: Path) -> None:
        words = ["export", "--target", "onnx", "--precision", "fp32,int8", "--out", str(out)]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
        assert "next: bakit bench" in result.stderr

    return Bundle.read(shared("shipped", write) / "bakit-rsna299-onnx-fp32")


@pytest.fixture
def fake_bundle(exported: Callable[..., Bundle], fake_target: None, tmp_path: Path) -> Path:
    """Return the folder of a bundle of the fake target, for one test to use or damage."""
    return Path(shutil.copytree(exported("fake", "fp32").root, tmp_path / "fake-bundle"))


@pytest.fixture(scope="session")
def find_python() -> Callable[[str], str | None]:
    """Return what finds an interpreter that runs; a version manager puts stand-ins on the path."""

    def find(version: str) -> str | None:
        found = [shutil.which(f"python{version}")]
        found += map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        for python in filter(None, found):
            if subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode == 0:
                return python
        return None

    return find


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return a headless Chromium: the system's, or playwright's own."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Return what runs a command that must fail with one line and write nothing.

    Commands run in ``tmp_path``; everything below it is compared before and after.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, status: int = 2) -> str:
        before = _tree(tmp_path)
        capfd.readouterr()
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert not isinstance(result.exception, Exception), result.exception
        assert result.exit_code == status
        assert result.stdout == ""
        assert capfd.readouterr().err == ""  # what a library writes past Python
        lines = result.stderr.splitlines()
        assert lines[0].startswith("bakit: ")
        assert len(lines) == 1
        assert _tree(tmp_path) == before
        return lines[0]

    return run


def _tree(folder: Path) -> dict[str, bytes | None]:
    """Return every file's bytes by name, hidden and temporary ones included."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def _register_fake(patch: pytest.MonkeyPatch) -> None:
    from bakit import targets
    from bakit.backends.fake import FAKE

    if FAKE not in targets._BUILT_IN:
        patch.setattr(targets, "_BUILT_IN", (*targets._BUILT_IN, FAKE))


def _fake_golden(checkpoint: Checkpoint, folder: Path) -> tuple[Golden, ...]:
    """Write one golden image with the fake's own answer: it stands for no float model."""
    import cv2

    from bakit.backends.fake import FakeSession
    from bakit.bundle import Golden
    from bakit.files import sha256
    from bakit.hand.prepare import OpenLocalizer, prepare
    from bakit.image.read import decode
    from bakit.phantoms import make_phantom

    header = checkpoint.header
    data = cv2.imencode(".png", make_phantom(1, height=128).image)[1].tobytes()
    (folder / "golden").mkdir()
    (folder / "golden/1.png").write_bytes(data)
    grey = decode(data)
    localizer = OpenLocalizer(FakeSession("localizer"), header.localizer)
    hand = prepare(grey, localizer, header.preprocessing)
    age = header.mean_months + float(hand.pixels.mean()) + 1.0
    return (Golden("golden/1.png", sha256(data), "M", age, age, *hand.found.place),)


@pytest.fixture(scope="session")
def doubled_cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a CUDA that needs no GPU, compiled for the session."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler for a stand-in of CUDA")
    folder = tmp_path_factory.mktemp("cuda")
    library = folder / "libcuda.so.1"
    source = Path(__file__).parent / "doubles" / "cuda.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return folder


@pytest.fixture
def tensorrt_double(
    doubled_cuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Return what makes a version of TensorRT importable, on a GPU of a compute capability."""
    pytest.importorskip("onnxruntime")

    def install(version: str = "10.3.0", sm: str = "87") -> None:
        doubles = Path(__file__).parent / "doubles"
        monkeypatch.setenv("TENSORRT_DOUBLE", version)
        monkeypatch.setenv("DOUBLE_SM", sm)
        monkeypatch.setenv("BAKIT_CUDART", str(doubled_cuda / "libcuda.so.1"))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(doubled_cuda))
        monkeypatch.setenv("PYTHONPATH", str(doubles))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.syspath_prepend(str(doubles))
        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)

    yield install
    sys.modules.pop("tensorrt", None)


@pytest.fixture(scope="module")
def made_up_figures():
    """Let reports pass whose figures do not follow from their rows (``test_gate_recount``)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bakit.bench.gate.recount.check_figures", lambda report: None)
        yield
