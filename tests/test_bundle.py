"""The bundle's seal: a changed file, a foreign manifest or a path outside is refused."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from bakit.bundle import Bundle, encode_manifest, seal
from bakit.cli import main
from bakit.errors import BundleError
from bakit.files import sha256
from bakit.model.checkpoint import SHIPPED
from bakit.sealed import seal_files
from bakit.settings import UnrolledSettings
from bakit.targets import targets


@pytest.fixture
def edit(fake_bundle):
    """What changes fields of the manifest and returns the bundle's folder."""
    path = fake_bundle / "manifest.json"

    def change(**fields):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        seal(fake_bundle)
        return fake_bundle

    change.manifest = json.loads(path.read_text())
    return change


def test_a_bundle_is_read_as_it_was_written(fake_bundle):
    bundle = Bundle.read(fake_bundle)
    data = (fake_bundle / "manifest.json").read_bytes()
    assert encode_manifest(bundle.manifest) == data
    assert bundle.sha256 == sha256(data)
    assert bundle.name == "fake-bundle"
    models = [fake_bundle / "localizer.json", fake_bundle / "regressor.json"]
    assert bundle.size_bytes == sum(path.stat().st_size for path in models)
    assert bundle.artifact("regressor").path == "regressor.json"


def test_a_bundle_may_be_moved(fake_bundle, tmp_path):
    digest = Bundle.read(fake_bundle).sha256
    moved = fake_bundle.rename(tmp_path / "elsewhere")
    assert Bundle.read(moved).sha256 == digest


@pytest.mark.parametrize("name", ["regressor.json", "localizer.json", "golden/1.png"])
def test_one_changed_byte_is_refused(refused, fake_bundle, name):
    data = bytearray((fake_bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (fake_bundle / name).write_bytes(data)
    line = refused("inspect", fake_bundle)
    assert f"{name}: changed since it was exported" in line


@pytest.mark.parametrize("name", ["regressor.json", "golden/1.png"])
def test_a_missing_file_is_refused(refused, fake_bundle, name):
    (fake_bundle / name).unlink()
    line = refused("inspect", fake_bundle)
    assert f"{name}: named in the manifest but cannot be read (No such file" in line


def test_a_file_that_the_manifest_does_not_name_is_no_harm(fake_bundle):
    digest = Bundle.read(fake_bundle).sha256
    (fake_bundle / "notes.txt").write_text("for the nurse")
    assert Bundle.read(fake_bundle).sha256 == digest


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_folder_without_manifest_is_no_bundle(refused, tmp_path, command):
    (tmp_path / "empty").mkdir()
    assert "empty: not a bundle: manifest.json is missing" in refused(command, "empty")


def test_a_manifest_of_version_1_has_the_unrolled_localizer(edit):
    """Version 1 knew one localizer and did not name it."""
    localizer = {name: v for name, v in edit.manifest["localizer"].items() if name != "method"}
    manifest = Bundle.read(edit(schema_version=1, localizer=localizer)).manifest
    second = edit(**edit.manifest | {"schema_version": 2})
    assert encode_manifest(manifest) == encode_manifest(Bundle.read(second).manifest)
    assert manifest.localizer == UnrolledSettings(**localizer)


def test_an_older_manifest_has_a_recipe(edit):
    assert Bundle.read(edit(int8_recipe={"equalize": True})).manifest.float_layers is None


def test_a_newer_manifest_says_what_to_do(refused, edit):
    line = refused("inspect", edit(schema_version=99, mystery=1))
    assert "schema version 99 is newer than this bakit's 4; upgrade with pip" in line


@pytest.mark.parametrize(
    "fields",
    [
        {"mystery": 1},
        {"precision": "fp64"},
        {"artifacts": [{"role": "regressor"}]},
        {"output_unit": "years"},
        {"tolerance_months": None},
        {"preprocessing": {"image_size": 97}},
        {"localizer": {"steps": 0}},
    ],
)
def test_a_manifest_that_is_not_understood_is_refused(refused, edit, fields):
    line = refused("inspect", edit(**fields))
    assert "manifest.json: not a manifest of this version" in line
    assert next(iter(fields)) in line


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"\xff\xfe", b'{"schema_version": 1'])
def test_a_manifest_that_is_no_document_is_refused(refused, fake_bundle, data):
    (fake_bundle / "manifest.json").write_bytes(data)
    assert "not a manifest of this version" in refused("inspect", fake_bundle)


def escapes(edit, tmp_path):
    """Put a file beside the bundle and return names that lead there, all with its digest."""
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    bundle = edit()
    (bundle / "link").symlink_to(outside)
    (bundle / "door").symlink_to(tmp_path, target_is_directory=True)
    return ["../secret", "golden/../../secret", str(outside)], ["link", "door/secret"]


@pytest.mark.parametrize("kind", ["artifacts", "golden"])
def test_a_path_that_leaves_the_bundle_is_refused(refused, edit, tmp_path, kind):
    outside, links = escapes(edit, tmp_path)
    for name in outside + links:
        changed = [{**item} for item in edit.manifest[kind]]
        changed[0] |= {"path": name, "sha256": sha256(b"secret")}
        line = refused("inspect", edit(**{kind: changed}))
        assert f"the manifest names {name!r}" in line
        why = "which is a link; copy the file itself" if name in links else "paths in a bundle are"
        assert why in line


def test_a_link_within_the_bundle_is_refused(refused, fake_bundle):
    (fake_bundle / "golden").rename(fake_bundle / "elsewhere")
    (fake_bundle / "golden").symlink_to("elsewhere", target_is_directory=True)
    assert "which is a link; copy the file itself" in refused("inspect", fake_bundle)


