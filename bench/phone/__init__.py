"""Benchmark in a phone's browser: onnxruntime-web runs the two networks.

This machine decodes, locates and crops the images. The phone gets models and tensors, and returns
the latency of localizer and regressor and the predicted ages.

Nothing is imported here, because ``bakit doctor`` needs only ``web``.
"""
