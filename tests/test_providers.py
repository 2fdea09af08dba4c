"""Providers of ONNX Runtime: names, what is missing, and what ran where.

The Azure provider is in every wheel and takes no node of our models: a real silent fallback.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import onnxruntime
import pytest
from click.testing import CliRunner

from bakit import agent
from bakit.backends.ort import OrtSession
from bakit.backends.providers import find_provider
from bakit.bench import run_bench
from bakit.cli import main
from bakit.errors import BundleError, InputError, MissingProgramError, UnsupportedTargetError
from bakit.runtime import Runtime

AZURE, CPU, XNNPACK = "AzureExecutionProvider", agent.CPU, "XnnpackExecutionProvider"
NO_NODE = f"{CPU}; {AZURE} took no node"


@pytest.mark.parametrize(
    ("name", "found"),
    [("cuda", "CUDAExecutionProvider"), ("dml", "DmlExecutionProvider"), (XNNPACK, XNNPACK)],
)
def test_names_in_short_and_in_full(name, found):
    assert find_provider(name) == found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("xnpack", "unknown provider 'xnpack'; did you mean 'xnnpack'?"),
        ("CUDAExecutionProvder", "did you mean 'CUDAExecutionProvider'?"),
        ("Cuda", "did you mean 'cuda'?"),
        ("zzz", "use azure, cpu, coreml, cuda, dml, migraphx, openvino, qnn, tensorrt, "),
        ("nnapi", "NNAPI is deprecated since Android 15: use xnnpack, or qnn"),
        ("NnapiExecutionProvider", "deprecated"),
    ],
)
def test_other_names_are_refused(name, said):
    with pytest.raises(InputError, match=r"^[^\n]*$") as error:
        find_provider(name)
    assert said in str(error.value)


def test_a_provider_that_takes_no_node_is_named(exported):
    bundle = exported("onnx", "int8")
    with Runtime(bundle, 1) as usual, Runtime(bundle, 1, provider="azure") as runtime:
        golden = bundle.files.read(bundle.manifest.golden[0].path)
        predicted = runtime.predict(golden, "F", allow_rejected=True)
        assert predicted.provider == runtime.provider == NO_NODE
        assert "onnxruntime" in predicted.versions
        expected = usual.predict(golden, "F", allow_rejected=True)
        assert predicted.age_months == expected.age_months
        assert runtime.executed == usual.executed
        assert {item.unit for item in runtime.executed} == {CPU}
    assert bundle.unsealed() == []


@pytest.mark.parametrize(
    ("provider", "package"),
    [
        ("cuda", "onnxruntime-gpu"),
        ("xnnpack", "no wheel, but a build of ONNX Runtime with --use_xnnpack"),
    ],
)
def test_what_is_not_installed_is_named_with_its_package(exported, provider, package):
    with pytest.raises(MissingProgramError) as error:
        Runtime(exported("onnx", "fp32"), 1, provider=provider)
    have = ", ".join(onnxruntime.get_available_providers())
    assert f"has no {find_provider(provider)} here, only {have}: {package} has it" in str(
        error.value
    )


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_onnx_runtime_drops_is_an_error(exported, monkeypatch):
    """It says that it has CUDA, as onnxruntime-gpu without the libraries does."""
    have = [find_provider("cuda"), CPU]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: have)
    bundle = exported("onnx", "fp32")
    with pytest.raises(
        MissingProgramError, match=r"CUDA\w+ does not start \(.*: install the driver"
    ):
        Runtime(bundle, 1, provider="cuda")
    monkeypatch.setattr(agent.os.path, "isfile", lambda path: path.endswith("_cuda.so"))
    with pytest.raises(MissingProgramError, match=r"\(\S+_cuda.so: cannot open shared object"):
        Runtime(bundle, 1, provider="cuda")


def test_a_damaged_model_is_not_the_provider_s_fault():
    with pytest.raises(BundleError, match=r"ONNX Runtime .* cannot load it"):
        OrtSession(b"no model", provider=AZURE)


def test_a_plug_in_is_registered_and_its_best_device_taken(exported, monkeypatch):
    """As onnxruntime-qnn 2.7 does; ONNX Runtime ignores a plug-in that is asked for by name."""
    qnn, registered, taken = find_provider("qnn"), {}, []
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", registered.__setitem__)
    package = SimpleNamespace(get_library_path=lambda: "libqnn.so")
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", package)
    with pytest.raises(agent.ProviderError, match="; onnxruntime-qnn finds no device of its kind"):
        agent.load_provider(qnn)
    assert registered == {qnn: "libqnn.so"}

    class Options(onnxruntime.SessionOptions):
        def add_provider_for_devices(self, devices, settings):
            taken.extend(devices)

    devices = [
        SimpleNamespace(ep_name=name, device=SimpleNamespace(type=kind))
        for name, kind in [(qnn, 0), (qnn, 2), (CPU, 3), (qnn, 1)]
    ]
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [qnn, CPU])
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices)
    data = exported("onnx", "fp32").files.read_onnx("regressor.onnx")
    with pytest.raises(MissingProgramError, match=r"QNN\w+ does not start"):
        OrtSession(data, provider=qnn)
    assert taken == [devices[1]]


def session(*units):
    """Return an open model whose nodes have these providers."""
    parts = [
        SimpleNamespace(ep_name=unit, get_nodes=lambda i=i: [SimpleNamespace(name=f"node {i}")])
        for i, unit in enumerate(units)
    ]
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)


def test_a_provider_counts_its_nodes(monkeypatch):
    assert agent.provider_words(session(XNNPACK, XNNPACK), b"", XNNPACK) == XNNPACK
    some = agent.provider_words(session(XNNPACK, CPU, XNNPACK), b"", XNNPACK)
    assert some == f"{XNNPACK}, 2 of 3 nodes"
    # ONNX Runtime below 1.24 tells it by its kernels alone.
    kernels = [("a", {"provider": CPU}), ("b", {"provider": XNNPACK})]
    monkeypatch.setattr(agent, "profile_onnx", lambda *_: (kernels, {}))
    assert agent.provider_words(SimpleNamespace(), b"", XNNPACK) == f"{XNNPACK}, 1 of 2 nodes"


def kernel(name, kind, unit):
    return name, {"op_name": kind, "provider": unit}


LAYERS = [
    (name, {"op_name": kind, "input_type_shape": [{}, {"float": [2, 3]}], **output})
    for name, kind in [("stem", "Conv"), ("body", "Conv"), ("age", "Gemm")]
    for output in [{"output_type_shape": [{"float": [1, 2, *([4, 5] if kind == "Conv" else [])]}]}]
]
STEM, AGE = kernel("stem", "Conv", CPU), kernel("age", "Gemm", CPU)


@pytest.mark.parametrize(
    ("kernels", "assigned", "expected"),
    [
        # Merged nodes with a name of the provider's own, in one format, or in two.
        ([STEM, AGE, kernel("merged", "QLinearConv", XNNPACK)], {"body": XNNPACK}, "int8"),
        (
            [STEM, AGE, kernel("x", "QLinearConv", XNNPACK), kernel("y", "Conv", XNNPACK)],
            {"body": XNNPACK},
            agent.UNKNOWN,
        ),
        ([STEM, AGE, kernel("whole graph", "Compiled", XNNPACK)], {"body": XNNPACK}, agent.UNKNOWN),
        # A layer whose kernel nobody knows.
        ([STEM, AGE, kernel("merged", "Conv", CPU)], {"body": CPU}, None),
        ([STEM, AGE, kernel("merged", "Conv", XNNPACK)], {}, None),
    ],
)
def test_layers_of_a_provider_that_names_its_kernels_itself(
    monkeypatch, kernels, assigned, expected
):
    runs = iter([(LAYERS, {}), (kernels, assigned)])
    monkeypatch.setattr(agent, "profile_onnx", lambda *_, **__: next(runs))
    ran = [(CPU, "f32", 120), (XNNPACK, expected, 120), (CPU, "f32", 6)]
    assert agent.layers_run(b"", XNNPACK) == (ran if expected else [])


def test_bundles_without_providers_are_refused(fake_target, exported):
    fake = exported("fake", "fp32")
    for open_it in (Runtime, lambda bundle, **how: run_bench([bundle], **how)):
        with pytest.raises(UnsupportedTargetError, match=r"'fake' has no providers: .* for onnx"):
            open_it(fake, provider="cuda")
    manifest = {"target": "tensorrt", "precision": "fp32"}
    how = {"engine": "auto", "allow_downgrade": False, "provider": AZURE}
    with pytest.raises(agent.AgentError, match="for onnx bundles: tensorrt runs this one"):
        agent.choose_way(manifest, {"numpy": "1", "tensorrt": "8.2"}, how)


def test_the_commands(refused, exported, tmp_path):
    bundle = exported("onnx", "fp32")
    image = str(bundle.root / bundle.manifest.golden[0].path)
    words = [image, "--bundle", str(bundle.root), "--sex", "F", "--allow-rejected", "--provider"]
    done = CliRunner().invoke(main, ["-q", "predict", *words, "azure", "--json"])
    assert f"runs on {NO_NODE}\n" in done.stderr
    assert f'"provider":"{NO_NODE}"' in done.stdout.replace('": "', '":"')
    assert "did you mean 'cuda'?" in refused("predict", *words, "cudda")
    assert "onnxruntime-gpu has it" in refused("predict", *words, "cuda", status=3)
    assert "onnxruntime-gpu has it" in refused(
        "verify", bundle.root, "--provider", "cuda", status=3
    )
    bench = ("bench", bundle.root, "--provider")
    assert "onnxruntime-gpu has it" in refused(*bench, "cuda", status=3)
    assert "provider wasm is a browser's: bakit bench --phone" in refused(*bench, "wasm")
    assert "unknown provider of a browser 'cuda'" in refused(*bench, "cuda", "--phone")
    kit = ("--kit", tmp_path / "kit.tar.gz")
    assert "--kit does not support --provider" in refused(*bench, "cpu", *kit)
    fleet = tmp_path / "devices.toml"
    assert "--fleet does not support --provider" in refused(
        "bench", "--fleet", fleet, "--provider", "cuda"
    )
    fleet.write_text(f'[device.a]\nhost = "a"\nbundles = ["{bundle.root}"]\nprovider = "cudda"\n')
    assert "device 'a': unknown provider 'cudda'" in refused("bench", "--fleet", fleet)
