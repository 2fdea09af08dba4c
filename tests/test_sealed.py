"""Attacks on bundles: each is one clear error, and no byte outside of the seal is loaded."""

from __future__ import annotations

import json
import os
import shutil
import threading
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bakit.backends import fake
from bakit.backends.fake import FakeSession
from bakit.bundle import Bundle, seal
from bakit.cli import main
from bakit.errors import BakitError, BundleError, InputError, VerificationError
from bakit.files import sha256
from bakit.runtime import Runtime
from bakit.sealed import SealedFiles, refuse_external_data, seal_files
from bakit.settings import Preprocessing
from bakit.verify import check_golden
from tests.graphs import F, model, node

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("bakit.backends.ort", exc_type=ImportError)

LARGE = np.arange(40 * 40, dtype=np.float32).reshape(40, 40) % 7
SMALL = model(
    [node("MatMul", ["x", "w"], "y")], [("x", F, (1, 40))], [("y", F, (1, 40))], {"w": LARGE}
).SerializeToString()


def change(root, edit):
    """Edit a bundle's manifest in place, and seal it again."""
    path = root / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))
    seal(root)
    return root


def model_of(manifest, role="regressor"):
    return next(item for item in manifest["artifacts"] if item["role"] == role)


def put(root, name, data):
    """Write a file and its digest, wherever the manifest lists it."""
    (root / name).write_bytes(data)

    def edit(manifest):
        for item in manifest["artifacts"]:
            for file in (item, *item.get("companions", ())):
                if file["path"] == name:
                    file["sha256"] = sha256(data)

    return change(root, edit)


@pytest.fixture
def copied(exported, tmp_path):
    """Return what copies an exported bundle for one test to damage."""

    def copy(target, precision="fp32"):
        return shutil.copytree(exported(target, precision).root, tmp_path / f"{target}-bundle")

    return copy


# Paths

NOT_CANONICAL = [
    "",
    ".",
    "..",
    "./regressor.json",
    "././regressor.json",
    "golden/../regressor.json",
    "golden/./1.png",
    "../regressor.json",
    "golden//1.png",
    "/etc/hostname",
    "//host/share/file",
    "golden\\1.png",
    "..\\regressor.json",
    "C:regressor.json",
    "C:\\regressor.json",
    "regressor.json:stream",
    "regressor.json\0",
    "regressor.json\n",
    "regressor.json.",
    "regressor.json ",
    ".hidden",
    "golden/",
    "r\u00e9gressor.json",
    "re\u0301gressor.json",
    "\uff0e\uff0e/regressor.json",
    "regressor\u200b.json",
    "\u202enosj.rosserger",
    "NUL",
    "golden/con.png",
    "COM1.json",
    "x" * 300,
    "a/" * 150 + "b",
]


@pytest.mark.parametrize("name", NOT_CANONICAL)
def test_a_path_that_is_not_canonical_is_refused(fake_bundle, name):
    def edit(manifest):
        model_of(manifest)["path"] = name

    with pytest.raises(BundleError, match="paths in a bundle are relative") as caught:
        Bundle.read(change(fake_bundle, edit))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["companion", "golden"])
def test_companions_and_golden_images_have_canonical_paths_too(fake_bundle, place):
    data = (fake_bundle / "regressor.json").read_bytes()
    entry = {"path": "././regressor.json", "sha256": sha256(data)}

    def edit(manifest):
        if place == "companion":
            model_of(manifest)["companions"] = [entry]
        else:
            manifest["golden"][0] |= entry

    with pytest.raises(BundleError, match="paths in a bundle are relative"):
        Bundle.read(change(fake_bundle, edit))


@pytest.mark.parametrize(
    "second", [("regressor.json", "0" * 64), ("REGRESSOR.json", None), ("regressor.JSON", None)]
)
def test_two_entries_that_contradict_each_other_are_refused(fake_bundle, second):
    name, digest = second
    digest = digest or sha256((fake_bundle / "regressor.json").read_bytes())

    def edit(manifest):
        model_of(manifest)["companions"] = [{"path": name, "sha256": digest}]

    with pytest.raises(BundleError, match="twice, and the entries differ"):
        Bundle.read(change(fake_bundle, edit))


