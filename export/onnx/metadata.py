"""What a model file says about itself: properties that Netron, Xcode and other tools show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit import __version__
from bakit.hand.weights import method_of

if TYPE_CHECKING:
    from onnx import ModelProto

    from bakit.bundle import Role
    from bakit.model.checkpoint import Checkpoint
    from bakit.types import Precision

DESCRIPTIONS: dict[Role, str] = {
    "localizer": "Finds the hand in a radiograph, for cropping before the bone-age model.",
    "regressor": "Estimates the bone age of a cropped hand radiograph, in months.",
    "whole": "Finds the hand in a radiograph and estimates its bone age, in months.",
}

TENSORS = {
    "film": "(H, W) uint8: grey values of a radiograph, upright and without frame.",
    "image": "(1, 1, S, S) float32 in 0..1: the grey image that the preprocessing describes.",
    "sex": "(1, 1) float32: 1 for male, 0 for female.",
    "age_months": "(1, 1) float32: bone age in months.",
    "hand": "(S, S) float32: probability of each pixel to be the hand, 0..1.",
    "labels": "(S, S) int32: the segment of each pixel.",
    "box": "(4,) int64: the hand's x0, y0, x1, y1 in pixels of the film; all of it without a hand.",
    "hand_confidence": "(1,) float32: mean probability of the hand's pixels; 0 without a hand.",
    "inverted": "(1,) bool: bones are dark in the film; they are bright in the image.",
    "second": "(1,) float32: area of a second hand, as a share of the first's.",
    "border": "(1,) float32: contact of the hand with the film's edges, as a share of a side.",
}

INTENDED_USE = "Research on bone age in hand radiographs of children. Not a medical device."


def metadata(checkpoint: Checkpoint, role: Role, precision: Precision) -> dict[str, str]:
    """Return the properties of a model by name, all text."""
    header = checkpoint.header
    settings, size = header.preprocessing, header.localizer.size
    working = f"the whole film squashed to {size}x{size} by means of areas, stretched from its 1st "
    working += "and 99th percentile to 0..1"
    crop = "the film" if not settings.localize else f"the hand's box, {settings.margin:.0%} larger"
    crop += ", bones bright, stretched to its range"
    crop += ", histogram equalized" if settings.equalize else ""
    crop += f", squashed to {settings.image_size}x{settings.image_size}, in 256 steps of 0..1"
    preprocessing = {
        "localizer": working,
        "regressor": crop,
        "whole": f"in the graph: {working}; then {crop}",
    }
    found = {
        "name": f"{checkpoint.name}-{role}",
        "description": DESCRIPTIONS[role],
        "version": __version__,
        "role": role,
        "precision": precision.value,
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": checkpoint.sha256,
        "localizer": method_of(header.localizer),
        "preprocessing": preprocessing[role],
        "intended_use": INTENDED_USE,
        "license": header.training.terms if header.training else "not recorded",
    }
    if role != "localizer" and header.intervals is not None:
        found["intervals"] = msgspec.json.encode(header.intervals, order="sorted").decode()
    return found


def describe(model: ModelProto, about: dict[str, str]) -> ModelProto:
    """Write properties into a model, with what its inputs and outputs hold; return it."""
    model.doc_string = about["description"]
    for side, items in (("input", model.graph.input), ("output", model.graph.output)):
        for item in items:
            item.doc_string = TENSORS[item.name]
            about = about | {f"{side}.{item.name}": TENSORS[item.name]}
    del model.metadata_props[:]
    for key, value in sorted(about.items()):
        model.metadata_props.add(key=key, value=value)
    return model


def properties(model: ModelProto) -> dict[str, str]:
    """Return the properties that ``describe`` wrote."""
    return {item.key: item.value for item in model.metadata_props}
