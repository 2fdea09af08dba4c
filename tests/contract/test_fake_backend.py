"""The fake target is shipped for others' tests: its answers follow its inputs."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from bakit.backends.fake import FAKE, FakeSession, export, open_session
from bakit.bundle import Artifact, Bundle
from bakit.errors import BundleError
from bakit.files import sha256
from bakit.model.checkpoint import Checkpoint
from bakit.sealed import SealedFiles
from bakit.session import localizer_specs
from bakit.settings import StudentSettings
from bakit.targets import ExportRequest, get_target, targets
from bakit.types import Precision


def files(folder, name):
    return SealedFiles(folder, {name: sha256((folder / name).read_bytes())})


def test_it_is_not_among_the_targets():
    assert FAKE.name not in targets()


def test_it_is_found_once_it_is_registered(fake_target):
    assert get_target("fake") is FAKE


def test_it_loads_itself():
    assert FAKE.load_backend() is FAKE.load_exporter()


@pytest.mark.parametrize("male", [0.0, 1.0])
@pytest.mark.parametrize("grey", [0.0, 0.5])
def test_its_age_is_a_sum(male, grey):
    feeds = {
        "image": np.full((1, 1, 8, 8), grey, np.float32),
        "sex": np.array([[male]], np.float32),
    }
    (age,) = FakeSession("regressor", 90.0).run(feeds)["age_months"].ravel()
    assert age == 90.0 + grey + male


def test_its_localizer_labels_what_is_bright():
    image = np.zeros((1, 1, 4, 4), np.float32)
    image[0, 0, 1:3, 1:3] = 1
    labels = FakeSession("localizer").run({"image": image})["labels"]
    assert labels.dtype == np.int32
    assert np.array_equal(labels, image[0, 0].astype(np.int32))


def test_where_a_student_is_expected_it_answers_like_one(checkpoint, tmp_path):
    student = StudentSettings(32, (2, 3))
    header = msgspec.structs.replace(checkpoint.header, localizer=student)
    request = ExportRequest(Precision.FP32, "loop", None)
    export(Checkpoint(header, {}, {}), request, tmp_path)
    image = np.zeros((1, 1, 32, 32), np.float32)
    image[0, 0, 1:3, 1:3] = 1
    artifact = Artifact("localizer", "localizer.json", "", *localizer_specs(student))
    hand = open_session(files(tmp_path, "localizer.json"), artifact, None).run({"image": image})[
        "hand"
    ]
    assert hand.dtype == np.float32
    assert np.array_equal(hand, image[0, 0])


def test_a_session_remembers_that_it_was_closed():
    with FakeSession("regressor") as session:
        assert not session.closed
    assert session.closed


@pytest.mark.parametrize("precision", Precision)
def test_its_files_say_the_mean_age(checkpoint, tmp_path, precision):
    artifacts = export(checkpoint, ExportRequest(precision, "loop", None), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["localizer.json", "regressor.json"]
    for artifact in artifacts:
        path = tmp_path / artifact.path
        assert json.loads(path.read_text()) == {"age_months": checkpoint.header.mean_months}
        assert open_session(files(tmp_path, artifact.path), artifact, None).role == artifact.role


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"age_months": "old"}'])
def test_a_file_of_something_else_is_refused(fake_bundle, tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    artifact = Bundle.read(fake_bundle).artifact("regressor")
    artifact = msgspec.structs.replace(artifact, path="other.json")
    with pytest.raises(BundleError, match=r"other\.json: not a model of the fake target"):
        open_session(files(tmp_path, "other.json"), artifact, None)