def test_a_file_that_is_listed_often_is_hashed_once(fake_bundle, monkeypatch):
    read = []
    blocks = SealedFiles._blocks

    def counted(self, name, *sizes):
        read.append(name)
        return blocks(self, name, *sizes)

    monkeypatch.setattr(SealedFiles, "_blocks", counted)
    entry = {"path": "regressor.json"}
    entry["sha256"] = sha256((fake_bundle / "regressor.json").read_bytes())

    def edit(manifest):
        for item in manifest["artifacts"]:
            item["companions"] = [entry] * 200

    for opened in (Bundle.read, Runtime):
        read.clear()
        opened(change(fake_bundle, edit))
        assert sorted(read) == ["golden/1.png", "localizer.json", "regressor.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["regressor.json", "manifest.json", "manifest.json.sha256"])
def test_a_pipe_in_place_of_a_file_does_not_block(fake_bundle, name):
    (fake_bundle / name).unlink(missing_ok=True)
    os.mkfifo(fake_bundle / name)
    with pytest.raises(BundleError, match="not a regular file"):
        Bundle.read(fake_bundle)


@pytest.mark.parametrize("opened", [Bundle.read, Runtime])
def test_all_files_together_are_bounded(fake_bundle, monkeypatch, opened):
    sizes = [(fake_bundle / name).stat().st_size for name in Bundle.read(fake_bundle).files.digests]
    monkeypatch.setattr("bakit.sealed.MAX_TOTAL_BYTES", sum(sizes) - 1)
    with pytest.raises(BundleError, match="not a file of a bundle"):
        opened(fake_bundle)


@pytest.mark.parametrize("name", ["regressor.json", "golden/1.png"])
def test_an_opened_bundle_s_files_are_all_checked(fake_bundle, name):
    """Those that a library opens itself before it does, and those that nothing opens."""
    (fake_bundle / name).write_bytes(b"{}")
    bundle = Bundle.read(fake_bundle, check_files=False)
    for opened in (lambda: bundle.files.path(name), lambda: Runtime(fake_bundle)):
        with pytest.raises(BundleError, match="changed since it was exported"):
            opened()


def test_a_file_changed_after_the_bundle_was_read_is_not_loaded(copied):
    for target, name in (("fake", "regressor.json"), ("onnx", "regressor.onnx")):
        root = copied(target)
        bundle = Bundle.read(root)
        (root / name).write_bytes((root / name).read_bytes() + b" ")
        backend = fake if target == "fake" else None
        with pytest.raises(BundleError, match="changed since it was exported"):
            Runtime(bundle, backend=backend)


def test_a_backend_gets_no_file_that_its_model_does_not_list(fake_bundle):
    bundle = Bundle.read(fake_bundle)
    files = bundle.files_of(bundle.artifact("regressor"))
    assert files.read("regressor.json")
    for name in ("localizer.json", "golden/1.png", "../fake-bundle/regressor.json"):
        for opened in (files.read, files.path):
            with pytest.raises(BundleError, match="is not sealed"):
                opened(name)


# What each library could load beside


def test_openvino_loads_the_sealed_bytes_and_no_file_beside_them(copied, tmp_path):
    """Weights two folders up, which a path derived from '././regressor.xml' would reach."""
    pytest.importorskip("bakit.backends.openvino", exc_type=ImportError)
    root = copied("openvino")
    (tmp_path / "regressor.bin").write_bytes((root / "regressor.bin").read_bytes())

    def edit(manifest):
        model_of(manifest)["path"] = "././regressor.xml"

    with pytest.raises(BundleError, match="paths in a bundle are relative"):
        Runtime(change(root, edit))


def test_openvino_reads_no_other_format_than_its_own(copied):
    """ONNX has external data, which OpenVINO would read from the working folder."""
    pytest.importorskip("bakit.backends.openvino", exc_type=ImportError)
    root = copied("openvino")
    put(root, "regressor.xml", (copied("onnx") / "regressor.onnx").read_bytes())
    with pytest.raises(BundleError, match="it is not XML"):
        Runtime(root)


@pytest.mark.parametrize("place", ["initializer", "attribute", "long form"])
@pytest.mark.parametrize("target", ["onnx", "tensorrt"])
def test_onnx_with_external_data_is_refused(copied, tmp_path, monkeypatch, target, place):
    """ONNX Runtime reads it from the working folder if it is given bytes."""
    root = copied(target)
    name = "regressor.onnx"
    model = onnx.load(root / name)
    if place == "attribute":
        value = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "v")
        node = onnx.helper.make_node("Constant", [], ["unused"], value=value)
        model.graph.node.insert(0, node)
        tensor = model.graph.node[0].attribute[0].t
    else:
        tensor = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    (tmp_path / "outside.bin").write_bytes(tensor.raw_data)
    monkeypatch.chdir(tmp_path)
    onnx.external_data_helper.set_external_data(tensor, "outside.bin")
    tensor.ClearField("raw_data")
    data = model.SerializeToString()
    if place == "long form":
        # The key's length in two bytes, which parsers accept as well; sizes around it do not fit,
        # so this is about the check alone.
        data = data.replace(b"\x08location", b"\x88\x00location")
        with pytest.raises(BundleError, match="refers to external data"):
            refuse_external_data(data, name)
        return
    put(root, name, data)
    bundle = Bundle.read(root)
    artifact = bundle.artifact("regressor")
    if target == "onnx":
        with pytest.raises(BundleError, match="refers to external data"):
            Runtime(bundle)
        return
    from bakit import agent

    with pytest.raises(agent.AgentError, match="refers to external data"):
        agent.read_sealed(str(root), msgspec.to_builtins(artifact), name)


