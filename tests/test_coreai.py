"""Core AI: who wrote a folder, and what its process answers when it cannot be opened."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("coreai_onnx", reason="coreai-core and coreai-onnx are not installed")

from bakit.backends.coreai import ABOUT, FILES, OLDEST, open_session
from bakit.bundle import Artifact
from bakit.errors import BundleError
from bakit.files import sha256
from bakit.sealed import SealedFiles


@pytest.fixture(scope="module")
def exported_folder(exported):
    return exported("coreai", "fp32").root


@pytest.fixture
def folder(exported_folder, tmp_path):
    return shutil.copytree(exported_folder, tmp_path / "bundle")


def test_another_process_writes_the_same_bytes(exported_folder, checkpoint_for, tmp_path):
    """Core AI's own names of weights differ between processes, not between two exports of one."""
    code = (
        "import sys; from pathlib import Path; from bakit.export.coreai import export; "
        "from bakit.model.checkpoint import Checkpoint; from bakit.targets import ExportRequest; "
        "from bakit.types import Precision; "
        "export(Checkpoint.read(Path(sys.argv[1])), "
        "ExportRequest(Precision.FP32, 'loop', None), Path(sys.argv[2]))"
    )
    checkpoint = checkpoint_for("coreai").path
    subprocess.run([sys.executable, "-c", code, checkpoint, tmp_path], check=True)
    files = [path for path in exported_folder.glob("*.aimodel/*") if path.is_file()]
    assert len(files) == 2 * len(FILES)
    for path in files:
        assert path.read_bytes() == (tmp_path / path.relative_to(exported_folder)).read_bytes()
        assert b"resource_" not in path.read_bytes()


def test_the_model_describes_itself(exported_folder, checkpoint_for):
    about = json.loads((exported_folder / "regressor.aimodel" / ABOUT).read_bytes())
    checkpoint = checkpoint_for("coreai")
    assert about["license"]
    assert about["creatorDefinedMetadata"]["checkpoint_sha256"] == checkpoint.sha256
    assert "months" in about["creatorDefinedMetadata"]["output.age_months"]


def opened(folder):
    names = [
        path.relative_to(folder).as_posix() for path in (folder / "localizer.aimodel").iterdir()
    ]
    digests = {name: sha256((folder / name).read_bytes()) for name in names}
    return open_session(
        SealedFiles(folder, digests),
        Artifact("localizer", "localizer.aimodel/main.mlirb", "", (), ()),
        1,
    )


@pytest.mark.parametrize(
    "producer", ["coreai-core 1.0.0b2", "coreai-core 0.9.9", "coreai-core", "", None]
)
def test_an_older_producer_is_refused(folder, producer):
    about = folder / "localizer.aimodel" / ABOUT
    document = json.loads(about.read_text())
    assert document["producer"].startswith("coreai-core ")
    document["producer"] = producer
    about.write_text(json.dumps(document))
    with pytest.raises(BundleError, match=f"not by coreai-core {OLDEST} or later; export"):
        opened(folder)


def test_a_damaged_model_is_refused_in_one_line(folder):
    (folder / "localizer.aimodel/main.mlirb").write_bytes(b"no model")
    with pytest.raises(
        BundleError, match=r"localizer\.aimodel: Core AI cannot load it: .+"
    ) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


def test_a_session_ends_its_process(folder):
    session = opened(folder)
    session.close()
    assert session._process.returncode == 0
