"""The labels of a response as ONNX nodes, the same for every form of the unrolled localizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

if TYPE_CHECKING:
    from bakit.export.onnx_writer import GraphWriter


def keep_labels(
    writer: GraphWriter, response: str, kept: str, channels: int, axes: list[int]
) -> tuple[str, str]:
    """Return the label map to keep, and this response's own as int64, channels kept as one.

    Args:
        writer: Where the nodes go.
        response: The response y.
        kept: The label map to keep if this one has a single label.
        channels: Axis of the channels.
        axes: All axes that may be longer than one, without channels.
    """
    labels = writer.node("ArgMax", response, axis=channels, keepdims=1)
    narrow = writer.node("Cast", labels, to=TensorProto.INT32)
    lowest = writer.node("ReduceMin", narrow, axes=axes, keepdims=1)
    highest = writer.node("ReduceMax", narrow, axes=axes, keepdims=1)
    several = writer.node("Greater", highest, lowest)
    return writer.node("Where", several, narrow, kept), labels