def test_onnx_runtime_gets_large_weights_beside_the_graph():
    """It copies what is inside of a graph; what it computes is the same."""
    with ort.OrtSession(SMALL) as session:
        found = session.run({"x": np.ones((1, 40), np.float32)})["y"]
    assert found.tolist() == [LARGE.sum(0).tolist()]
    graph, weights = ort._without_weights(SMALL)
    assert len(graph) < LARGE.nbytes < len(SMALL)
    assert [(name, value.tolist()) for name, value in weights.items()] == [("w", LARGE.tolist())]


@given(
    st.lists(st.tuples(st.integers(0, len(SMALL) - LARGE.nbytes), st.integers(0, 255)), max_size=3),
    st.integers(0, len(SMALL)),
)
def test_a_damaged_graph_is_one_error(changes, end):
    data = bytearray(SMALL)
    for at, value in changes:  # the weights lie in the middle
        data[at if at < SMALL.index(LARGE.tobytes()) else at + LARGE.nbytes - 1] = value
    for damaged in (bytes(data), SMALL[:end]):
        with suppress(BundleError):
            ort.OrtSession(damaged).close()


def test_tensorrt_builds_from_sealed_files_only(copied):
    root = copied("tensorrt")

    def edit(manifest):
        model_of(manifest)["builds"][0]["path"] = "other.onnx"

    shutil.copy(root / "regressor.onnx", root / "other.onnx")
    with pytest.raises(BundleError, match=r"'other\.onnx' is built from but not sealed"):
        Bundle.read(change(root, edit))


@pytest.fixture
def package(copied):
    """A Core ML bundle and the folder of its regressor."""
    pytest.importorskip("coremltools")
    root = copied("coreml-reference")
    return root, root / "regressor.mlpackage"


@pytest.mark.parametrize("part", ["weight.bin", "model.mlmodel", "Manifest.json"])
def test_every_file_of_a_core_ml_package_has_to_be_sealed(package, part):
    root, _ = package

    def edit(manifest):
        item = model_of(manifest)
        files = [{"path": item["path"], "sha256": item["sha256"]}, *item["companions"]]
        kept = [file for file in files if not file["path"].endswith(part)]
        item |= kept[0]
        item["companions"] = kept[1:]

    with pytest.raises(BundleError):
        Runtime(change(root, edit))


