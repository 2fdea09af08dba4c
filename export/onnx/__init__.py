"""ONNX graphs, written node by node from the weights."""
