"""Pretrained weights: what is loaded, what is left at random, and what is refused."""

from functools import cache

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from bakit.cli import main
from bakit.errors import InputError
from bakit.model.checkpoint import Checkpoint
from bakit.model.regressor import Regressor, torchvision
from bakit.phantoms import write_phantoms
from bakit.settings import Architecture
from bakit.training.pretrained import load_backbone

HEAD = ("sex", "hidden.0", "hidden.1", "output")


@cache
def torchvision_weights():
    torch.manual_seed(3)
    return torchvision.models.mobilenet_v3_large(weights=None).state_dict()


def new_model():
    torch.manual_seed(0)
    return Regressor(Architecture())


def write(path, weights):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save(weights, path)
    return str(path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_torchvision_file_fills_backbone_and_projection(tmp_path, name):
    stored = torchvision_weights()
    model = new_model()
    head = model.output.weight.clone()

    layers = load_backbone(model, write(tmp_path / name, stored))

    assert torch.equal(model.features[0][0].weight, stored["features.0.0.weight"])
    assert torch.equal(model.features[0][1].running_var, stored["features.0.1.running_var"])
    assert torch.equal(model.project.weight, stored["classifier.0.weight"])
    assert torch.equal(model.project.bias, stored["classifier.0.bias"])
    assert torch.equal(model.output.weight, head)
    assert layers.loaded == ("features", "project")
    assert layers.skipped == ("classifier.3",)
    assert layers.initialized == HEAD


def test_halves_under_our_own_names(tmp_path):
    stored = torchvision_weights()
    weights = {k: v.half() for k, v in stored.items() if k.startswith("features.")}
    weights["project.weight"] = stored["classifier.0.weight"].half()
    model = new_model()
    bias = model.project.bias.clone()

    layers = load_backbone(model, write(tmp_path / "weights.pth", weights))

    assert model.project.weight.dtype == torch.float32
    assert torch.equal(model.project.weight, weights["project.weight"].float())
    assert torch.equal(model.project.bias, bias)
    assert str(layers) == (
        "loaded features, project; initialized project, sex, hidden.0, hidden.1, output"
    )


def test_checkpoint_fills_the_head_where_it_fits(checkpoint):
    model = new_model()
    layers = load_backbone(model, str(checkpoint.path))
    for name in ("output.weight", "hidden.1.bias", "features.0.0.weight"):
        np.testing.assert_array_equal(model.state_dict()[name], checkpoint.regressor[name])
    assert (layers.skipped, layers.initialized) == ((), ())
    assert float(model.mean_months) == 0  # of the next training's ages

    short = Regressor(Architecture(head_layers=1))
    assert load_backbone(short, str(checkpoint.path)).skipped == ("hidden.1",)


def test_no_weights_leave_all_at_random():
    layers = load_backbone(new_model(), "none")
    assert layers.loaded == ()
    assert layers.initialized == ("features", "project", *HEAD)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("weights.pth", None, "no such weights file"),
        ("weights.pth", b"nonsense", "not a torch state dict"),
        ("weights.safetensors", b"nonsense", "not a .safetensors file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, text):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=text):
        load_backbone(new_model(), str(path))


def _small(weights):
    del weights
    return torchvision.models.mobilenet_v3_small(weights=None).state_dict()


def _without_a_layer(weights):
    return {k: v for k, v in weights.items() if not k.startswith("features.16.1.")}


def _with_another_layer(weights):
    return weights | {"features.17.0.weight": torch.zeros(3)}


def _with_nan(weights):
    return weights | {"classifier.0.bias": torch.full((1280,), torch.nan)}


def _nested(weights):
    return {"state_dict": weights}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_small, r"not the weights of a MobileNetV3-Large backbone: 'features\.1\.block"),
        (_without_a_layer, r"backbone: 'features\.16\.1\.weight' is missing"),
        (_with_another_layer, r"backbone: 'features\.17\.0\.weight' is unknown"),
        (_with_nan, r"the weight 'project\.bias' holds NaN"),
        (_nested, "at 'state_dict', not a tensor"),
        (lambda _: torch.zeros(3), "holds a Tensor, not a state dict"),
    ],
)
def test_other_weights_are_refused_in_one_line(tmp_path, change, text):
    path = write(tmp_path / "weights.pth", change(torchvision_weights()))
    model = new_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=text) as caught:
        load_backbone(model, path)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_command_prints_layers_and_metrics_and_takes_the_finetune_recipe(tmp_path):
    data = write_phantoms(tmp_path / "data", 20, height=96)
    weights = write(tmp_path / "weights.pth", torchvision_weights())
    options = ["train", str(data), "--out", str(tmp_path / "run"), "--pretrained", weights]
    options += ["--epochs", "1", "--batch-size", "4", "--no-localize", "--phantoms", "0"]
    options += ["--image-size", "96"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert "pretrained weights: loaded features, project; skipped classifier.3" in result.output
    assert '"degrade": 0.6' in (tmp_path / "run" / "plan.json").read_text()
    metrics = Checkpoint.read(tmp_path / "run" / "best.safetensors").header.training.metrics
    assert f"test: MAE {metrics['test'].mae_months:.2f} months on 2 images" in result.output
    assert "epoch 1/1: training MAE" in result.output