@pytest.mark.parametrize("extra", ["more.bin", "Data/com.apple.CoreML/weights/2.bin", "link"])
def test_a_further_file_in_a_core_ml_package_is_refused(package, extra):
    root, folder = package
    if extra == "link":
        (folder / extra).symlink_to(root.parent)
    else:
        (folder / extra).write_bytes(b"weights")
    with pytest.raises(BundleError, match="is not sealed; remove it"):
        Runtime(root)


@pytest.mark.parametrize("kind", ["path", "root", "weights", "linked model"])
def test_a_core_ml_package_that_refers_outside_is_refused(package, kind):
    from bakit.backends.coreml_library import MODEL, coremltools

    root, folder = package
    if kind in {"path", "root"}:
        listed = json.loads((folder / "Manifest.json").read_text())
        for entry in listed["itemInfoEntries"].values():
            if kind == "path" or "mlmodel" in entry["path"]:
                entry["path"] = "../../../" + entry["path"]
        put(root, f"{folder.name}/Manifest.json", json.dumps(listed).encode())
    else:
        data = (folder / MODEL).read_bytes()
        if kind == "weights":
            data = data.replace(
                b"@model_path/weights/weight.bin", b"@model_path/../../../other.bin"
            )
        else:
            spec = coremltools.proto.Model_pb2.Model()
            spec.linkedModel.linkedModelFile.linkedModelFileName.defaultValue = "other.mlmodelc"
            data = spec.SerializeToString()
        put(root, f"{folder.name}/{MODEL}", data)
    with pytest.raises(BundleError, match="refers to files outside of the package"):
        Runtime(root)


# verify


def verify(*words):
    return CliRunner().invoke(main, ["verify", *map(str, words)])


def test_verify_names_files_that_are_not_sealed(fake_bundle):
    (fake_bundle / "msgspec.py").write_text("raise SystemExit('executed')")
    (fake_bundle / "golden" / "\x1b[2Jx.png").write_bytes(b"")
    (fake_bundle / "door").symlink_to(fake_bundle.parent, target_is_directory=True)
    result = verify(fake_bundle)
    assert result.exit_code == 0
    *warnings, following = result.stderr.splitlines()
    assert following.startswith("next: bakit bench ")
    assert warnings == [
        f"warning: {name} is not sealed; bakit does not read it"
        for name in ("'door'", "'msgspec.py'", r"'golden/\x1b[2Jx.png'")
    ]


def test_verify_names_only_the_first_of_many_files_that_are_not_sealed(fake_bundle):
    for number in range(50):
        (fake_bundle / f"{number}.txt").touch()
    assert verify(fake_bundle).stderr.count("warning: ") == 20


def test_verify_does_not_pass_a_bundle_without_golden_images(fake_bundle, refused):
    line = refused("verify", change(fake_bundle, lambda manifest: manifest.update(golden=[])))
    assert line.endswith("no golden image to check predictions with; export it again")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_verify_does_not_believe_a_bundle_s_own_tolerance(fake_bundle, precision):
    def edit(manifest):
        manifest |= {"tolerance_months": 1e9, "precision": precision}
        manifest["golden"][0]["bundle_months"] += 10

    result = verify(change(fake_bundle, edit))
    assert result.exit_code == 1
    assert result.stdout.startswith("FAILED  golden/1.png")


def test_verify_keeps_to_a_tolerance_that_is_lower_than_bakit_s(fake_bundle):
    def edit(manifest):
        manifest["tolerance_months"] = 0.001
        manifest["golden"][0]["bundle_months"] += 0.01

    (check,) = check_golden(Bundle.read(change(fake_bundle, edit)))
    assert not check.passed


def test_verify_checks_the_seal_where_the_target_cannot_run(copied, refused):
    root = copied("tensorrt")
    line = refused("verify", root, status=3)
    count = len(Bundle.read(root).files.digests)
    assert line.startswith(f"bakit: {count} files match the seal, the golden images were not run: ")
    with (root / "regressor.onnx").open("ab") as file:
        file.write(b"1")
    assert "changed since it was exported" in refused("verify", root)


# close


