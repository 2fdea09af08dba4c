"""The float regressor, and the graph that is written from its weights."""

import numpy as np
import onnx
import pytest
import torch

from bakit.errors import CheckpointError, VerificationError
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import check_profile, serialize
from bakit.model.checkpoint import SCHEMA_VERSION, Checkpoint, Header
from bakit.model.regressor import Regressor, regressor_from_weights
from bakit.settings import Architecture, Preprocessing, UnrolledSettings
from bakit.training.callbacks import module_weights
from tests.graphs import open_graph


def make_checkpoint(*, size=96, sex=True, head_layers=2):
    """An untrained model whose batch norms have seen something."""
    torch.manual_seed(0)
    architecture = Architecture(head_layers=head_layers, sex=sex)
    model = Regressor(architecture, 127.3, 41.2)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.2)
    header = Header(
        SCHEMA_VERSION,
        architecture,
        127.3,
        41.2,
        Preprocessing(image_size=size),
        UnrolledSettings(),
    )
    return Checkpoint(header, module_weights(model), {}), model.eval()


@pytest.mark.parametrize(("layers", "count"), [(2, 7_606_825), (1, 5_905_105)])
def test_parameter_counts_are_the_papers(layers, count):
    model = Regressor(Architecture(head_layers=layers))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("size", [96, 128, 224, 500, 700])
def test_image_sizes(size):
    assert Preprocessing(image_size=size).image_size == size
    model = Regressor(Architecture()).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 1, size, size), torch.ones(1, 1)).shape == (1, 1)


@pytest.mark.parametrize("size", [0, 64, 95, 100, 501])
def test_other_image_sizes_are_refused(size):
    with pytest.raises(ValueError, match="multiple of 32"):
        Preprocessing(image_size=size)


def test_output_is_destandardized():
    model = Regressor(Architecture(), mean_months=120.0, sd_months=40.0).eval()
    image, sex = torch.rand(2, 1, 96, 96), torch.tensor([[0.0], [1.0]])
    with torch.inference_mode():
        expected = model.standardized(image, sex) * 40 + 120
        torch.testing.assert_close(model(image, sex), expected)


@pytest.mark.parametrize(
    ("size", "sex", "head_layers"), [(96, True, 2), (96, False, 1), (224, True, 2), (500, True, 2)]
)
def test_graph_agrees_with_torch(size, sex, head_layers):
    checkpoint, model = make_checkpoint(size=size, sex=sex, head_layers=head_layers)
    session = open_graph(serialize(regressor_model(checkpoint)))
    rng = np.random.default_rng(1)
    for male in (0.0, 1.0):
        image = rng.random((1, 1, size, size), dtype=np.float32)
        feeds = {"image": image, "sex": np.array([[male]], np.float32)}
        if not sex:
            del feeds["sex"]
        found = session.run(None, feeds)[0]
        with torch.inference_mode():
            expected = model(torch.from_numpy(image), torch.tensor([[male]])).numpy()
        assert np.abs(found - expected).max() <= 1e-3


def test_graph_is_the_same_bytes_every_time():
    checkpoint, _ = make_checkpoint()
    assert serialize(regressor_model(checkpoint)) == serialize(regressor_model(checkpoint))


def test_missing_and_unknown_weights_are_refused():
    checkpoint, _ = make_checkpoint()
    weights = dict(checkpoint.regressor)
    del weights["output.bias"]
    with pytest.raises(CheckpointError, match=r"lacks the weight 'output\.bias'"):
        regressor_model(Checkpoint(checkpoint.header, weights, {}))
    weights = checkpoint.regressor | {"extra.weight": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match=r"extra\.weight"):
        regressor_model(Checkpoint(checkpoint.header, weights, {}))


def test_profile_check_sees_what_it_must():
    checkpoint, _ = make_checkpoint()
    model = regressor_model(checkpoint)
    model.ir_version = 9
    with pytest.raises(VerificationError, match="IR version 9"):
        check_profile(model)
    model.ir_version = 7
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(VerificationError, match="operator sets"):
        check_profile(model)
    del model.opset_import[1:]
    model.graph.node[0].op_type = "HardSwish"
    with pytest.raises(VerificationError, match="HardSwish"):
        check_profile(model)


def test_weights_that_do_not_fit_are_refused():
    checkpoint, _ = make_checkpoint(head_layers=1)
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.regressor.items()}
    with pytest.raises(CheckpointError, match="do not fit"):
        regressor_from_weights(Architecture(head_layers=2), weights)
