"""Whatever is wrong: one line on stderr that says what to do, exit status 2 or 3, no traces."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bakit.cli import main
from bakit.errors import BakitError, MissingBackendError
from bakit.phantoms import make_phantom
from bakit.targets import find_targets, targets

ROOT = Path(__file__).parents[1]


def encode(pixels, suffix=".png"):
    return cv2.imencode(suffix, pixels)[1].tobytes()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)


def test_errors_pass_between_processes():
    error = pickle.loads(pickle.dumps(MissingBackendError("reading DICOM", "dicom")))
    assert (type(error), str(error)[:13]) == (MissingBackendError, "reading DICOM")


# Images


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("absent.png", None, "cannot be read (No such file or directory)"),
        ("letter.png", b"Dear colleague", "not a supported image; use PNG, JPEG or DICOM"),
        ("cut.png", encode(NOISE)[:2000], "the PNG is damaged or incomplete; copy it again"),
        (
            "cut.jpg",
            encode(NOISE, ".jpg")[:2000],
            "the JPEG is damaged or incomplete; copy it again",
        ),
        ("empty.png", b"", "the file is empty"),
        (
            "black.png",
            encode(NOISE * 0),
            "blank, every pixel has the same grey; export the image again",
        ),
        ("small.png", encode(NOISE[:8]), "64x8 pixels; at least 16x16"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "localize"])
def test_an_unusable_image(refused, fake_bundle, tmp_path, command, name, data, reason):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    sex = ["--sex", "F"] if command == "predict" else []
    assert refused(command, name, *sex, "--bundle", fake_bundle) == f"bakit: {name}: {reason}"


def test_a_folder_without_images(refused, fake_bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    line = refused("predict", "empty", "--sex", "F", "--bundle", fake_bundle)
    assert line == "bakit: empty: no image in this folder; use PNG, JPEG or DICOM files"


@pytest.mark.parametrize("sex", [["--sex", "X"], ["--sex", "fm"], ["--sex", ""], []])
def test_a_wrong_or_missing_sex(refused, fake_bundle, labelled, sex):
    line = refused("predict", labelled.samples[0].path, *sex, "--bundle", fake_bundle)
    assert "--sex" in line


# Bundles that are not there


def test_no_bundle(refused):
    assert refused("predict", "hand.png", "--sex", "F") == (
        "bakit: no bundle in bakit-bundles/; write one with: bakit export --target onnx"
    )


def test_several_bundles(refused, fake_bundle, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(fake_bundle, tmp_path / "bakit-bundles" / name)
    line = refused("predict", "hand.png", "--sex", "F")
    assert line.endswith("bakit-bundles/ holds several bundles; choose one with --bundle: a, b")


def test_a_folder_of_bundles(refused, fake_bundle, tmp_path):
    shutil.copytree(fake_bundle, tmp_path / "all" / "a")
    line = refused("predict", "hand.png", "--sex", "F", "--bundle", "all")
    assert line == "bakit: all: holds bundles; name one: all/a"
    assert line == refused("verify", "all")


@pytest.mark.parametrize(
    "words",
    [["export", "run", "--target", "onnx"], ["evaluate", "data", "--checkpoint", "run"]],
)
def test_the_folder_of_a_run_is_no_checkpoint(refused, tmp_path, words):
    (tmp_path / "run").mkdir()
    line = refused(*words)
    assert line == "bakit: run: a folder; name a checkpoint in it, such as best.safetensors"


# Exports


def test_an_unknown_target(refused, checkpoint):
    line = refused("export", checkpoint.path, "--target", "onnx", "--target", "abacus")
    known = ", ".join(targets())
    assert line.startswith(f"bakit: --target: unknown target 'abacus'; use {known}; see: ")


def test_a_precision_that_the_target_lacks(refused, checkpoint):
    line = refused("export", checkpoint.path, "--target", "torch", "--int8", "--out", ".")
    assert line == "bakit: target 'torch' does not support int8; it supports fp32"


def test_int8_without_ranges(refused, no_ranges):
    line = refused("export", no_ranges, "--target", "onnx", "--int8", "--out", ".")
    assert "contains no INT8 ranges; pass --calibration DATA" in line


def test_calibration_without_int8(refused, checkpoint, labelled):
    line = refused("export", checkpoint.path, "--target", "onnx", "--calibration", labelled.folder)
    assert line == "bakit: --calibration needs --precision int8"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "no such ranges file (No such file or directory)"),
        (b"{}", "not a ranges file of bakit calibrate"),
        (b"\x89PNG", "not a ranges file of bakit calibrate"),
    ],
)
def test_a_file_that_holds_no_ranges(refused, checkpoint, tmp_path, data, reason):
    if data is not None:
        (tmp_path / "ranges.json").write_bytes(data)
    line = refused(
        "export", checkpoint.path, "--target", "onnx", "--int8", "--calibration", "ranges.json"
    )
    assert line.startswith(f"bakit: ranges.json: {reason}")


def test_ranges_of_another_model(refused, checkpoint, tmp_path):
    ranges = msgspec.structs.replace(checkpoint.header.ranges, tensors={"image": (0.0, 1.0)})
    path = tmp_path / "ranges.json"
    path.write_bytes(msgspec.json.encode(ranges))
    line = refused(
        "export", checkpoint.path, "--target=onnx", "--int8", "--calibration", path, "--out", "."
    )
    assert "the INT8 ranges are another model's: none for" in line
    assert line.endswith("; calibrate again")


def test_an_out_folder_of_something_else(refused, checkpoint, tmp_path):
    (tmp_path / "tiny-onnx-fp32").mkdir()
    (tmp_path / "tiny-onnx-fp32" / "thesis.tex").write_text("precious")
    line = refused("export", checkpoint.path, "--target", "onnx", "--out", ".")
    assert line == "bakit: tiny-onnx-fp32: not empty and not a bundle; use another --out"


def test_of_several_targets_all_are_exported_or_none(refused, checkpoint, tmp_path):
    (tmp_path / "tiny-torch-fp32").mkdir()
    (tmp_path / "tiny-torch-fp32" / "thesis.tex").write_text("precious")
    line = refused("export", checkpoint.path, "--target", "onnx,torch", "--out", ".")
    assert line == "bakit: tiny-torch-fp32: not empty and not a bundle; use another --out"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--steps", "5"], "--steps: the student localizer has no SGD steps"),
        (["--working-size", "32", "--features", "4"], "--working-size, --features: the student"),
        (
            ["--localizer-form", "loop"],
            "--localizer-form is for the unrolled localizer; the student",
        ),
        (["--localizer", "unrolled", "--continuity", "nan"], "--continuity: 'nan' is not a number"),
        (["--localizer", "otsu"], "no localizer 'otsu'; use student, unrolled"),
        (["--localizer", "lost.safetensors"], "lost.safetensors: the localizer cannot be read"),
    ],
)
def test_localizers_that_cannot_be_exported(refused, options, reason):
    assert reason in refused("export", "--target", "onnx", *options, "--out", ".")


def test_an_out_folder_that_is_a_file(refused, checkpoint, tmp_path):
    (tmp_path / "file").write_text("precious")
    line = refused("export", checkpoint.path, "--target", "onnx", "--out", "file")
    assert line.startswith("bakit: file")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BakitError("no luck")])
def test_an_export_that_fails_half_way(
    refused, checkpoint, fake_bundle, tmp_path, monkeypatch, error, old
):
    """Nothing is left behind, and a bundle that was there already is as it was."""

    def half(checkpoint, request, out):
        (out / "regressor.json").write_bytes(b"half")
        raise error

    monkeypatch.setattr("bakit.backends.fake.export", half)
    if old:
        fake_bundle.rename(tmp_path / "tiny-fake-fp32")
    line = refused("export", checkpoint.path, "--target", "fake", "--out", ".")
    full = "bakit: tiny-fake-fp32: the disk or quota is full: "
    assert line.startswith(full) or line == "bakit: no luck"


def test_an_export_that_is_interrupted(checkpoint, fake_target, tmp_path, monkeypatch):
    def half(checkpoint, request, out):
        (out / "regressor.json").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("bakit.backends.fake.export", half)
    arguments = ["export", str(checkpoint.path), "--target", "fake", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stderr) == (130, "bakit: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_not_the_float_model(refused, checkpoint, fake_target):
    """The fake target says the mean age to every image: no bundle may come of that."""
    line = refused("export", checkpoint.path, "--target", "fake", "--out", ".", status=1)
    assert line.startswith("bakit: the exported fake fp32 model predicts ")
    assert line.endswith("; nothing was written")


# Labelled folders


@pytest.fixture
def bad_labels(labelled, tmp_path):
    folder = tmp_path / "bad"
    shutil.copytree(labelled.folder, folder)
    table = folder / "labels.csv"
    table.write_text(table.read_text() + "999,100,True,0,0,1,1\n")
    return folder


def test_labels_that_cannot_be_used_for_calibration(refused, checkpoint, bad_labels):
    line = refused("calibrate", bad_labels, "--checkpoint", checkpoint.path, "--out", "ranges.json")
    assert "labels.csv:14: id '999' has no image" in line


def test_labels_that_cannot_be_used_for_training(refused, bad_labels):
    line = refused("train", bad_labels, "--out", "run", "--pretrained", "none")
    assert "labels.csv:14: id '999' has no image" in line


def test_a_run_in_the_data_folder(refused, labelled, tmp_path):
    shutil.copytree(labelled.folder, tmp_path / "data")
    for command in ("train", "ablate"):
        line = refused(command, "data", "--out", "./data")
        assert line == "bakit: --out: data is the data folder; name another one"


@pytest.mark.parametrize("command", ["train", "ablate"])
def test_folders_are_checked_before_libraries_are_imported(
    refused, labelled, tmp_path, monkeypatch, command
):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "file").touch()
    assert refused(command, "gone", "--out", "run") == "bakit: gone: no such folder"
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "labels.csv").write_text("id,boneage,male\n1,90,True\n")
    assert "labels.csv:2: id '1' has no image" in refused(command, "data", "--out", "run")
    line = refused(command, labelled.folder, "--out", "file/run")
    assert line.startswith("bakit: --out: ")
    assert f"file: not a writable folder; see: bakit {command} -h" in line


@pytest.mark.parametrize("data", ["gone", "."])
def test_bench_refuses_data_before_it_looks_at_bundles(refused, fake_bundle, tmp_path, data):
    shutil.copytree(fake_bundle, tmp_path / "bakit-bundles" / "a")  # its target is not known here
    assert refused("bench", "--data", data).startswith(f"bakit: {data}: n")


def test_too_few_images_to_train_on(refused, labelled):
    line = refused("train", labelled.folder, "--out", "run", "--pretrained", "none", "-q")
    assert "9 training images are fewer than a batch of 10" in line


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (["--image-size", "97"], "image size 97 is not possible: use a multiple of 32"),
        (["--epochs", "0"], "--epochs"),
        (["--recipe", "grandma"], "grandma"),
        (["--head-layers", "9"], "--head-layers"),
    ],
)
def test_a_training_option_that_is_not_possible(refused, labelled, option, reason):
    assert reason in refused("train", labelled.folder, "--out", "run", *option)


def test_calibration_wants_the_folder_of_the_training(checkpoint, labelled, refused):
    """Elsewhere training images cannot be told from test images."""
    line = refused("calibrate", labelled.folder, "--checkpoint", checkpoint.path)
    assert "use --all-images" in line


# Libraries that are not installed


@pytest.fixture(scope="module")
def bare(checkpoint, exported, labelled, tmp_path_factory):
    """Run commands as a base install would, and return exit status and stderr by command."""
    bundle, out = exported("onnx", "fp32").root, tmp_path_factory.mktemp("bare")
    image = labelled.samples[0].path
    commands = {
        "predict": [image, "--sex", "F", "--bundle", bundle],
        "localize": [image, "--bundle", bundle],
        "verify": [bundle],
        "export": [checkpoint.path, "--target", "onnx", "--out", out / "bundles"],
        "calibrate": [
            labelled.folder,
            "--checkpoint",
            checkpoint.path,
            "--out",
            out / "ranges.json",
        ],
        "train": [labelled.folder, "--out", out / "run"],
        "inspect": [checkpoint.path],
        "demo": ["--out", out / "demo"],
        "doctor": [],
    }
    arguments = [[name, *map(str, rest)] for name, rest in commands.items()]
    absent = [
        "coremltools",
        "onnx",
        "onnxruntime",
        "openvino",
        "safetensors",
        "torch",
        "torchvision",
    ]
    absent += ["lightning"]
    code = (
        "import json, sys\n"
        f"sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from click.testing import CliRunner\n"
        "from bakit.cli import main\n"
        "runner = CliRunner()\n"
        f"results = [runner.invoke(main, arguments) for arguments in {arguments!r}]\n"
        "print(json.dumps([(r.exit_code, r.stdout, r.stderr, repr(r.exception)) for r in results]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert list(out.iterdir()) == []
    return dict(zip(commands, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("predict", "ort"),
        ("localize", "ort"),
        ("verify", "ort"),
        ("export", "export"),
        ("calibrate", "export"),
        ("train", "train"),
        ("inspect", "export"),
        ("demo", "export"),
    ],
)
def test_a_missing_library_names_its_extra(bare, command, extra):
    status, out, line, exception = bare[command]
    assert (status, out, exception) == (3, "", "SystemExit(3)")
    assert line.startswith("bakit: ")
    assert line.endswith(f" needs: pip install 'bakit-edge[{extra}]'\n")
    assert line.count("\n") == 1


def test_doctor_lists_what_is_missing(bare):
    status, out, line, _ = bare["doctor"]
    assert (status, line) == (3, "next: the commands above\n")
    assert "onnx, run: target 'onnx' needs: pip install 'bakit-edge[ort]'\n" in out
    assert "onnx, export: target 'onnx' needs: pip install 'bakit-edge[export]'\n" in out
    assert "openvino, run: target 'openvino' needs: pip install 'bakit-edge[openvino]'\n" in out
    need = "target 'openvino' needs: pip install 'bakit-edge[export,openvino]'"
    assert f"openvino, export: {need}\n" in out
    assert "torch, run: target 'torch' needs: pip install 'bakit-edge[train]'\n" in out


def test_a_bug_in_a_backend_is_not_called_a_missing_library(fake_target):
    from dataclasses import replace

    from bakit.backends.fake import FAKE

    with pytest.raises(ModuleNotFoundError, match=r"bakit\.backends\.gone"):
        replace(FAKE, backend="bakit.backends.gone").load_backend()
    with pytest.raises(MissingBackendError, match=r"bakit-edge\[ort\]"):
        replace(FAKE, backend="somebodys_library.gone").load_backend()


# Plug-ins


def test_a_plug_in_that_fails_is_named_and_does_no_harm(monkeypatch):
    points = EntryPoints(
        EntryPoint(name, value, "bakit.targets")
        for name, value in [
            ("good", "bakit.backends.fake:FAKE"),
            ("broken", "somebodys_library:TARGET"),
            ("wrong", "bakit:__version__"),
        ]
    )
    own, _ = find_targets()
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.select(group=group))
    found, failed = find_targets()
    assert set(found) == {"fake", *own}
    assert failed == {
        "broken": "ModuleNotFoundError: No module named 'somebodys_library'",
        "wrong": "bakit:__version__ is a str, not a Target",
    }
    result = CliRunner().invoke(main, ["targets"])
    assert result.exit_code == 0
    assert "fake: no model at all, for tests; fp16, fp32, int8, int8-weights\n" in result.stdout
    assert "plug-in 'broken' failed to load: ModuleNotFoundError" in result.stderr


def test_targets_prints_json():
    result = CliRunner().invoke(main, ["targets", "--json"])
    rows = {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert rows["onnx"]["precisions"] == ["fp32", "int8"]
    assert rows["torch"]["extra"] == "train"


# The real program


def test_the_program_itself_prints_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bakit", "inspect", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"bakit: {tmp_path}: not a bundle: manifest.json is missing; bakit export writes one\n"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--box-rule", "literal"], "--box-rule: the student localizer has no SGD steps; use"),
        (["--bundle", "b", "--steps", "3"], "--bundle has a localizer with its own settings"),
        (["--bundle", "b", "--method", "student"], "--bundle has a localizer with its own"),
    ],
)
def test_settings_that_a_localizer_does_not_have(refused, options, reason, tmp_path):
    (tmp_path / "hand.png").write_bytes(make_phantom(1, height=96).image)
    assert reason in refused("localize", "hand.png", *options)
