"""Stands for TensorRT in tests, in the interfaces of 8.2 to 11 (TENSORRT_DOUBLE says which).

Engines execute for real: ONNX Runtime computes on the raw pointers that they are given. What the
version does not have is missing here too. Python 3.6, since the device agent runs on it.
"""

import ctypes
import json
import os

import numpy
import onnxruntime

__version__ = os.environ.get("TENSORRT_DOUBLE", "10.3.0")
_VERSION = tuple(int(part) for part in __version__.split(".")[:2])
BY_NAME, WEAK = _VERSION >= (8, 5), _VERSION < (11, 0)
_TYPES = {"tensor(float)": "FLOAT", "tensor(int32)": "INT32", "tensor(float16)": "HALF"}
_MAGIC = b"double engine\n"
_SURVIVED = (
    "",
    "memory",
    "tactics",
    "depthwise",
)  # values of DOUBLE_BUILD_FAILS that build at last


def _open(graph):
    """Open a graph with one thread: more only wait for each other on a busy machine.

    Like TensorRT, it leaves biases float: ONNX Runtime makes integers of them, whose float16
    scales overflow, and ages are then 6 months off.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        graph,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["WeightBiasQuantization"],
    )


def _cuda():
    return ctypes.CDLL(os.environ["BAKIT_CUDART"])


class ILogger:
    """Has to be initialised, as the real one."""

    def __init__(self):
        self.initialised = True


float32 = "DataType.FLOAT"


class NetworkDefinitionCreationFlag:
    if WEAK:
        EXPLICIT_BATCH = 0
    if _VERSION >= (10, 0):
        STRONGLY_TYPED = 1


class BuilderFlag:
    TF32 = 7
    if WEAK:
        FP16, INT8, OBEY_PRECISION_CONSTRAINTS = 0, 1, 10


class ProfilingVerbosity:
    DETAILED = 2


class LayerInformationFormat:
    JSON = 1


class TensorIOMode:
    INPUT, OUTPUT = 1, 2


class MemoryPoolType:
    WORKSPACE = 0


if WEAK:

    class IInt8EntropyCalibrator2:
        """Has to be initialised, as the real one."""

        def __init__(self):
            self.initialised = True


class _Network:
    def __init__(self, flags):
        self.strongly_typed = not WEAK or bool(flags >> 1 & 1)
        if WEAK and _VERSION < (10, 0) and not flags & 1:
            raise RuntimeError("explicit batch is required for ONNX")
        self.graph = None

    def _last(self):
        """The last layer as 10 reads it: constants, a product, a shuffle, a sum."""
        tensors = {n: _Tensor(n) for n in ("x", "w", "y", "b", "b2", "age_months")}
        parts = [
            ("CONSTANT", [], "w"),
            ("CONVOLUTION", [], "x"),
            ("MATRIX_MULTIPLY", ["x", "w"], "y"),
            ("CONSTANT", [], "b"),
            ("SHUFFLE", ["b"], "b2"),
            ("ELEMENTWISE", ["y", "b2"], "age_months"),
        ]
        return [_Layer(kind, [tensors[i] for i in ins], tensors[out]) for kind, ins, out in parts]

    @property
    def num_layers(self):
        self.layers = getattr(self, "layers", None) or self._last()
        return len(self.layers)

    def get_layer(self, index):
        return self.layers[index]

    def get_output(self, index):
        return _Tensor("age_months")


class _Tensor:
    def __init__(self, name):
        self.name = name


class _Layer:
    precision, num_outputs = None, 1

    def __init__(self, kind, inputs, output):
        self.type, self._inputs, self._output = "LayerType." + kind, inputs, output
        self.num_inputs, self.types = len(inputs), {}

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._output

    def set_output_type(self, index, kind):
        self.types[index] = kind


class OnnxParser:
    def __init__(self, network, logger):
        assert logger.initialised
        self._network, self._errors = network, []

    def parse(self, data):
        try:
            _open(data)
        except Exception as error:
            self._errors.append(str(error).splitlines()[0])
            return False
        if b"DequantizeLinear" in data and _VERSION < (8, 5):
            self._errors.append("this GPU's TensorRT has no quantized layers")
            return False
        self._network.graph = data
        return True

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]


class _Config:
    profiling_verbosity = None
    int8_calibrator = None

    def __init__(self):
        self.flags, self.pools, self._timing = [BuilderFlag.TF32], {}, None
        self.tactics = None
        if _VERSION < (8, 4):
            self.max_workspace_size = 0

    if _VERSION >= (8, 4):

        def set_memory_pool_limit(self, pool, size):
            self.pools[pool] = size

    def set_flag(self, flag):
        self.flags.append(flag)

    def clear_flag(self, flag):
        self.flags.remove(flag)

    def set_tactic_sources(self, sources):
        self.tactics = sources

    def create_timing_cache(self, data):
        return None if data == b"torn" else _Timing(data)

    def set_timing_cache(self, cache, ignore_mismatch):
        self._timing = cache
        return cache.serialize().startswith(b"timings")

    def get_timing_cache(self):
        return self._timing


class _Timing:
    def __init__(self, data):
        self._data = data or b"timings"

    def serialize(self):
        return self._data


class Builder:
    def __init__(self, logger):
        assert logger.initialised
        self._logger = logger

    def create_network(self, flags):
        return _Network(flags)

    def create_builder_config(self):
        return _Config()

    def build_serialized_network(self, network, config):
        has_pairs = b"DequantizeLinear" in network.graph
        wrong = os.environ.get("DOUBLE_BUILD_FAILS", "")
        depthwise = b"block2/depthwise.weight_quantized" in network.graph
        if wrong == "memory" and config.tactics != 0:
            self._logger.log(1, "Cuda Runtime (out of memory)")
            return None
        if wrong == "tactics" and config.tactics != 0:
            self._logger.log(2, "Skipping tactic 3 due to insufficient memory on requested size")
            self._logger.log(1, "Could not find any implementation for node conv.")
            return None
        if wrong == "depthwise" and depthwise:
            self._logger.log(2, "Some tactics do not have sufficient workspace memory to run.")
        if (wrong == "depthwise" and depthwise) or wrong not in _SURVIVED:
            self._logger.log(1, wrong)
            return None
        names = []
        if WEAK:
            names = [
                name for name in ("FP16", "INT8") if getattr(BuilderFlag, name) in config.flags
            ]
            if names:
                assert BuilderFlag.OBEY_PRECISION_CONSTRAINTS in config.flags
                kinds = {item.type[10:]: item.precision for item in network.layers}
                assert kinds["ELEMENTWISE"] == kinds["MATRIX_MULTIPLY"] == float32
                assert kinds["CONVOLUTION"] is None
        scales = b""
        if has_pairs and not network.strongly_typed and "INT8" not in names:
            return None
        if "INT8" in names and not has_pairs:
            assert config.int8_calibrator.initialised
            assert config.int8_calibrator.get_batch_size() == 1
            scales = config.int8_calibrator.read_calibration_cache()
            if not scales:
                return None
        kind = {"version": __version__, "flags": names, "scales": scales.decode()}
        kind["tf32"] = BuilderFlag.TF32 in config.flags
        kind["strongly_typed"] = network.strongly_typed
        halves = network.strongly_typed and b"/half" in network.graph
        kind["types"] = "Int8" if has_pairs else "Half" if halves else "FP32"
        head = json.dumps(kind, sort_keys=True).encode()
        body = head + b"\n" + network.graph
        return memoryview(_MAGIC + b"%d\n" % len(body) + body)


class Runtime:
    def __init__(self, logger):
        assert logger.initialised

    def deserialize_cuda_engine(self, data):
        data = bytes(data)
        if not data.startswith(_MAGIC):
            return None
        size, body = data[len(_MAGIC) :].split(b"\n", 1)
        if len(body) != int(size):
            return None
        head, graph = body.split(b"\n", 1)
        kind = json.loads(head.decode())
        return None if kind["version"] != __version__ else _Engine(graph, kind)


class _Engine:
    def __init__(self, graph, kind):
        self._session = _open(graph)
        self._kind = kind
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._tensors = [(item, True) for item in inputs] + [(item, False) for item in outputs]

    if BY_NAME:

        @property
        def num_io_tensors(self):
            return len(self._tensors)

        def get_tensor_name(self, index):
            return self._tensors[index][0].name

        def get_tensor_mode(self, name):
            return TensorIOMode.INPUT if self._find(name)[1] else TensorIOMode.OUTPUT

        def get_tensor_shape(self, name):
            return tuple(self._find(name)[0].shape)

        def get_tensor_dtype(self, name):
            return "DataType." + _TYPES[self._find(name)[0].type]

    else:

        @property
        def num_bindings(self):
            return len(self._tensors)

        def get_binding_name(self, index):
            return self._tensors[index][0].name

        def binding_is_input(self, index):
            return self._tensors[index][1]

        def get_binding_shape(self, index):
            return tuple(self._tensors[index][0].shape)

        def get_binding_dtype(self, index):
            return "DataType." + _TYPES[self._tensors[index][0].type]

    def _find(self, name):
        return next(pair for pair in self._tensors if pair[0].name == name)

    def create_execution_context(self):
        return _Context(self)

    def create_engine_inspector(self):
        return _Inspector(self._kind)


class _Context:
    def __init__(self, engine):
        self._engine, self._addresses = engine, {}

    def _run(self, pointers):
        engine, cuda = self._engine, _cuda()
        cuda.double_left_in.restype = ctypes.c_size_t
        feeds, results = {}, []
        for item, is_input in engine._tensors:
            kind = {"FLOAT": "float32", "INT32": "int32", "HALF": "float16"}[_TYPES[item.type]]
            count = int(numpy.prod(item.shape))
            size = count * numpy.dtype(kind).itemsize
            if cuda.double_left_in(ctypes.c_void_p(pointers[item.name])) < size:
                return False
            raw = (ctypes.c_byte * size).from_address(pointers[item.name])
            array = numpy.frombuffer(raw, kind).reshape(item.shape)
            if is_input:
                feeds[item.name] = array.copy()
            else:
                results.append((item.name, array))
        outputs = engine._session.run([name for name, _ in results], feeds)
        for (_, array), output in zip(results, outputs):
            array[...] = output
        return True

    if BY_NAME:

        def set_tensor_address(self, name, pointer):
            self._addresses[name] = pointer
            return bool(pointer)

        def execute_async_v3(self, stream):
            return bool(stream) and self._run(self._addresses)

    if _VERSION < (10, 0):

        def execute_async_v2(self, bindings, stream):
            names = [item.name for item, _ in self._engine._tensors]
            return bool(stream) and self._run(dict(zip(names, bindings)))


class _Inspector:
    def __init__(self, kind):
        self._kind = kind

    def get_engine_information(self, form):
        assert form == LayerInformationFormat.JSON
        flags = self._kind["flags"]
        word = "Int8" if "INT8" in flags else "Half" if "FP16" in flags else self._kind["types"]
        key = "Format/Datatype" if WEAK else "Datatype"
        layer = {"Name": "conv", "Outputs": [{"Name": "x", key: word}]}
        copy = {"Name": "copy", "LayerType": "Reformat", "Outputs": [{"Name": "y", key: "FP32"}]}
        return json.dumps({"Layers": [layer, copy, layer]})