def until_closed(runtime, image, threads=6):
    """Predict in threads, close the runtime, and return what the threads met."""
    met, running = [], threading.Barrier(threads + 1)

    def work():
        runtime.predict(image, "F")
        running.wait(600)
        try:
            while True:
                runtime.predict(image, "F")
        except BaseException as error:
            met.append(error)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    running.wait(600)
    runtime.close()
    for worker in workers:
        worker.join(600)
        assert not worker.is_alive(), "close() must not hang"
    return met


@pytest.mark.parametrize("concurrent", [True, False])
def test_close_while_threads_predict_with_the_fake(fake_bundle, labelled, monkeypatch, concurrent):
    inside, closed_early = [], []
    run = FakeSession.run

    def slow(self, feeds):
        inside.append(1)
        try:
            closed_early.append(self.closed)
            result = run(self, feeds)
            closed_early.append(self.closed)
            return result
        finally:
            inside.pop()

    monkeypatch.setattr(FakeSession, "concurrent", concurrent)
    monkeypatch.setattr(FakeSession, "run", slow)
    for _ in range(5):
        runtime = Runtime(fake_bundle)
        met = until_closed(runtime, labelled.samples[0].path)
        assert inside == []
        assert {type(error) for error in met} == {InputError}
        assert all("it was closed; open it again" in str(error) for error in met)
    assert not any(closed_early)


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_close_while_threads_predict_with_a_library(exported, labelled, target):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[target])
    runtime = Runtime(exported(target, "fp32"), 1)
    met = until_closed(runtime, labelled.samples[0].path, threads=3)
    assert {type(error) for error in met} == {InputError}


def test_after_close_every_call_raises_one_clear_error(fake_bundle, labelled):
    runtime = Runtime(fake_bundle)
    runtime.close()
    runtime.close()
    image = labelled.samples[0].path
    calls = [
        lambda: runtime.predict(image, "F"),
        lambda: runtime.predict("nowhere.png", "F"),
        lambda: runtime.localize(image),
        lambda: runtime.regress(np.zeros((96, 96), np.float32), male=True),
        runtime.warm_up,
    ]
    for call in calls:
        with pytest.raises(InputError, match="it was closed; open it again to predict"):
            call()
    assert all(isinstance(item, InputError) for item in runtime.predict_many([image] * 3, "F"))


# Hostile model documents and models

DOCUMENTS = {
    "input name": lambda m: model_of(m)["inputs"][0].update(name="picture"),
    "input shape": lambda m: model_of(m)["inputs"][0].update(shape=[1, 3, 96, 96]),
    "input dtype": lambda m: model_of(m)["inputs"][0].update(dtype="float64"),
    "no inputs": lambda m: model_of(m).update(inputs=[]),
    "third input": lambda m: model_of(m)["inputs"].append(model_of(m)["inputs"][1]),
    "output name": lambda m: model_of(m)["outputs"][0].update(name="age"),
    "output shape": lambda m: model_of(m)["outputs"][0].update(shape=[2, 1]),
    "no outputs": lambda m: model_of(m).update(outputs=[]),
    "no labels": lambda m: model_of(m, "localizer").update(outputs=[]),
    "labels as floats": lambda m: model_of(m, "localizer")["outputs"][0].update(dtype="float32"),
    "image size of another model": lambda m: m["preprocessing"].update(image_size=128),
    "image size of 40,000": lambda m: m["preprocessing"].update(image_size=40000),
    "image size of 2,080": lambda m: m["preprocessing"].update(image_size=2080),
    "localizer of another size": lambda m: m["localizer"].update(size=64),
    "localizer of another method": lambda m: m.update(
        localizer={"method": "student", "size": 64, "widths": [4, 4]}
    ),
    "two regressors": lambda m: model_of(m, "localizer").update(role="regressor"),
    "many models": lambda m: m.update(artifacts=m["artifacts"] * 1000),
    "many companions": lambda m: model_of(m).update(
        companions=[{"path": f"c{n}", "sha256": ""} for n in range(1000)]
    ),
    "many goldens": lambda m: m.update(golden=m["golden"] * 1000),
    "many builds": lambda m: model_of(m).update(
        builds=[{"path": "regressor.json", "min_version": "8"}] * 1000
    ),
    "a digest that is a number": lambda m: model_of(m).update(sha256=7),
}