def test_a_bundle_may_be_reached_by_a_link(fake_bundle, tmp_path):
    (tmp_path / "latest").symlink_to(fake_bundle, target_is_directory=True)
    assert Bundle.read(tmp_path / "latest").sha256 == Bundle.read(fake_bundle).sha256


def test_files_and_manifests_are_bounded(refused, fake_bundle, monkeypatch):
    monkeypatch.setattr("bakit.sealed.MAX_FILE_BYTES", 1 << 20)
    with (fake_bundle / "regressor.json").open("wb") as file:
        file.truncate(1 << 22)
    assert "regressor.json: more than 1 MiB; not a file" in refused("inspect", fake_bundle)
    monkeypatch.setattr("bakit.bundle.MAX_MANIFEST_BYTES", 1 << 20)
    with (fake_bundle / "manifest.json").open("ab") as file:
        file.truncate(1 << 22)
    assert (
        "manifest.json: cannot be read (larger than 1 MiB, the limit); not a manifest"
        in refused("inspect", fake_bundle)
    )


def test_the_seal_is_what_sha256sum_reads(fake_bundle):
    digest = Bundle.read(fake_bundle).sha256
    text = (fake_bundle / "manifest.json.sha256").read_text()
    assert text == f"{digest}  manifest.json\n"


def test_every_flipped_byte_is_refused(fake_bundle):
    """A sample of each file's positions; tests/benchmarks/byte_flips.py takes thousands."""
    generator = random.Random(0)
    for path in sorted(path for path in fake_bundle.rglob("*") if path.is_file()):
        data = path.read_bytes()
        for position in generator.sample(range(len(data)), min(40, len(data))):
            changed = bytearray(data)
            changed[position] ^= 1 << generator.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(BundleError):
                Bundle.read(fake_bundle)
        path.write_bytes(data)
    Bundle.read(fake_bundle)


@given(name=st.text(max_size=12))
@example(name="\0")
@example(name="x" * 5000)
def test_any_path_ends_in_a_bundle_s_error(exported, name):
    """No name is a file of this digest, and none may raise anything else."""
    root = exported("fake", "fp32").root
    with pytest.raises(BundleError):
        seal_files(root, [(name, sha256(b"secret"))]).check()


@pytest.mark.parametrize("role", ["localizer", "regressor"])
def test_a_bundle_that_lacks_a_model_is_refused(refused, edit, labelled, role):
    others = [item for item in edit.manifest["artifacts"] if item["role"] != role]
    bundle = edit(artifacts=others)
    line = refused("predict", labelled.samples[0].path, "--sex", "F", "--bundle", bundle)
    assert line.endswith(f"the bundle has no {role}")


def test_a_bundle_of_an_unknown_target_is_refused(refused, edit, labelled):
    line = refused("verify", edit(target="abacus"))
    assert line.endswith(f"unknown target 'abacus'; use {', '.join(sorted(targets()))}")


def test_a_model_file_of_something_else_is_refused(refused, edit, exported):
    """Sealed, but no ONNX model: the backend says so."""
    root = edit()
    shutil.copytree(exported("onnx", "fp32").root, root, dirs_exist_ok=True)
    (root / "regressor.onnx").write_bytes(b"not a model")
    manifest = json.loads((root / "manifest.json").read_text())
    for item in manifest["artifacts"]:
        if item["role"] == "regressor":
            item["sha256"] = sha256(b"not a model")
    line = refused("verify", edit(artifacts=manifest["artifacts"]))
    assert "regressor.onnx: ONNX Runtime" in line
    assert "cannot load it" in line


def test_verify_passes_on_what_was_exported(fake_bundle):
    result = CliRunner().invoke(main, ["verify", str(fake_bundle)])
    assert (result.exit_code, result.stderr.partition("next: ")[0]) == (0, "")
    assert result.stdout.startswith("ok  golden/1.png: ")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"bundle_months": 100.0}, "expected 100.00"), ({"box": [0, 0, 20, 20]}, "box overlap 0.")],
)
def test_verify_fails_when_an_answer_is_another(edit, change, reason):
    bundle = edit(golden=[edit.manifest["golden"][0] | change])
    result = CliRunner().invoke(main, ["verify", str(bundle)])
    assert (result.exit_code, result.stderr.partition("next: ")[0]) == (1, "")
    assert result.stdout.startswith("FAILED  golden/1.png: ")
    assert reason in result.stdout


def test_verify_prints_json(fake_bundle):
    result = CliRunner().invoke(main, ["verify", str(fake_bundle), "--json"])
    (check,) = (json.loads(line) for line in result.stdout.splitlines())
    assert set(check) == {
        "path",
        "float_months",
        "expected_months",
        "age_months",
        "box_iou",
        "whole_months",
        "provider",
        "passed",
    }
    assert check["passed"] is True
    assert check["box_iou"] == 1.0


def test_inspect_prints_the_manifest(fake_bundle):
    result = CliRunner().invoke(main, ["inspect", str(fake_bundle)])
    assert result.stdout == (fake_bundle / "manifest.json").read_text()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_manifest_without_its_seal_is_refused_whatever_its_version(refused, edit, version):
    root = edit(schema_version=version)
    (root / "manifest.json.sha256").unlink()
    assert "manifest.json.sha256 is missing" in refused("inspect", root)


def test_inspect_prints_the_number_of_ids_instead_of_their_hashes():
    result = CliRunner().invoke(main, ["inspect", str(SHIPPED)])
    document = json.loads(result.stdout)
    hashes = document["training"]["split"]["id_hashes"]
    assert hashes["train"] == "hashes of 8,096 ids"
    assert document["ranges"]["id_hashes"] == "hashes of 256 ids"
