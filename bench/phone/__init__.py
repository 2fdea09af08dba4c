"""A bench in a phone's browser: onnxruntime-web runs the networks, this machine does the rest.

Images are decoded, located and cropped here, so the phone's numbers are those of the two networks
alone: times of the localizer and of the regressor, and ages for crops that are the same as this
machine's. The phone gets models and tensors, and sends back numbers.

Nothing is imported here: ``bakit doctor`` asks for ``web`` alone.
"""