@pytest.mark.parametrize("edit", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_that_does_not_fit_itself_is_refused(fake_bundle, edit, labelled, refused):
    change(fake_bundle, edit)
    image = labelled.samples[0].path
    line = refused("predict", image, "--sex", "F", "--bundle", fake_bundle)
    assert str(fake_bundle) in line


@pytest.mark.parametrize("depth", [100, 100_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_deep_json_is_a_bundle_s_error(fake_bundle, depth, pair):
    start = pair[0] if pair == "[]" else '{"a":'
    text = '{"schema_version": 4, "target": ' + start * depth + "1" + pair[1] * depth + "}"
    (fake_bundle / "manifest.json").write_text(text)
    seal(fake_bundle)
    with pytest.raises(BundleError, match="not a manifest of this version"):
        Bundle.read(fake_bundle)


def test_image_sizes_end_at_2048():
    assert Preprocessing(image_size=2048).image_size == 2048
    with pytest.raises(ValueError, match="from 96 to 2048"):
        Preprocessing(image_size=2080)


def tiny_onnx(inputs, outputs):
    """Return a model of constants with these inputs and outputs: name, dtype, shape."""
    helper, types = onnx.helper, onnx.TensorProto
    kinds = {"float32": types.FLOAT, "int32": types.INT32, "int64": types.INT64}

    def infos(items):
        return [helper.make_tensor_value_info(n, kinds[d], shape) for n, d, shape in items]

    nodes = []
    for name, dtype, shape in outputs:
        fixed = [size if isinstance(size, int) else 3 for size in shape]
        value = onnx.numpy_helper.from_array(np.full(fixed, 7, dtype))
        nodes.append(helper.make_node("Constant", [], [name], value=value))
    graph = helper.make_graph(nodes, "g", infos(inputs), infos(outputs))
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


IMAGE, SEX = ("image", "float32", [1, 1, 96, 96]), ("sex", "float32", [1, 1])
AGE = ("age_months", "float32", [1, 1])
MODELS = {
    "another input name": ([("picture", *IMAGE[1:]), SEX], [AGE]),
    "another input shape": ([("image", "float32", [1, 3, 96, 96]), SEX], [AGE]),
    "another input rank": ([("image", "float32", [96, 96]), SEX], [AGE]),
    "another input dtype": ([("image", "int32", [1, 1, 96, 96]), SEX], [AGE]),
    "no sex": ([IMAGE], [AGE]),
    "a third input": ([IMAGE, SEX, ("more", "float32", [1])], [AGE]),
    "another output name": ([IMAGE, SEX], [("age", *AGE[1:])]),
    "another output shape": ([IMAGE, SEX], [("age_months", "float32", [1, 2])]),
    "another output dtype": ([IMAGE, SEX], [("age_months", "int64", [1, 1])]),
    "a second output": ([IMAGE, SEX], [AGE, ("more", "float32", [1])]),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_model_that_differs_from_the_manifest_is_refused_when_it_is_opened(copied, model):
    root = put(copied("onnx"), "regressor.onnx", tiny_onnx(*model))
    with pytest.raises(BundleError, match="the manifest declares"):
        Runtime(root)


def test_an_output_whose_size_shows_in_the_run_only_is_refused_there(copied, labelled):
    """How many pixels are not black is known only then."""
    model = onnx.load_from_string(tiny_onnx([IMAGE, SEX], [("age_months", "float32", ["n", "m"])]))
    del model.graph.node[:]
    model.graph.node.append(onnx.helper.make_node("NonZero", ["image"], ["places"]))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["places", "column"], ["ages"]))
    cast = onnx.helper.make_node("Cast", ["ages"], ["age_months"], to=onnx.TensorProto.FLOAT)
    model.graph.node.append(cast)
    column = onnx.numpy_helper.from_array(np.array([-1, 1]), "column")
    model.graph.initializer.append(column)
    root = put(copied("onnx"), "regressor.onnx", model.SerializeToString())
    with Runtime(root) as runtime, pytest.raises(BundleError, match="not those of the manifest"):
        runtime.predict(labelled.samples[0].path, "F")


ANSWERS = {
    "nothing": lambda _: {},
    "None": lambda _: {"age_months": None, "labels": None},
    "a list": lambda _: {"age_months": [[1.0]], "labels": [[1]]},
    "another name": lambda found: dict.fromkeys(["other"], next(iter(found.values()))),
    "another shape": lambda found: {name: value[:1, :0] for name, value in found.items()},
    "another dtype": lambda found: {n: value.astype("float64") for n, value in found.items()},
    "NaN": lambda found: {n: (value * np.nan).astype(value.dtype) for n, value in found.items()},
    "negative labels": lambda found: {n: -value - 1 for n, value in found.items()},
    "huge labels": lambda found: {n: value + 2**30 for n, value in found.items()},
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("spoil", ANSWERS.values(), ids=ANSWERS)
def test_any_answer_of_a_model_is_an_age_or_a_bundle_s_error(
    fake_bundle, labelled, monkeypatch, spoil
):
    run = FakeSession.run
    monkeypatch.setattr(FakeSession, "run", lambda self, feeds: spoil(run(self, feeds)))
    with Runtime(fake_bundle) as runtime:
        try:
            assert np.isfinite(runtime.predict(labelled.samples[0].path, "F").age_months)
        except (BundleError, VerificationError) as error:
            assert "\n" not in str(error)  # noqa: PT017  # both ends are right


@pytest.mark.parametrize(
    "error", [KeyError("image"), ValueError("shapes\ndiffer"), RuntimeError(), AttributeError("x")]
)
@pytest.mark.parametrize("where", ["open", "run"])
def test_a_library_s_error_becomes_a_bundle_s(fake_bundle, labelled, monkeypatch, error, where):
    def fail(*_):
        raise error

    if where == "open":
        monkeypatch.setattr(fake, "open_session", fail)
    else:
        monkeypatch.setattr(FakeSession, "run", fail)
    with pytest.raises(BundleError) as caught, Runtime(fake_bundle) as runtime:
        runtime.predict(labelled.samples[0].path, "F")
    assert isinstance(caught.value, BakitError)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "detectors",
    [
        {"hands": {"mean": [0.0], "scale": [1.0], "basis": "", "detectors": {}}},  # older
        {"detectors": {"turned": [0.0, 1.0]}},
    ],
)
def test_quality_limits_of_another_version_are_refused(fake_bundle, detectors):
    rate = {"samples": 1, "rejected": 0, "reviewed": 0}
    quality = {"limits": [], "mean_months": 1.0, "good": rate, "caught": {}, "data": ""}
    quality |= detectors
    root = change(fake_bundle, lambda manifest: manifest.update(quality=quality))
    with pytest.raises(BakitError, match="quality limits of another version"):
        Runtime(root)


def test_a_model_without_sex_predicts(fake_bundle, labelled):
    """Its manifest lists one input: no KeyError for the other."""

    def edit(manifest):
        del model_of(manifest)["inputs"][1]

    with Runtime(change(fake_bundle, edit)) as runtime:
        assert runtime.predict(labelled.samples[0].path, "M").age_months > 0


def test_names_of_real_bundles_are_canonical(exported):
    for target in ("fake", "onnx", "tensorrt"):
        bundle = exported(target, "fp32")
        assert seal_files(bundle.root, bundle.files.digests.items()) == bundle.files
        assert bundle.unsealed() == []


def test_a_bench_worker_runs_only_the_bundle_whose_key_was_checked(copied):
    """The bundle is replaced by another whole one between the check and the start."""
    from bakit.bench.local.process import Worker

    bundle = Bundle.read(copied("onnx"))
    change(bundle.root, lambda manifest: manifest.update(training_data="another bundle"))
    assert Bundle.read(bundle.root).sha256 != bundle.sha256
    with Worker(bundle, 1) as worker:
        assert "changed since it was checked" in worker.error
