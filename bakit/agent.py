"""Measures bundles on a device that cannot install bakit, such as a Jetson Nano.

One file for Python 3.6 and newer, with numpy and what the device has: TensorRT's Python module,
``trtexec``, or ONNX Runtime. ``bakit bench --host`` copies it there with a work folder
(``bakit.bench.device.pack``) and fetches the ``raw.json`` that it writes: times, ages, boxes and
sensor readings. The host computes all statistics (``bakit.bench.assemble``)::

    python3 agent.py info            print what the device has
    python3 agent.py start WORK      measure in the background; survives a lost connection
    python3 agent.py watch WORK      print the progress until the end
    python3 agent.py fetch WORK      print the measurements
    python3 agent.py stop WORK       end what runs, and remove the work folder
    python3 agent.py run WORK        measure in the foreground
    python3 agent.py log WORK        print the end of the log
    python3 agent.py evidence        run a kit (bakit bench --kit), and write all into one file

Answers are JSON. With ``--frame TOKEN`` each comes after a line with the token, its length in bytes
and its SHA-256, so that the host cannot mistake a login shell's text for an answer.

Decoding, preprocessing and the choice of the hand need OpenCV and are done by the host. Measured
here are the two models, each with the copies to and from its memory: ``localize`` and ``regress``;
``total`` is their sum. Engines that TensorRT builds stay in ``~/.cache/bakit/engines``.
"""

import argparse
import contextlib
import ctypes
import functools
import glob
import gzip
import hashlib
import importlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

Array = Any  # numpy has no types in Python 3.6
Json = Dict[str, Any]
Feeds = Dict[str, Array]

INT8_FLAGS = ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""CPU features that affect the speed of INT8 models, and on x86 their accuracy."""
ENGINES = os.path.join("~", ".cache", "bakit", "engines")
ROLES = ("localizer", "regressor")
MAX_IMAGES = 32
"""Different images in the latency run."""
IDLE_S = 3.0
"""Seconds of rest before the power of a run is measured."""
WATCH_S = 3600.0
"""Longest ``watch``; the host then starts another."""
LOG_BYTES = 1 << 20
"""Most of the log that is sent."""
MAX_TRACE = 1200
"""Samples of clocks and temperature, one a second."""
MAX_MONTHS = 1e6
"""A model that predicts more is broken."""

NO_INT8 = "%s has no INT8 unit: use --fp16, or --allow-downgrade"
BUILD_RULES = 2
"""Number of the way that engines are built, in their key: 2 has no TF32 and a float32 last layer.
"""
NO_ANSWER = -2
"""Exit status of a command that was ended because it took too long."""


class AgentError(Exception):
    """An error in one line, with its remedy."""


# ------------------------------------------------------------------ files


def read_json(path: str) -> Any:
    """Return a JSON file's content."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_file(path: str, data: bytes) -> None:
    """Write a file that appears whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=".new-", dir=os.path.dirname(os.path.abspath(path)))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def keep_file(path: str, data: bytes) -> bool:
    """Write a file that only saves time later; return whether there was room for it."""
    try:
        write_file(path, data)
    except OSError as error:
        log("%s: not kept, so that it is made anew next time (%s)" % (path, error.strerror))
        return False
    return True


def write_json(path: str, value: Any) -> None:
    """Write a JSON file that appears whole or not at all.

    Raises:
        ValueError: If a number is not finite.
    """
    write_file(path, json.dumps(value, allow_nan=False).encode("ascii"))


def read_text(path: str) -> str:
    """Return a file's text without what pads it; empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip().strip("\0")
    except OSError:
        return ""


def read_bytes(path: str) -> bytes:
    """Return a file's bytes."""
    with open(path, "rb") as file:
        return file.read()


def clean(value: Any) -> Any:
    """Return a value whose texts fit into one line of a terminal; lists are left as they are."""
    if isinstance(value, str):
        return "".join(letter if letter.isprintable() else " " for letter in value).strip()[:500]
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return value


def sha256(data: bytes) -> str:
    """Return the hex digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def capture(command: Sequence[str], timeout_s: float = 60) -> Tuple[int, str, str]:
    """Run a command; return its exit status (-1: not there), output and errors."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        slow = "no answer within %d seconds: is the SD card slow, or does the board swap?"
        return NO_ANSWER, "", slow % timeout_s
    except OSError as error:
        return -1, "", str(error)
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    return done.returncode, out, err


# ------------------------------------------------------------------ bundles


def read_bundle(root: str) -> Json:
    """Return a bundle's manifest after checking every file that it seals.

    Raises:
        AgentError: If it is no bundle, or a file is missing, was changed or is not sealed.
    """
    path = os.path.join(root, "manifest.json")
    try:
        manifest = read_json(path)
        sealed = {item["path"]: item["sha256"] for item in manifest["golden"]}
        for artifact in manifest["artifacts"]:
            sealed.update(digests_of(artifact))
    except OSError as error:
        raise AgentError("%s: not a bundle: manifest.json is missing (%s)" % (root, error))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AgentError("%s: not a manifest that this agent understands (%r)" % (path, error))
    for name, digest in sorted(sealed.items()):
        check_file(root, name, digest)
    return dict(manifest)


def digests_of(artifact: Json) -> Dict[str, str]:
    """Return the SHA-256 of each file of a model, by its path."""
    items = [artifact] + list(artifact.get("companions", ()))
    return {item["path"]: item["sha256"] for item in items}


def check_file(root: str, name: str, digest: str) -> bytes:
    """Return a file's bytes; refuse a file outside the folder, a missing one and a changed one."""
    inside = os.path.realpath(os.path.join(root, name))
    if not inside.startswith(os.path.realpath(root) + os.sep):
        raise AgentError("%s: the manifest names %r, which leaves the bundle" % (root, name))
    try:
        data = read_bytes(inside)
    except OSError as error:
        raise AgentError("%s: cannot be read (%s); copy the bundle again" % (inside, error))
    if sha256(data) != digest:
        raise AgentError(
            "%s: changed since it was exported (SHA-256 differs); copy it again" % inside
        )
    return data


def read_sealed(root: str, artifact: Json, name: str) -> bytes:
    """Return the bytes of a model's file as the manifest seals them.

    Raises:
        AgentError: If it is not sealed or was changed, or if an ONNX graph has external data.
    """
    digests = digests_of(artifact)
    if name not in digests:
        raise AgentError("%s: %s is built from but not sealed" % (root, name))
    data = check_file(root, name, digests[name])
    # The key, after the length of its string; the search for a fixed string alone is fast.
    if b"location" in data and re.search(rb"[\x08\x00]location", data):
        raise AgentError("%s: refers to external data, which is not sealed" % name)
    return data


def artifact_of(manifest: Json, role: str) -> Json:
    """Return the model of a role."""
    for artifact in manifest["artifacts"]:
        if artifact["role"] == role:
            return dict(artifact)
    raise AgentError("the bundle has no %s; export it again" % role)


def version_tuple(text: str) -> Tuple[int, ...]:
    """Return the numbers of a version, such as ``(8, 2, 1, 8)``."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:4])


def choose_builds(artifact: Json, version: str) -> List[Json]:
    """Return the builds whose range holds this version of TensorRT; later ones are fall-backs.

    Raises:
        AgentError: If there is none.
    """
    builds, here = artifact.get("builds", ()), version_tuple(version)
    ranges = [(build["min_version"], build.get("max_version") or "") for build in builds]
    found = [
        dict(build)
        for build, (least, below) in zip(builds, ranges)
        if version_tuple(least) <= here and (not below or here < version_tuple(below))
    ]
    if found:
        return found
    words = ", ".join(least + (" to below " + below if below else " on") for least, below in ranges)
    hint = ""
    if here[:2] == (8, 0):
        hint = "; JetPack 4.6.0 ships 8.0.1: upgrade to JetPack 4.6.1 or newer"
    raise AgentError(
        "TensorRT %s builds no %s of this bundle, which is for %s%s"
        % (version, artifact["role"], words or "no version at all", hint)
    )


# ------------------------------------------------------------------ the device

# Probes import nothing from the folder that they are started in.
_SAFE_PATH = "import sys; sys.path[:] = [entry for entry in sys.path if entry]\n"
_MODULE_PROBE = _SAFE_PATH + "import %s as m; sys.stdout.write(m.__version__)"

_CUDA_PROBE = (
    _SAFE_PATH
    + """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
code = cuda.cuInit(0)
if code:
    sys.exit("cuInit says %d" % code)
count, device = ctypes.c_int(), ctypes.c_int()
cuda.cuDeviceGetCount(ctypes.byref(count))
if not count.value:
    sys.exit("no GPU")
cuda.cuDeviceGet(ctypes.byref(device), 0)
name = ctypes.create_string_buffer(256)
cuda.cuDeviceGetName(name, 256, device)
parts = []
for attribute in (75, 76, 16):  # compute capability, major and minor; multiprocessors
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    parts.append(value.value)
print(json.dumps({"gpu": name.value.decode(), "sm": parts[:2], "multiprocessors": parts[2]}))
"""
)
# In a process of its own: without a driver TensorRT returns objects that crash when used.

_SM_OF_CHIP = {"tegra210": (5, 3), "tegra186": (6, 2), "tegra194": (7, 2), "tegra234": (8, 7)}


def module_version(name: str, problems: Dict[str, str]) -> Optional[str]:
    """Return an importable module's version; it is imported by another process.

    A module that is there but cannot be imported is added to ``problems`` with the reason.
    """
    status, out, err = capture([sys.executable, "-c", _MODULE_PROBE % name])
    if status == 0 and out.strip():
        return out.strip().splitlines()[-1]
    missing = "No module named '%s'" % name
    if missing not in err:
        problems[name] = (err.strip().splitlines() or ["it crashed (signal %d)" % -status])[-1]
    return None


def probe_cuda() -> Json:
    """Return ``gpu``, ``sm`` and ``multiprocessors``, or ``error``, if it crashed as well."""
    status, out, err = capture([sys.executable, "-c", _CUDA_PROBE])
    if status == 0:
        try:
            return dict(json.loads(out.strip().splitlines()[-1]))
        except (ValueError, IndexError, TypeError):
            return {"error": "the probe of the GPU printed no result"}
    error = (err.strip().splitlines() or ["it crashed"])[-1]
    return {"error": no_access(DEVICE_NODES) or error}


DEVICE_NODES = ("/dev/nvmap", "/dev/nvhost-*gpu", "/dev/nvhost-ctrl", "/dev/nvidia0")
"""What CUDA opens; on a Jetson only members of ``video`` or ``render`` may."""


def no_access(patterns: Sequence[str]) -> str:
    """Return why this user cannot open the GPU, with the remedy; empty if it can."""
    import grp

    for path in [path for pattern in patterns for path in sorted(glob.glob(pattern))]:
        if not os.access(path, os.R_OK | os.W_OK):
            number = os.stat(path).st_gid
            try:
                group = grp.getgrgid(number).gr_name
            except KeyError:
                group = str(number)
            return "no permission to open %s: sudo usermod -aG %s $USER, then log in again" % (
                path,
                group,
            )
    return ""


def no_gpu(info: Json) -> str:
    """Return why TensorRT has no GPU, with the remedy; empty if it has one."""
    error = info["driver_error"]
    if not error:
        return ""
    known = "usermod" in error or "no answer" in error
    remedy = "" if known else "; install the NVIDIA driver of this system's own release"
    return "TensorRT has no GPU to run on (%s)%s" % (error, remedy)


def memory_remedy(root: str = "/") -> str:
    """Return how a board gets more memory, from what it has."""
    found = re.findall(r"^(\w+):\s*(\d+) kB", read_text(os.path.join(root, "proc/meminfo")), re.M)
    kb = {name: int(number) for name, number in found}
    lines = read_text(os.path.join(root, "proc/swaps")).splitlines()[1:]
    disk_kb = sum(int(line.split()[2]) for line in lines if "zram" not in line)
    have = "this board has %.1f GB of memory and %.1f GB of swap on disk" % (
        kb.get("MemTotal", 0) / 1e6,
        disk_kb / 1e6,
    )
    swap = "" if disk_kb > 3.5e6 else "add 4 GB of swap, "
    return have + (
        ": %sstop the desktop (sudo systemctl set-default multi-user.target, then reboot), or give "
        "the builder less (--workspace-mb 128); swap does not help the GPU's own memory" % swap
    )


def was_killed(status: int) -> bool:
    """Return whether the system killed a process; 137 is what a shell makes of it."""
    return status in (-signal.SIGKILL, 137)


def out_of_memory() -> str:
    """Return what ended a process that the system killed."""
    return "the system killed it, most likely for want of memory; " + memory_remedy()


def has_int8(sm: Optional[Sequence[int]]) -> Optional[bool]:
    """Return whether a GPU multiplies 8-bit integers: compute capability 6.1 on, but not 6.2."""
    if sm is None:
        return None
    return tuple(sm) >= (6, 1) and tuple(sm) != (6, 2)


def board_model(root: str = "/") -> str:
    """Return the board's name, such as ``Jetson Nano``; empty where the system has none."""
    name = read_text(os.path.join(root, "proc/device-tree/model"))
    name = re.sub(r"^NVIDIA |( Engineering Reference)? Developer Kit.*$", "", name)
    return name.strip()


def chip_sm(root: str = "/") -> Optional[Tuple[int, int]]:
    """Return the compute capability of a Jetson's chip; known without a working driver."""
    names = read_text(os.path.join(root, "proc/device-tree/compatible"))
    for chip, sm in _SM_OF_CHIP.items():
        if chip in names:
            return sm
    return None


def l4t_release(root: str = "/") -> str:
    """Return NVIDIA's release of the system, such as ``L4T 32.7.1``; empty elsewhere."""
    text = read_text(os.path.join(root, "etc/nv_tegra_release"))
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return "L4T %s.%s" % found.groups() if found else ""


def expand_home(path: str) -> str:
    """Return the absolute path of one that may begin with ``~``.

    Raises:
        AgentError: If this user has no home folder.
    """
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise AgentError(
            "user %d has no home folder: HOME is not set and the user has no account; set HOME"
            % os.getuid()
        )
    return os.path.abspath(found)


DEVICE = ("board", "gpu", "sm", "multiprocessors")
"""What an engine is tuned to. All Orins' GPUs have one name; a power mode may turn off parts."""


def device_info(root: str = "/") -> Json:
    """Return what the device has.

    Raises:
        AgentError: If this user has no home folder.
    """
    cache = place = expand_home(os.path.dirname(ENGINES))
    while not os.path.isdir(place):  # ends at the root at the latest
        place = os.path.dirname(place)
    problems = {}  # type: Dict[str, str]
    cuda = probe_cuda()
    sm = cuda.get("sm") or chip_sm(root)
    info = {
        "python": platform.python_version(),
        "numpy": module_version("numpy", problems),
        "onnxruntime": module_version("onnxruntime", problems),
        "tensorrt": module_version("tensorrt", problems),
        "trtexec": trtexec_version(find_trtexec(), problems),
        "board": board_model(root),
        "system": l4t_release(root),
        "gpu": cuda.get("gpu"),
        "sm": sm,
        "multiprocessors": cuda.get("multiprocessors"),
        "int8": has_int8(sm),
        "driver_error": cuda.get("error"),
        "power_mode": power_mode(root),
        "power_rail": rail_name(name for name, _ in rails(root)),
        "cache": cache,
        "free_mb": shutil.disk_usage(place).free / 1e6,
        "problems": problems,
    }
    return dict(clean(info))


def choose_engine(manifest: Json, info: Json, wanted: str) -> str:
    """Return what runs a bundle here: ``onnxruntime``, ``tensorrt`` or ``trtexec``.

    Raises:
        AgentError: If nothing here does.
    """
    target = manifest["target"]
    fits = {"onnx": ("onnxruntime",), "tensorrt": ("tensorrt", "trtexec", "onnxruntime")}
    if target not in fits:
        raise AgentError("target %r: this agent measures onnx and tensorrt bundles" % target)
    if not info["numpy"]:
        reason = info["problems"].get("numpy")
        raise AgentError(
            "numpy cannot be imported: %s" % reason
            if reason
            else "numpy is missing: sudo apt install python3-numpy"
        )
    choices = [name for name in fits[target] if wanted in ("auto", name)]
    if not choices:
        raise AgentError(
            "--engine %s runs no %s bundle; use %s" % (wanted, target, " or ".join(fits[target]))
        )
    if wanted == "auto" and target == "tensorrt":
        choices.remove("onnxruntime")  # another library's numbers only when they are asked for
    for name in choices:
        if info.get(name):
            return name
    for name in choices:
        if name in info["problems"]:
            raise AgentError(
                "%s cannot run here: %s does not start with Python %s: %s"
                % (target, name, info["python"], info["problems"][name])
            )
    remedy = {
        "onnx": "pip3 install onnxruntime (1.10.0 is the last for Python 3.6)",
        "tensorrt": "sudo apt install tensorrt python3-libnvinfer, and use the system's python3",
    }
    raise AgentError(
        "%s cannot run here: %s is not installed for Python %s; %s"
        % (target, " or ".join(choices), info["python"], remedy[target])
    )


def choose_way(manifest: Json, info: Json, how: Json) -> Tuple[str, bool]:
    """Return what runs a bundle on a device, and whether its INT8 becomes FP16; builds nothing.

    ``how`` has the fields of ``bakit.bench.device.pack.AgentOptions``.

    Raises:
        AgentError: If the bundle cannot be measured there, or not that way.
    """
    engine = choose_engine(manifest, info, how["engine"])
    if how.get("provider") and engine != "onnxruntime":
        raise AgentError("--provider is for onnx bundles: %s runs this one without" % engine)
    if engine == "onnxruntime":
        if manifest["target"] == "tensorrt" and manifest["precision"] != "fp32":
            raise AgentError("--engine onnxruntime runs float32 bundles of tensorrt only")
        return engine, False
    downgrade = manifest["precision"] == "int8" and info["int8"] is False
    if downgrade and not how["allow_downgrade"]:
        raise AgentError(NO_INT8 % (info["board"] or info["gpu"] or "this GPU"))
    if engine == "tensorrt" and no_gpu(info):
        raise AgentError(no_gpu(info))
    for role in ROLES:
        choose_builds(artifact_of(manifest, role), info[engine])
    return engine, downgrade


# ------------------------------------------------------------------ power, clocks, temperature

TOTALS = ("VIN", "VDD_IN", "POM_5V_IN")
"""Rails that hold all others, so that nothing is added to them: Thor, Orin Nano and NX, Nano."""
CONTAINED = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""Rails that another rail holds already: on AGX Orin the memory's is fed from the 5 V rail."""


def rails(root: str = "/") -> List[Tuple[str, Callable[[], float]]]:
    """Return the power sensors' rails with what reads their power in watts, the total first.

    JetPack 4 has the vendor's driver of the INA3221 (mW), JetPack 5 and newer the kernel's hwmon
    (mV and mA), whose channel 7 is a sum and whose unused channels are called NC. Thor's INA238
    (uW) has no label: it measures the input of the carrier board.
    """
    found = []  # type: List[Tuple[str, Callable[[], float]]]
    devices = os.path.join(root, "sys/bus/i2c/devices/*")
    for path in sorted(glob.glob(os.path.join(devices, "iio:device*/rail_name_*"))):
        power = os.path.join(os.path.dirname(path), "in_power%s_input" % path.rsplit("_", 1)[1])
        found.append((read_text(path), functools.partial(_product, 1e3, power)))
    for chip in sorted(glob.glob(os.path.join(devices, "hwmon/hwmon*"))):
        for path in sorted(glob.glob(os.path.join(chip, "in*_label"))):
            channel = os.path.basename(path)[2:-6]
            if read_text(path) != "NC" and channel != "7":
                files = ["%s/%s%s_input" % (chip, kind, channel) for kind in ("in", "curr")]
                found.append((read_text(path), functools.partial(_product, 1e6, *files)))
        if read_text(os.path.join(chip, "name")) == "ina238":
            power = os.path.join(chip, "power1_input")
            found.append(("VIN", functools.partial(_product, 1e6, power)))
    readable = [rail for rail in found if _reads(rail[1])]
    return sorted(readable, key=lambda rail: rail[0] not in TOTALS)


def _product(scale: float, *paths: str) -> float:
    """Return the product of the numbers in some files, divided by a scale."""
    value = 1.0
    for path in paths:
        value *= int(read_text(path))
    return value / scale


def _reads(sensor: Callable[[], float]) -> bool:
    try:
        sensor()
    except ValueError:  # the file is not there, may not be read, or holds no number
        return False
    return True


def parse_tegrastats(line: str) -> Dict[str, float]:
    """Return the power of each rail in watts.

    JetPack 4 prints ``POM_5V_IN 2003/2003``, JetPack 5 and newer ``VDD_IN 5064mW/5064mW``, Thor
    a third number. NC is connected to nothing.
    """
    power = re.findall(r"(\w+) (-?\d+)(?:mW)?(?:/-?\d+(?:mW)?)+(?=\s|$)", line)
    return {name: int(mw) / 1e3 for name, mw in power if name != "NC"}


def parse_temperatures(line: str) -> Dict[str, float]:
    """Return the temperatures in degrees Celsius from a line of ``tegrastats``.

    Older systems print ``cpu@52.9C``, newer ones may add a second number: ``cpu@52.9C/52.9C``.
    """
    return _likely(re.findall(r"(\w+)@(-?\d+(?:\.\d+)?)C(?=[/\s]|$)", line))


def _likely(zones: Iterable[Tuple[str, Any]]) -> Dict[str, float]:
    """Return temperatures without those that are made up: the PMIC's, and of sensors at rest."""
    found = {name: float(value) for name, value in zones if "PMIC" not in name.upper()}
    return {name: value for name, value in found.items() if -50 < value < 200}


def total_rails(names: Iterable[str]) -> List[str]:
    """Return the rails whose sum is the board's power: a total, or all that no other holds."""
    known = sorted(set(names))
    for name in TOTALS:
        if name in known:
            return [name]
    return [name for name in known if CONTAINED.get(name) not in known]


def rail_name(names: Iterable[str]) -> Optional[str]:
    """Return what a figure of power is made of; None without a rail."""
    used = total_rails(names)
    return "sum of %s" % ", ".join(used) if len(used) > 1 else used[0] if used else None


class Sampler:
    """Calls a function at intervals, in a thread, while a ``with`` block runs; keeps the results.

    A reading that fails raises ``ValueError`` and is left out.
    """

    def __init__(self, read: Callable[[], Any], every_s: float, most: int = sys.maxsize) -> None:
        self.rows = []  # type: List[Any]
        self._done = threading.Event()
        self._how = read, every_s, most
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        read, every_s, most = self._how
        while len(self.rows) < most and not self._done.wait(every_s if self.rows else 0):
            try:
                self.rows.append(read())
            except ValueError:
                time.sleep(0.01)


class PowerMeter:
    """Measures the board's power at 20 Hz by its sensors, or more slowly by ``tegrastats``."""

    def __init__(self, root: str = "/") -> None:
        found = dict(rails(root))
        used = {name: found[name] for name in total_rails(found)}
        tegrastats = shutil.which("tegrastats")
        self.rail = ""
        self.available = bool(used or tegrastats)
        self._used, self._tegrastats = used, str(tegrastats)

    def watts(self, during: Callable[[], Any]) -> List[float]:
        """Return the readings while a function runs, in watts."""
        with Sampler(self._read, 0.05) as found:
            during()
        return found.rows

    def _read(self) -> float:
        by_rail = {name: read() for name, read in self._used.items()}
        if not by_rail:
            by_rail = parse_tegrastats(first_line(self._tegrastats, "--interval", "100"))
        if not by_rail:
            raise ValueError("no rail")
        self.rail = str(rail_name(by_rail))
        return sum(by_rail[name] for name in total_rails(by_rail))


def temperatures(root: str = "/") -> Dict[str, float]:
    """Return the thermal zones in degrees Celsius; those of ``tegrastats`` if none can be read."""
    zones = []
    for zone in sorted(glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*"))):
        name, text = (read_text(os.path.join(zone, key)) for key in ("type", "temp"))
        if re.match(r"^-?\d+$", text):
            zones.append((name, int(text) / 1e3))
    tegrastats = None if zones else shutil.which("tegrastats")
    return _likely(zones) if tegrastats is None else parse_temperatures(first_line(tegrastats))


def first_line(*command: str) -> str:
    """Return the first line that an endless command prints within 5 seconds."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        timer = threading.Timer(5, process.kill)
        timer.start()
        line = process.stdout.readline()  # type: ignore[union-attr]
        timer.cancel()
        process.kill()
    return line.decode("utf-8", "replace")


_GPU = re.compile(r"gpu|g[avp]\d+b")
"""Names of the GPU among the devices with a clock."""


def clocks(root: str = "/") -> Dict[str, float]:
    """Return the clocks of ``cpu`` (the fastest core) and ``gpu`` in MHz, as far as known."""
    found = {}
    cores = os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    khz = [int(text) for text in map(read_text, glob.glob(cores)) if text.isdigit()]
    if khz:
        found["cpu"] = max(khz) / 1e3
    for path in sorted(glob.glob(os.path.join(root, "sys/class/devfreq/*/cur_freq"))):
        name, text = os.path.basename(os.path.dirname(path)), read_text(path)
        if _GPU.search(name) and text.isdigit():
            found["gpu"] = int(text) / 1e6
    return found


def clocks_locked(root: str = "/") -> Optional[bool]:
    """Return whether CPU and GPU may not change their clocks, as after ``jetson_clocks``."""
    cores = glob.glob(os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    gpus = glob.glob(os.path.join(root, "sys/class/devfreq/*"))
    files = [os.path.join(path, "scaling_%s_freq") for path in cores]
    files += [os.path.join(path, "%s_freq") for path in gpus if _GPU.search(path)]
    limits = [[read_text(file % end) for end in ("min", "max")] for file in files]
    known = [pair for pair in limits if all(pair)]
    return all(low == high for low, high in known) if known else None


def state_since(began: float) -> List[Optional[float]]:
    """Return seconds, highest temperature in degrees Celsius, CPU and GPU clocks in MHz."""
    now, hottest = clocks(), max(temperatures().values(), default=None)
    return [round(time.monotonic() - began, 1), hottest, now.get("cpu"), now.get("gpu")]


def power_mode(root: str = "/") -> Optional[str]:
    """Return the name of the power mode in force; None where there are none."""
    pattern = r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>"
    modes = dict(re.findall(pattern, read_text(os.path.join(root, "etc/nvpmodel.conf"))))
    asked = capture(["nvpmodel", "-q"], 10)[1] if modes and root == "/" else ""
    found = re.search(r"^NV Power Mode:\s*(\S+)", asked, re.MULTILINE)
    if found:
        return found.group(1)
    # nvpmodel may need root; what it did last stands here.
    found = re.search(r"pmode:0*(\d+)", read_text(os.path.join(root, "var/lib/nvpmodel/status")))
    return modes.get(found.group(1)) if found else None


# ------------------------------------------------------------------ ONNX Runtime

CPU = "CPUExecutionProvider"
PROVIDERS = {
    "AzureExecutionProvider": "onnxruntime",
    CPU: "onnxruntime",
    "CoreMLExecutionProvider": "onnxruntime for macOS",
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "DmlExecutionProvider": "onnxruntime-directml",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "QNNExecutionProvider": "onnxruntime-qnn",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "WebGpuExecutionProvider": "onnxruntime-ep-webgpu",
    "XnnpackExecutionProvider": "no wheel, but a build of ONNX Runtime with --use_xnnpack",
}
"""Providers by ONNX Runtime's names, and the package that has each."""

UNKNOWN = "unknown format"
Ran = Tuple[str, str, int]
"""Provider, number format and multiply-adds of a layer."""


class ProviderError(AgentError):
    """ONNX Runtime has no such provider here, or it does not start; after "; " is the remedy."""


def load_provider(name: str) -> None:
    """Check that ONNX Runtime has a provider; one that is a package of its own is registered."""
    import onnxruntime

    have, package = onnxruntime.get_available_providers(), PROVIDERS[name]
    if name in have:
        return
    remedy = "%s finds no device of its kind" % package
    try:
        plugin = importlib.import_module(package.replace("-", "_"))
        onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
    except (ImportError, AttributeError):
        remedy = "%s has it" % package
    except Exception as error:  # onnxruntime's errors share no public base
        remedy = "%s: %s" % (package, str(error).splitlines()[0])
    if name not in onnxruntime.get_available_providers():
        found = onnxruntime.__version__, name, ", ".join(have), remedy
        raise ProviderError("ONNX Runtime %s has no %s here, only %s; %s" % found)


def open_onnx(
    model: bytes, name: str, threads: int, provider: str = CPU, prepack: bool = True, **more: Any
) -> Any:
    """Open a model in ONNX Runtime; the CPU runs the nodes that a provider does not take.

    A model of bytes has no folder, and no engine is cached, so that a bundle stays as it is.
    ONNX Runtime's own choice of threads (0) would pin them to CPUs outside of this process's
    affinity mask. The CPU copies weights into another layout at the start, for INT8 twice as fast.
    Without ``prepack`` it does not: float32 then takes 2 % longer, and 20 ms and 4 MB less to open.
    ``more`` are further attributes of the session's options.

    Raises:
        AgentError: If the model cannot be loaded.
        ProviderError: If the provider does not start: ONNX Runtime would use the CPU alone.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    more.update(intra_op_num_threads=threads, inter_op_num_threads=1)
    more["log_severity_level"] = 3  # errors only: a library does not write to stderr
    for attribute, value in more.items():
        setattr(options, attribute, value)
    # AVX2 without VNNI adds pairs of u8*s8 products in 16 bits, which saturate; with this,
    # ONNX Runtime uses u8*u8 kernels there and the numbers are the same everywhere.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # Threads that spin between two runs slow down decoding and the other model: with two
    # threads on two virtual cores, both take twice as long.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if provider == CPU:
        options.add_session_config_entry("session.disable_prepacking", str(int(not prepack)))
        try:
            return onnxruntime.InferenceSession(model, options, providers=[CPU])
        except Exception as error:  # onnxruntime's errors share no public base
            why = name, onnxruntime.__version__, str(error).splitlines()[0]
            raise AgentError("%s: ONNX Runtime %s cannot load it: %s" % why)
    load_provider(provider)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    settings = {}
    if provider.startswith("OpenVINO"):
        settings["num_of_threads"] = str(threads)
    if provider.startswith("CUDA") and version_tuple(onnxruntime.__version__) >= (1, 18):
        settings["use_tf32"] = "0"  # float32 keeps its bits, as in TensorRT's engines
    how = {"providers": [(provider, settings), CPU]}  # type: Json
    known = getattr(onnxruntime, "get_ep_devices", list)()  # type: List[Any]
    devices = [device for device in known if device.ep_name == provider]
    if devices:  # of a plug-in, which ONNX Runtime does not open by name: an NPU, GPU or CPU
        best = max(devices, key=lambda found: int(found.device.type))
        options.add_provider_for_devices([best], settings)
        how = {}
    reason = "ONNX Runtime tells no reason"
    try:
        session = onnxruntime.InferenceSession(model, options, enable_fallback=0, **how)
        if provider in session.get_providers():
            session.disable_fallback()  # to the CPU, for runs that fail
            return session
    except Exception as error:
        open_onnx(model, name, threads)  # raises if the model is at fault
        reason = re.sub(r".*(\)|: [A-Z_]+ :) ", "", str(error).splitlines()[0])
    library = "libonnxruntime_providers_%s.so" % provider[: -len("ExecutionProvider")].lower()
    path = os.path.join(os.path.dirname(onnxruntime.__file__), "capi", library)
    try:
        if os.path.isfile(path):
            ctypes.CDLL(path)
    except OSError as error:
        reason = str(error)  # ONNX Runtime only logs it
    text = "%s does not start (%s); install the driver and the libraries that it needs"
    raise ProviderError(text % (provider, reason))


def assigned_nodes(session: Any, provider: str) -> Dict[str, str]:
    """Return each node's provider, by the node's name; ONNX Runtime below 1.24 does not tell."""
    if provider == CPU or not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    parts = session.get_provider_graph_assignment_info()
    return {node.name: part.ep_name for part in parts for node in part.get_nodes()}


def provider_words(session: Any, model: bytes, provider: str) -> str:
    """Return what runs an open model: its provider, and how many nodes it took if not all."""
    if provider == CPU:
        return CPU
    units = list(assigned_nodes(session, provider).values())
    units = units or [args["provider"] for _, args in profile_onnx(model, provider)[0]]
    count = units.count(provider)
    if not count:
        return "%s; %s took no node" % (CPU, provider)
    return provider if count == len(units) else "%s, %d of %d nodes" % (provider, count, len(units))


def profile_onnx(
    model: bytes, provider: str, **more: Any
) -> Tuple[List[Tuple[str, Json]], Dict[str, str]]:
    """Return name and facts of each kernel of one run on zeros, and ``assigned_nodes``."""
    import numpy

    with tempfile.TemporaryDirectory(prefix="bakit-") as folder:
        more["profile_file_prefix"] = os.path.join(folder, "profile")
        session = open_onnx(model, "the model", 1, provider, enable_profiling=True, **more)
        feeds = {}
        for item in session.get_inputs():  # a film has any size
            shape = [size if isinstance(size, int) else 256 for size in item.shape]
            feeds[item.name] = numpy.zeros(shape, "uint8" if "uint8" in item.type else "float32")
        session.run(None, feeds)
        events = read_json(session.end_profiling())
    end = "_kernel_time"
    kernels = [
        (event["name"][: -len(end)], event["args"])
        for event in events
        if event["cat"] == "Node" and event["name"].endswith(end)
    ]
    return kernels, assigned_nodes(session, provider)


def layers_run(model: bytes, provider: str = CPU) -> List[Ran]:
    """Return what ran each layer of a model; empty if it is unknown.

    The graph as written has the shapes of each layer. The optimized one has its kernel, whose name
    begins with the layer's or with that of an activation behind it. A provider that merges or
    compiles nodes names its kernels itself: it ran the layers that it was assigned, in the number
    format of its kernels, which is unknown if they have none or several.
    """
    import onnxruntime

    products = {}  # type: Dict[str, int]
    layers = {}  # type: Dict[str, str]  # by node, the last layer up to it
    last = ""
    plain = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name, args in profile_onnx(model, CPU, graph_optimization_level=plain)[0]:
        if "input_type_shape" not in args:  # ONNX Runtime 1.10
            return []
        if args["op_name"] in ("Conv", "Gemm"):
            (weight,) = args["input_type_shape"][1].values()
            (output,) = args["output_type_shape"][0].values()
            last, products[name] = name, 1
            for size in output[2:] + weight:
                products[name] *= size
        layers[name] = last
    ran = {}  # type: Dict[str, Tuple[str, str]]
    formats = {}  # type: Dict[str, Any]  # by provider
    kernels, assigned = profile_onnx(model, provider)
    for name, args in kernels:
        kind, unit = args["op_name"], args["provider"]
        if "Conv" in kind or "Gemm" in kind:
            own = [node for node in layers if re.sub("^fused ", "", name).startswith(node)]
            precision = "int8" if kind.startswith("Q") or "Integer" in kind else "f32"
            ran[layers.get(max(own, key=len, default=""), "")] = unit, precision
            formats.setdefault(unit, set()).add(precision)
    ran.pop("", None)
    for layer in set(assigned) & (set(products) - set(ran)):
        known = formats.get(assigned[layer], ())
        if assigned[layer] != CPU:
            ran[layer] = assigned[layer], max(known) if len(known) == 1 else UNKNOWN
    if ran.keys() != products.keys():  # kernels of another kind or name
        return []
    return [ran[layer] + (products[layer],) for layer in products]


# ------------------------------------------------------------------ models


class Model:
    """An open model, and the figures of its engine.

    ``layers`` counts them by precision; ``spans`` has the GPU's and the enqueue time in ms of each
    query; ``notes`` are deviations from the first build; ``path`` is the graph that was built, and
    ``inspected`` the engine inspector's JSON. Without a build, seconds and megabytes are None.
    """

    provider = CPU
    timing = "wall"

    def __init__(self) -> None:
        self.layers = {}  # type: Dict[str, int]
        self.spans = []  # type: List[Tuple[float, float]]
        self.notes = []  # type: List[str]
        self.build_s = self.engine_mb = None  # type: Optional[float]
        self.path = self.inspected = ""


class OnnxRuntimeModel(Model):
    """A model in ONNX Runtime."""

    def __init__(self, root: str, artifact: Json, settings: Json) -> None:
        Model.__init__(self)
        self._chosen = settings.get("provider") or CPU
        self._read = functools.partial(read_sealed, root, artifact, artifact["path"])
        model, name = self._read(), os.path.join(root, artifact["path"])
        self._session = open_onnx(model, name, settings["threads"] or cpu_count(), self._chosen)
        self._session._model_bytes = b""  # a copy of its weights
        self.provider = provider_words(self._session, model, self._chosen)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> Feeds:
        """Run one inference."""
        return dict(zip(self._outputs, self._session.run(None, feeds)))

    def ran(self) -> List[Ran]:
        """Return what ran each layer (``layers_run``)."""
        return layers_run(self._read(), self._chosen)

    def close(self) -> None:
        """Free the model."""
        self._session = None


class Cudart:
    """The CUDA runtime through ctypes: there is no binding that all JetPacks have."""

    def __init__(self) -> None:
        self._lib = self._load()
        self._lib.cudaGetErrorString.restype = ctypes.c_char_p
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._lib.cudaMemcpyAsync.argtypes = [pointer, pointer, size, ctypes.c_int, pointer]
        driver, runtime = self._version("Driver"), self._version("Runtime")
        if runtime // 1000 > driver // 1000:  # within a major version they may differ
            raise AgentError(
                "the NVIDIA driver is too old: it is for CUDA %d.%d, and TensorRT's libraries are "
                "for %d.%d; update the driver, or install an older TensorRT"
                % (driver // 1000, driver % 1000 // 10, runtime // 1000, runtime % 1000 // 10)
            )

    def _version(self, name: str) -> int:
        """Return a version as CUDA writes it: 12060 for 12.6."""
        value = ctypes.c_int()
        self.call("cuda%sGetVersion" % name, ctypes.byref(value))
        return value.value

    @staticmethod
    def _load() -> Any:
        given = os.environ.get("BAKIT_CUDART")
        names = ["libcudart.so.%s" % v for v in ("10.2", "11.0", "12", "13")] + ["libcudart.so"]
        places = ["", "/usr/local/cuda/lib64/"]
        for path in sys.path:
            places += [path + "/nvidia/cuda_runtime/lib/", path + "/nvidia/cu13/lib/"]
        for path in [given] if given else [place + name for place in places for name in names]:
            try:
                return ctypes.CDLL(path)
            except OSError:
                continue
        raise AgentError(
            "%s is not found: sudo apt install cuda-cudart, or set BAKIT_CUDART to the file"
            % (given or "libcudart.so")
        )

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the runtime.

        Raises:
            AgentError: If it fails.
        """
        code = getattr(self._lib, name)(*arguments)
        if code:
            text = (self._lib.cudaGetErrorString(code) or b"?").decode("utf-8", "replace")
            raise AgentError("%s says %d: %s" % (name, code, text))

    def malloc(self, size: int, function: str = "cudaMalloc") -> ctypes.c_void_p:
        """Allocate memory in bytes: the device's, or pinned memory of the host."""
        pointer = ctypes.c_void_p()
        self.call(function, ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer

    def event(self) -> ctypes.c_void_p:
        """Return an event, a point on a stream that has a time."""
        event = ctypes.c_void_p()
        self.call("cudaEventCreate", ctypes.byref(event))
        return event

    def elapsed_ms(self, first: ctypes.c_void_p, last: ctypes.c_void_p) -> float:
        """Return the GPU's time between two events in ms."""
        span = ctypes.c_float()
        self.call("cudaEventElapsedTime", ctypes.byref(span), first, last)
        return span.value


def engine_path(folder: str, key: Json, end: str = ".engine") -> str:
    """Return the file of a built engine; ``key`` is all that decides its bytes."""
    folder = expand_home(folder)
    with contextlib.suppress(OSError):  # nothing is kept then, and ``keep_file`` logs why
        os.makedirs(folder, exist_ok=True)
    digest = sha256(json.dumps(key, sort_keys=True).encode("utf-8"))[:24]
    return os.path.join(folder, digest + end)


def read_engine(path: str) -> Optional[bytes]:
    """Return an engine; None if there is none or it is not what was written."""
    try:
        data = read_bytes(path)
    except OSError:
        return None
    if sha256(data) == read_text(path + ".sha256"):
        return data
    log("%s: cut short or changed; it is built anew" % path)
    return None


def keep_engine(path: str, data: bytes) -> None:
    """Keep an engine with its digest, if the disk has room."""
    if keep_file(path, data):
        keep_file(path + ".sha256", sha256(data).encode("ascii"))


def usable_builds(artifact: Json, version: str, downgrade: bool) -> List[Json]:
    """Return the builds for this version; a downgraded one must not hold INT8 in its graph."""
    builds = choose_builds(artifact, version)
    if downgrade and builds[0].get("strongly_typed"):
        raise AgentError("TensorRT %s builds the INT8 graph as it is: export with --fp16" % version)
    if downgrade and "int8" in builds[0].get("flags", ()):
        # Without the INT8 flag, TensorRT refuses a graph with quantize-dequantize pairs.
        return [dict(next(b for b in artifact["builds"] if b.get("calibration_cache")))]
    return builds


def precision_words(layers: Dict[str, int], recipe: "Recipe", fallback: bool = False) -> str:
    """Return what an engine computes in: what its layers say, or else what was asked for."""
    held = [name for name in ("int8", "fp16", "fp32") if layers.get(name)]
    words = "+".join(held or recipe.flags) or "fp32"
    if not held and recipe.build.get("strongly_typed"):
        words = "with the types of %s" % recipe.build["path"]
    return words + (", fall-back %s" % recipe.build["path"] if fallback else "")


def with_header(cache: bytes, version: str) -> bytes:
    """Return a calibration cache with this TensorRT's own number in its first line.

    The scales are ours and the same for all versions; TensorRT wants to have written them.
    """
    numbers = list(version_tuple(version)) + [0, 0, 0]
    scale = 10000 if numbers[0] >= 10 else 1000
    number = numbers[0] * scale + numbers[1] * 100 + numbers[2]
    return re.sub(rb"^TRT-\d+-", b"TRT-%d-" % number, cache)


class Recipe(NamedTuple):
    """What makes an engine; ``path`` is the file that keeps it."""

    build: Json
    flags: List[str]
    graph: bytes
    cache: bytes
    path: str


def read_recipes(root: str, artifact: Json, options: Json, tool: str, version: str) -> List[Recipe]:
    """Return the recipes for this version of ``tool``; later ones are fall-backs."""
    found = []
    builds = usable_builds(artifact, version, options["downgrade"])
    if options.get("build") is not None:
        builds = builds[options["build"] :][:1]
    for build in builds:
        flags, cache = set(build.get("flags", ())), b""
        if options["downgrade"]:
            flags = flags - {"int8"} | {"fp16"}
        graph = read_sealed(root, artifact, build["path"])
        if "int8" in flags and build.get("calibration_cache"):
            cache = read_sealed(root, artifact, build["calibration_cache"])
        key = {
            tool: version,
            "device": options["device"],
            "rules": BUILD_RULES,
            "graph": digests_of(artifact)[build["path"]],  # ``read_sealed`` has checked it
            "flags": sorted(flags),
            "strongly_typed": bool(build.get("strongly_typed")),
            "calibration": sha256(cache),
            "workspace_mb": options["workspace_mb"],
            "tf32": bool(options.get("tf32")),
        }
        path = engine_path(options["cache"], key)
        found.append(Recipe(build, sorted(flags), graph, with_header(cache, version), path))
    return found


class TensorRtModel(Model):
    """A model in TensorRT 8.2 to 11, built on this device or taken from the cache of engines.

    Which interface the library has is found by asking for it, not by its version.
    """

    _engine = None  # type: Any

    def __init__(self, root: str, artifact: Json, options: Json) -> None:
        import numpy
        import tensorrt

        Model.__init__(self)
        self._np, self._trt = numpy, tensorrt
        self._logger = make_logger(tensorrt)
        self._cuda = Cudart()
        self._memory = []  # type: List[Tuple[str, ctypes.c_void_p]]
        version = tensorrt.__version__
        recipes = read_recipes(root, artifact, options, "tensorrt", version)
        self._runtime = tensorrt.Runtime(self._logger)
        recipe = self._open_kept(recipes) or self._build_first(recipes, options)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise AgentError(
                "TensorRT has not enough memory to run the engine; close other programs"
                + self._why()
            )
        self.inspected = self._inspect()
        self.layers = count_precisions(self.inspected)
        self.path = recipe.build["path"]
        words = precision_words(self.layers, recipe, recipe is not recipes[0])
        self.provider = "TensorRT %s %s" % (version, words)
        self._stream = ctypes.c_void_p()
        self._cuda.call("cudaStreamCreate", ctypes.byref(self._stream))
        self._events = [self._cuda.event() for _ in range(2)]
        self.tensors = self._bind()

    def _why(self) -> str:
        """Return TensorRT's last error as the end of a message."""
        return ": %s" % self._logger.errors[-1] if self._logger.errors else "; see the log"

    # -- building

    def _open_kept(self, recipes: Sequence[Recipe]) -> Optional[Recipe]:
        """Open the first engine of the cache; one that TensorRT cannot read is built anew."""
        for recipe in recipes:
            kept = read_engine(recipe.path)
            self._engine = self._runtime.deserialize_cuda_engine(kept) if kept else None
            if self._engine is not None:
                if recipe is not recipes[0]:
                    self.notes.append("%s: kept from an earlier run" % recipe.build["path"])
                return recipe
            if kept:
                log("%s: of another system; it is built anew" % recipe.path)
        return None

    def _build_first(self, recipes: Sequence[Recipe], options: Json) -> Recipe:
        """Build and open the first recipe that TensorRT has kernels for.

        A build that lacks memory is tried again without the libraries that take most of it.
        """
        version, warned = self._trt.__version__, False
        place = {"tensorrt": version, "device": options["device"]}
        timing = engine_path(options["cache"], place, ".timing")
        started = time.perf_counter()
        for recipe in recipes:
            data = self._build(recipe, timing, options, False)
            if data is None and self._logger.lacks_memory:
                log("not enough memory: once more without cuDNN and cuBLAS")
                data = self._build(recipe, timing, options, True)
            if data is not None:
                self.build_s = time.perf_counter() - started
                self._engine = self._runtime.deserialize_cuda_engine(data)
                if self._engine is None:
                    raise AgentError("TensorRT cannot read what it has built" + self._why())
                self.engine_mb = len(data) / 1e6
                keep_engine(recipe.path, data)
                return recipe
            self.notes.append("TensorRT cannot build %s%s" % (recipe.build["path"], self._why()))
            log(self.notes[-1])
            warned = warned or self._logger.lacks_memory
            if lacks_memory(self._why()):
                break
        text = "TensorRT %s: %s" % (version, "; ".join(self.notes))
        raise AgentError("%s; %s" % (text, builder_remedy(text)) if warned else text)

    def _build(
        self, recipe: Recipe, timing: str, options: Json, few_libraries: bool
    ) -> Optional[bytes]:
        """Return an engine; None if TensorRT builds none, and the logger has the reason."""
        trt = self._trt
        self._logger.forget()
        builder = trt.Builder(self._logger)
        network = builder.create_network(self._network_flags(recipe.build))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(recipe.graph):
            errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
            raise AgentError(
                "TensorRT %s cannot read %s: %s"
                % (
                    trt.__version__,
                    recipe.build["path"],
                    "; ".join(errors) or "it does not say why",
                )
            )
        config = builder.create_builder_config()
        if hasattr(config, "set_memory_pool_limit"):
            config.set_memory_pool_limit(
                trt.MemoryPoolType.WORKSPACE, options["workspace_mb"] << 20
            )
        else:
            config.max_workspace_size = options["workspace_mb"] << 20
        if few_libraries and hasattr(config, "set_tactic_sources"):
            config.set_tactic_sources(0)
        if hasattr(trt, "ProfilingVerbosity"):
            config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        # Set by default: float32 with 10 bits of mantissa.
        if hasattr(trt.BuilderFlag, "TF32") and not options.get("tf32"):
            config.clear_flag(trt.BuilderFlag.TF32)
        calibrator = self._set_precision(config, network, recipe)
        known = read_bytes(timing) if os.path.isfile(timing) else b""
        cache = config.create_timing_cache(known)
        if cache is None or not config.set_timing_cache(cache, False):
            log("%s: of another TensorRT or damaged; it is written anew" % timing)
            config.set_timing_cache(config.create_timing_cache(b""), False)
        data = builder.build_serialized_network(network, config)
        del calibrator  # it had to live until here
        if data is None:
            return None
        keep_file(timing, bytes(config.get_timing_cache().serialize()))
        return bytes(data)

    def _network_flags(self, build: Json) -> int:
        kinds = self._trt.NetworkDefinitionCreationFlag
        names = ["EXPLICIT_BATCH"] + ["STRONGLY_TYPED"] * bool(build.get("strongly_typed"))
        return sum(1 << int(getattr(kinds, name)) for name in names if hasattr(kinds, name))

    def _set_precision(self, config: Any, network: Any, recipe: Recipe) -> Any:
        """Set the precision; return the calibrator, which must outlive the build."""
        flags, cache = recipe.flags, recipe.cache
        trt = self._trt
        if recipe.build.get("strongly_typed"):
            return None
        for flag in flags:
            if not hasattr(trt.BuilderFlag, flag.upper()):
                raise AgentError(
                    "TensorRT %s has no %s flag any more; the bundle is from another bakit: "
                    "export it again" % (trt.__version__, flag.upper())
                )
            config.set_flag(getattr(trt.BuilderFlag, flag.upper()))
        if flags and hasattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS"):
            config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
            keep_last_float(network, trt)
        if "int8" not in flags or not cache:
            return None

        class Ranges(trt.IInt8EntropyCalibrator2):  # type: ignore[misc, name-defined]
            """Hands over the ranges that the bundle brings; has no images to find others."""

            def __init__(self) -> None:
                trt.IInt8EntropyCalibrator2.__init__(self)

            def get_batch_size(self) -> int:
                return 1

            def get_batch(self, names: Sequence[str]) -> None:
                del names

            def read_calibration_cache(self) -> bytes:
                return cache

            def write_calibration_cache(self, data: bytes) -> None:
                del data

        config.int8_calibrator = Ranges()
        return config.int8_calibrator

    # -- running

    def _inspect(self) -> str:
        """Return the engine inspector's JSON; empty in a version without an inspector."""
        if not hasattr(self._engine, "create_engine_inspector"):
            return ""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def _bind(self) -> List[Tuple[str, bool, Array, Any]]:
        """Allocate memory for every input and output: name, is it an input, host array, pointer.

        The host's memory is pinned, as in trtexec: else each copy goes through a second buffer.
        """
        found = []
        for name, is_input, shape, kind in self._describe():
            kind = str(kind).rsplit(".", 1)[-1]
            types = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT8": "int8"}
            if kind not in types:
                raise AgentError("the engine's %s is %s, which no model of ours has" % (name, kind))
            empty = self._np.zeros(tuple(shape), types[kind])
            pointers = []
            for free, allocate in (("cudaFreeHost", "cudaMallocHost"), ("cudaFree", "cudaMalloc")):
                pointers.append(self._cuda.malloc(empty.nbytes, allocate))
                self._memory.append((free, pointers[-1]))
            raw = (ctypes.c_byte * empty.nbytes).from_address(pointers[0].value or 0)  # type: Any
            array = self._np.frombuffer(raw, empty.dtype).reshape(empty.shape)
            if self._by_name and not self._context.set_tensor_address(name, pointers[1].value):
                raise AgentError("TensorRT does not take the memory of %s" % name)
            found.append((name, is_input, array, pointers[1]))
        return found

    @property
    def _by_name(self) -> bool:
        """Whether tensors go by name (8.5 on) and not by the index of a binding."""
        return hasattr(self._engine, "num_io_tensors")

    def _describe(self) -> Iterable[Tuple[str, bool, Sequence[int], Any]]:
        engine = self._engine
        if self._by_name:
            for index in range(engine.num_io_tensors):
                name = engine.get_tensor_name(index)
                is_input = engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
                yield name, is_input, engine.get_tensor_shape(name), engine.get_tensor_dtype(name)
            return
        for index in range(engine.num_bindings):
            yield (
                engine.get_binding_name(index),
                bool(engine.binding_is_input(index)),
                engine.get_binding_shape(index),
                engine.get_binding_dtype(index),
            )

    def run(self, feeds: Feeds) -> Feeds:
        """Run one inference, copies to and from the GPU included."""
        cuda, stream = self._cuda, self._stream
        first, last = self._events
        cuda.call("cudaEventRecord", first, stream)
        for name, is_input, array, pointer in self.tensors:
            if is_input:
                array[...] = feeds[name]
                place = array.ctypes.data
                cuda.call("cudaMemcpyAsync", pointer, place, array.nbytes, 1, stream)  # to device
        begin = time.perf_counter()
        if self._by_name:
            done = self._context.execute_async_v3(stream.value or 0)
        else:
            pointers = [int(pointer.value or 0) for _, _, _, pointer in self.tensors]
            done = self._context.execute_async_v2(pointers, stream.value or 0)
        enqueue_ms = (time.perf_counter() - begin) * 1e3
        if not done:
            raise AgentError("TensorRT could not run the engine" + self._why())
        for _, is_input, array, pointer in self.tensors:
            if not is_input:
                place = array.ctypes.data
                cuda.call("cudaMemcpyAsync", place, pointer, array.nbytes, 2, stream)  # to host
        cuda.call("cudaEventRecord", last, stream)
        cuda.call("cudaStreamSynchronize", stream)
        self.spans.append((cuda.elapsed_ms(first, last), enqueue_ms))
        return {name: array.copy() for name, is_input, array, _ in self.tensors if not is_input}

    def close(self) -> None:
        """Free the memory, then the engine."""
        self.tensors = []
        for free, pointer in self._memory:
            self._cuda.call(free, pointer)
        self._memory = []
        if self._stream.value:
            for event in self._events:
                self._cuda.call("cudaEventDestroy", event)
            self._cuda.call("cudaStreamDestroy", self._stream)
            self._stream = ctypes.c_void_p()
        self._context = self._engine = self._runtime = None


def make_logger(trt: Any) -> Any:
    """Return a logger of TensorRT that writes to our log and keeps what a build lacked."""

    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps ``errors``, newest last, and whether memory was short."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.forget()

        def forget(self) -> None:
            self.errors = []  # type: List[str]
            self.lacks_memory = False  # a tactic that is skipped for it is a warning only

        def log(self, severity: Any, text: str) -> None:
            level = int(severity)  # internal error, error, warning, information
            if level <= 2:
                log("[TRT] [%s] %s" % ("FEW"[level], text))
                self.lacks_memory = self.lacks_memory or lacks_memory(text)
            if level <= 1:
                self.errors.append(str(clean(text)))

    return Log()


def keep_last_float(network: Any, trt: Any) -> None:
    """Make the last layer compute in float32: above 128 months, float16 has steps of 1/8 month.

    A dense layer is a product and a sum, up to 8.4 one fully connected layer.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    producers = {
        layer.get_output(index).name: layer
        for layer in layers
        for index in range(layer.num_outputs)
    }
    products = ("MATRIX_MULTIPLY", "FULLY_CONNECTED", "CONVOLUTION")
    constants = ("CONSTANT", "SHAPE")
    left = [network.get_output(0).name]
    while left:
        layer = producers.get(left.pop())
        kind = "" if layer is None else str(layer.type).rsplit(".", 1)[-1]
        if layer is None or kind in constants:
            continue
        layer.precision = trt.float32
        for index in range(layer.num_outputs):
            layer.set_output_type(index, trt.float32)
        if kind in products:
            return
        left += [layer.get_input(index).name for index in range(layer.num_inputs)][::-1]


def builder_remedy(text: str) -> str:
    """Return how a build that failed with a message about memory gets what it lacked."""
    if "workspace" in text.lower():
        return "give the builder more: --workspace-mb 1024"
    return memory_remedy()


def lacks_memory(text: str) -> bool:
    """Return whether TensorRT's message is about memory, the builder's workspace included."""
    short = r"insufficient (\w+ )?(memory|workspace)|memory is insufficient|increas\w+ workspace"
    return bool(re.search(r"out ?of ?memory|cudaMalloc|bad_alloc|" + short, text, re.IGNORECASE))


def count_precisions(text: str) -> Dict[str, int]:
    """Return how many layers there are by precision, from an engine inspector's JSON.

    A layer counts as what its output is: ``Format/Datatype`` up to 10, ``Datatype`` in 11.
    Layers that only copy are left out.
    """
    counts = {}  # type: Dict[str, int]
    try:
        layers = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return counts
    for layer in layers:
        outputs = layer.get("Outputs") if isinstance(layer, dict) else None
        if not outputs or layer.get("LayerType") in ("Reformat", "NoOp", "Constant"):
            continue
        words = str(outputs[0].get("Datatype") or outputs[0].get("Format/Datatype") or "")
        found = re.search("(int8)|(fp16|half)|(fp32|float)|(int32)", words, re.IGNORECASE)
        if found:
            name = ("int8", "fp16", "fp32", "int32")[(found.lastindex or 1) - 1]
            counts[name] = counts.get(name, 0) + 1
    return counts


# ------------------------------------------------------------------ trtexec


def find_trtexec() -> Optional[str]:
    """Return the path of ``trtexec``."""
    places = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec")
    return shutil.which("trtexec") or next(filter(os.path.isfile, places), None)


def trtexec_version(path: Optional[str], problems: Dict[str, str]) -> Optional[str]:
    """Return the version in the line that ``trtexec`` starts with.

    A program that is there but does not start is added to ``problems`` with the reason.
    """
    if path is None:
        return None
    said = "".join(capture([path, "--help"])[1:])
    version = parse_trtexec_version(said)
    if version is None:
        problems["trtexec"] = (said.strip().splitlines() or ["it prints no version"])[-1]
    return version


def parse_trtexec_version(text: str) -> Optional[str]:
    """Return a version from ``[TensorRT v8201]`` or ``[TensorRT v100300]``."""
    found = re.search(r"\[TensorRT v(\d+)\]", text)
    if not found:
        return None
    number = int(found.group(1))
    scale = 10000 if number >= 100000 else 1000
    return "%d.%d.%d" % (number // scale, number % scale // 100, number % 100)


def trtexec_build_flags(build: Json, flags: Sequence[str], version: str, mb: int) -> List[str]:
    """Return the options of a build in the words of this generation of ``trtexec``.

    ``--workspace`` became ``--memPoolSize`` in 8.4; ``--fp16``, ``--int8`` and ``--calib`` ended
    with 10, and 11 is strongly typed without being asked.
    """
    number = version_tuple(version)
    options = ["--memPoolSize=workspace:%d" % mb if number >= (8, 4) else "--workspace=%d" % mb]
    options += ["--noTF32", "--profilingVerbosity=detailed"]
    if build.get("strongly_typed"):
        return options + (["--stronglyTyped"] if number < (11,) else [])
    if number >= (11,) and flags:
        raise AgentError("TensorRT %s has no precision flags: export the bundle again" % version)
    options += ["--" + flag for flag in flags]
    if flags and number >= (8, 4):  # 8.2 has no such option: its last layer may be float16
        options += ["--precisionConstraints=obey", "--layerPrecisions=age_months:fp32"]
        options += ["--layerOutputTypes=age_months:fp32"]
    return options


def parse_export_times(text: str) -> List[Tuple[float, float]]:
    """Return latency and enqueue time in ms from ``trtexec --exportTimes`` (8, 10 or 11).

    A latency is a sum of times between CUDA events, with the copies to and from the GPU; it is
    another quantity than our wall clock. ``endToEndMs`` exists in 8 only.

    Raises:
        AgentError: If it holds no times.
    """
    try:
        rows = json.loads(text)
        times = [
            (
                sum(float(row[part]) for part in ("h2dMs", "computeMs", "d2hMs")),
                float(row.get("endEnqMs", 0)) - float(row.get("startEnqMs", 0)),
            )
            for row in rows
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise AgentError("trtexec wrote times that this agent does not understand (%r)" % error)
    if not times:
        raise AgentError("trtexec wrote no times; see the log")
    return times


def parse_export_output(text: str) -> Dict[str, List[float]]:
    """Return the outputs by name from what ``trtexec --exportOutput`` wrote."""
    try:
        return {item["name"]: [float(v) for v in item["values"]] for item in json.loads(text)}
    except (ValueError, KeyError, TypeError) as error:
        raise AgentError("trtexec wrote outputs that this agent does not understand (%r)" % error)


class TrtexecModel(Model):
    """A model driven through ``trtexec``, for a Python without TensorRT.

    Every ``run`` starts a process; times come from ``time_ms``, which trtexec measures itself.
    """

    timing = "trtexec"

    def __init__(self, root: str, artifact: Json, options: Json) -> None:
        import numpy

        Model.__init__(self)
        self._np = numpy
        self._tool = str(find_trtexec())
        version = str(trtexec_version(self._tool, {}))
        self._scratch = tempfile.mkdtemp(prefix="trtexec-", dir=options["work"])
        self._specs = {item["name"]: item for item in artifact["outputs"]}
        recipes = read_recipes(root, artifact, options, "trtexec", version)
        for recipe in recipes:
            try:
                self._open(recipe, version, options["workspace_mb"])
            except AgentError as error:
                self.notes.append("%s: %s" % (recipe.build["path"], error))
                if recipe is recipes[-1]:
                    raise AgentError("; ".join(self.notes))
                continue
            break
        self.path = recipe.build["path"]
        self._words = "trtexec %s " % version, recipe, recipe is not recipes[0]

    @property
    def provider(self) -> str:  # type: ignore[override]
        """What runs it; the precisions are known after the first ``run``."""
        name, recipe, fallback = self._words
        return name + precision_words(self.layers, recipe, fallback)

    def _open(self, recipe: Recipe, version: str, mb: int) -> None:
        """Find the recipe's engine in the cache, or build it."""
        self._engine = recipe.path
        if read_engine(self._engine) is not None:
            return
        if "int8" in recipe.flags and not (recipe.cache or b"QuantizeLinear" in recipe.graph):
            raise AgentError("without its ranges trtexec would make up an INT8 model")
        names = ("graph.onnx", "calibration.cache", "new.engine")
        graph, calibration, new = (os.path.join(self._scratch, name) for name in names)
        write_file(graph, recipe.graph)
        command = ["--onnx=" + graph, "--saveEngine=" + new]
        command += trtexec_build_flags(recipe.build, recipe.flags, version, mb)
        if recipe.cache:
            write_file(calibration, recipe.cache)
            command.append("--calib=" + calibration)
        started, old = time.perf_counter(), version_tuple(version) < (10,)
        command.append("--buildOnly" if old else "--skipInference")
        try:
            self._call(command)
        except AgentError as error:
            if not (old and lacks_memory(str(error))):
                raise
            log("not enough memory: once more without cuDNN and cuBLAS")
            self._call(command + ["--tacticSources=-CUDNN,-CUBLAS,-CUBLAS_LT"])
        self.build_s = time.perf_counter() - started
        self._engine = new  # the disk may have no room for another
        keep_engine(recipe.path, read_bytes(new))

    def _call(self, options: Sequence[str]) -> None:
        status, out, err = capture([self._tool] + list(options), timeout_s=7200)
        if status == 0:
            return
        log(out + err)
        if status == NO_ANSWER:
            raise AgentError("trtexec was not done after 2 hours and was ended")
        if was_killed(status):
            raise AgentError("trtexec: " + out_of_memory())
        lines = [line for line in (out + err).splitlines() if "[E]" in line]
        text = "trtexec failed: %s" % (lines or ["it does not say why"])[-1]
        raise AgentError("%s; %s" % (text, builder_remedy(text)) if lacks_memory(text) else text)

    def _load(self, feeds: Feeds) -> List[str]:
        pairs = []
        for name, array in feeds.items():
            path = os.path.join(self._scratch, name + ".bin")
            write_file(path, self._np.ascontiguousarray(array).tobytes())
            pairs.append("%s:%s" % (name, path))
        return ["--loadEngine=" + self._engine, "--loadInputs=" + ",".join(pairs)]

    def run(self, feeds: Feeds) -> Feeds:
        """Run one inference in a process of its own."""
        file = os.path.join(self._scratch, "output.json")
        once = ["--iterations=1", "--warmUp=0", "--duration=0", "--exportOutput=" + file]
        layers = os.path.join(self._scratch, "layers.json")
        if not self.layers:
            once += ["--exportLayerInfo=" + layers, "--profilingVerbosity=detailed"]
        self._call(self._load(feeds) + once)
        self.layers = self.layers or count_precisions(read_text(layers))
        outputs = parse_export_output(read_text(file))
        return {
            name: self._np.array(outputs[name], spec["dtype"]).reshape(spec["shape"])
            for name, spec in self._specs.items()
        }

    def times_ms(self, feeds: Feeds, queries: int, seconds: float, warm_up_ms: int) -> List[float]:
        """Return the latencies of at least so many inferences and so long a time."""
        file = os.path.join(self._scratch, "times.json")
        least = ["--iterations=%d" % queries, "--duration=%d" % -int(-seconds // 1)]
        # One query after the other, as ours; without this, trtexec overlaps copies with the next.
        least += ["--warmUp=%d" % warm_up_ms, "--exposeDMA", "--useSpinWait"]
        self._call(self._load(feeds) + least + ["--exportTimes=" + file])
        self.spans = parse_export_times(read_text(file))
        if len(self.spans) < queries:
            raise AgentError("trtexec timed %d of %d queries" % (len(self.spans), queries))
        return [latency for latency, _ in self.spans]

    def close(self) -> None:
        """Remove what was written for trtexec."""
        shutil.rmtree(self._scratch, ignore_errors=True)


# ------------------------------------------------------------------ measuring


class Measurement:
    """One bundle's numbers, measured in a process of its own.

    With several bundles, ``settings["turns"]`` processes of each take turns, so that a board that
    slows down does so for all of them; memory holds one bundle at a time. The first measures
    everything, the others only latency.
    """

    def __init__(self, work: str, index: int, turn: int = 0, how: Optional[Json] = None) -> None:
        self._work = work
        self._job = read_json(os.path.join(work, "job.json"))
        self.settings = dict(self._job["settings"], **(how or {}))
        self._entry = self._job["bundles"][index]
        self.root = os.path.join(work, self._entry["folder"])
        self._index = index
        self._turn = turn
        self._told = 0.0
        self._downgraded = False
        self.evidence = {}  # type: Json
        self.manifest = read_bundle(self.root)
        localizes = bool(self.manifest["preprocessing"]["localize"])
        self._localizes = localizes and self.settings.get("localize", True)
        self._wants_sex = len(artifact_of(self.manifest, "regressor")["inputs"]) > 1

    def run(self) -> Json:
        """Measure; return the fields of ``bakit.bench.raw.RawBundle``."""
        info = device_info()
        self.tell("open", 0.0)
        hot_before = max(temperatures().values(), default=None)
        models, load_ms = self._open(info)
        import numpy  # only now: its absence has been refused with a remedy

        self._np = numpy
        golden = self._arrays(self._entry["golden"])
        samples = self._arrays(self._entry["samples"]) if "samples" in self._entry else None
        if self._turn:
            result = self._times(models, samples or golden)
            for model in models.values():
                model.close()
            return dict(clean(result))
        first_ms = self._timed(models, self._feeds(golden, 0))[-1]
        footprint = {
            "load_ms": load_ms,
            "first_prediction_ms": first_ms,
            "peak_rss_mb": peak_rss_mb(),
        }
        rows = range(len(golden["male"]))  # the host judges them
        ages = [self._age(models, self._feeds(golden, row)[1]) for row in rows]
        read_state = functools.partial(state_since, time.monotonic())
        with Sampler(read_state, 1.0, MAX_TRACE) as trace:
            result = self._times(models, samples or golden)
        at_work = clocks()  # right after the queries: later the clocks have fallen
        power = self._power(models, samples or golden)
        result.update(footprint=footprint, golden_months=ages, power=power)
        result["readings"] = self._read_ages(models, samples) if samples else []
        result["provider"] = models["regressor"].provider
        if isinstance(models["regressor"], OnnxRuntimeModel):
            result["ran"] = models["regressor"].ran()
        result["board"] = {
            **{key: info[key] for key in ("board", "system", "gpu", "power_mode")},
            "clocks_mhz": at_work,
            "temperature_before_c": hot_before,
            "temperature_after_c": max(temperatures().values(), default=None),
            "build_s": self._build_s(models),
            "layers": models["regressor"].layers,
            "timing": models["regressor"].timing,
            "gpu_ms": self._spans(models, 0),
            "enqueue_ms": self._spans(models, 1),
            "clocks_locked": clocks_locked(),
            "trace": trace.rows,
            "notes": [clean(note) for model in models.values() for note in model.notes],
        }
        if self._downgraded:
            result["board"]["notes"].append("FP16 for INT8, which this GPU lacks: export --fp16")
        result["downgraded"] = self._downgraded
        self.evidence = {
            "path": models["regressor"].path,
            "tf32": bool(self.settings.get("tf32")),
            "inspector": models["regressor"].inspected,
            "engine_mb": models["regressor"].engine_mb,
            "expected_months": [float(age) for age in golden["bundle_months"]],
        }
        for model in models.values():
            model.close()
        return dict(clean(result))

    def tell(self, stage: str, share: float) -> None:
        """Write the progress, at most twice a second."""
        now = time.monotonic()
        if share not in (0.0, 1.0) and now - self._told < 0.5:
            return
        self._told = now
        count, number = len(self._job["bundles"]), self._index + 1
        if self._turn:  # all bundles have been measured once
            done = (self._turn - 1) * count + self._index + share
            number, share = count, done / (count * (self.settings["turns"] - 1))
        state = {"state": "running", "stage": stage, "share": share}  # type: Json
        state.update(number=number, bundles=count)
        write_json(os.path.join(self._work, "progress.json"), state)

    def _arrays(self, name: str) -> Dict[str, Array]:
        with self._np.load(os.path.join(self._work, name), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    def _open(self, info: Json) -> Tuple[Dict[str, Any], float]:
        """Open both models; return them and the time in ms without what was built."""
        settings = self.settings
        engine, self._downgraded = choose_way(self.manifest, info, settings)
        options = {"device": [info[name] for name in DEVICE]}  # type: Json
        names = ("workspace_mb", "build", "tf32", "cache")
        options.update({name: settings.get(name) for name in names})
        options["work"] = self._work
        models = {}  # type: Dict[str, Any]
        started = time.perf_counter()
        for role in ROLES if self._localizes else ROLES[1:]:
            artifact = artifact_of(self.manifest, role)
            if engine == "onnxruntime":
                models[role] = OnnxRuntimeModel(self.root, artifact, settings)
                continue
            self.tell("build " + role, 0.0)
            kind = TensorRtModel if engine == "tensorrt" else TrtexecModel
            options["downgrade"] = role == "regressor" and self._downgraded
            models[role] = kind(self.root, artifact, dict(options))
        built_s = self._build_s(models) or 0.0
        return models, (time.perf_counter() - started - built_s) * 1e3

    @staticmethod
    def _build_s(models: Dict[str, Any]) -> Optional[float]:
        times = [model.build_s for model in models.values() if model.build_s is not None]
        return sum(times) if times else None

    def _feeds(self, arrays: Dict[str, Array], row: int) -> Tuple[Feeds, Feeds]:
        """Return the localizer's and the regressor's inputs of one image."""
        np = self._np
        image = (arrays["crops"][row].astype(np.float32) / np.float32(255))[None, None]
        regress = {"image": image}
        if self._wants_sex:
            regress["sex"] = np.array([[arrays["male"][row]]], np.float32)
        return {"image": arrays["working"][row][None, None]}, regress

    def _age(self, models: Dict[str, Any], feeds: Feeds) -> float:
        age = float(models["regressor"].run(feeds)["age_months"].item())
        if not abs(age) < MAX_MONTHS:  # neither is NaN
            raise AgentError("the model predicts %r months: it is broken on this device" % age)
        return age

    def _times(self, models: Dict[str, Any], arrays: Dict[str, Array]) -> Json:
        """Return the times of each query by stage, in nanoseconds."""
        images = min(len(arrays["crops"]), MAX_IMAGES)
        if models["regressor"].timing == "trtexec":
            rows, warm_up = self._trtexec_times(models, arrays), 0
        else:
            rows, warm_up = self._own_times(models, arrays, images)
        stages = ("localize", "regress", "total") if self._localizes else ("regress", "total")
        columns = [[round(ms * 1e6) for ms in column] for column in zip(*rows)]
        times = {"warm_up": warm_up, "images": images, "turns": [len(rows)]}  # type: Json
        return dict(times, stages_ns=dict(zip(stages, columns)))

    def _least(self) -> Tuple[int, float]:
        """Return the fewest queries and seconds of a turn."""
        settings, turns = self.settings, self.settings["turns"]
        return -(-settings["min_queries"] // turns), settings["min_duration_s"] / turns

    @staticmethod
    def _spans(models: Dict[str, Any], column: int) -> Dict[str, float]:
        """Return the median in ms of the GPU's time (0) or of the enqueue (1), by stage."""
        stages = {"localizer": "localize", "regressor": "regress"}
        found = {}
        for role, model in models.items():
            times = sorted(span[column] for span in model.spans)
            if times:
                found[stages[role]] = times[len(times) // 2]
        return found

    def _own_times(
        self, models: Dict[str, Any], arrays: Dict[str, Array], images: int
    ) -> Tuple[List[List[float]], int]:
        """Return the times in ms of each query by stage, and how many came before."""
        settings = self.settings
        feeds = [self._feeds(arrays, row) for row in range(images)]
        warm_up, began = 0, time.perf_counter()
        # A GPU's clocks rise over half a second, however short a query is.
        while warm_up < settings["warm_up"] or (
            settings["warm_up"] and time.perf_counter() - began < settings["warm_up_s"]
        ):
            self._timed(models, feeds[warm_up % images])
            warm_up += 1
        rows = []  # type: List[List[float]]
        spent = 0.0
        for model in models.values():
            del model.spans[:]  # of goldens and warm-up
        queries, seconds = self._least()
        while len(rows) < queries or spent < seconds:
            rows.append(self._timed(models, feeds[len(rows) % images]))
            spent += rows[-1][-1] / 1e3
            share = len(rows) / queries
            if seconds:
                share = min(share, spent / seconds)
            self.tell("latency", min(share, 1.0))
        return rows, warm_up

    def _timed(self, models: Dict[str, Any], feeds: Tuple[Feeds, Feeds]) -> List[float]:
        begin = last = time.perf_counter()
        times = []
        for role, inputs in zip(ROLES, feeds):
            if role in models:
                models[role].run(inputs)
                now = time.perf_counter()
                times.append((now - last) * 1e3)
                last = now
        return times + [(last - begin) * 1e3]

    def _trtexec_times(self, models: Dict[str, Any], arrays: Dict[str, Array]) -> List[List[float]]:
        """Return times of both models, which trtexec measures apart: the pairs are made here."""
        columns = []  # type: List[List[float]]
        for role, feeds in zip(ROLES, self._feeds(arrays, 0)):
            if role in models:
                self.tell("latency", 0.0 if not columns else 0.5)
                columns.append(models[role].times_ms(feeds, *self._least(), warm_up_ms=500))
        return [list(row) + [sum(row)] for row in zip(*columns)]

    def _power(self, models: Dict[str, Any], arrays: Dict[str, Array]) -> Optional[Json]:
        """Return readings of the power at rest and at work; None without a sensor."""
        meter = PowerMeter()
        seconds = self.settings["energy_s"]
        if not meter.available or seconds <= 0 or models["regressor"].timing == "trtexec":
            return None
        self.tell("energy", 0.0)
        idle = meter.watts(lambda: time.sleep(IDLE_S))
        feeds = self._feeds(arrays, 0)
        count, spent = 0, 0.0

        def work() -> None:
            nonlocal count, spent
            began = time.perf_counter()
            while spent < seconds:
                self._timed(models, feeds)
                count += 1
                spent = time.perf_counter() - began

        busy = meter.watts(work)
        self.tell("energy", 1.0)
        power = {"rail": meter.rail, "idle_w": idle, "busy_w": busy}
        return dict(power, busy_s=spent, queries=count)

    def _read_ages(self, models: Dict[str, Any], samples: Dict[str, Array]) -> List[Json]:
        """Return age and box of each labelled image."""
        readings = []
        for row, name in enumerate(self._job["ids"]):
            localize, regress = self._feeds(samples, row)
            age, box = self._age(models, regress), None
            if self._localizes:
                (output,) = models["localizer"].run(localize).values()
                box = rough_box(output)
            readings.append({"id": name, "age_months": age, "box": box})
            self.tell("drift", (row + 1) / len(self._job["ids"]))
        return readings


def peak_rss_mb() -> Optional[float]:
    """Return this process's largest resident memory so far, in 10^6 bytes."""
    found = re.search(r"^VmHWM:\s*(\d+)", read_text("/proc/self/status"), re.MULTILINE)
    return int(found.group(1)) * 1024 / 1e6 if found else None


Box = Tuple[int, int, int, int]


def rough_box(output: Array) -> Box:
    """Return the box of the largest region by the paper's plain rule, in working pixels.

    The product's own choice of the hand needs OpenCV; this one compares two outputs of one model.

    Args:
        output: ``(h, w)``, the certainty of the hand (float) or labels (int); the label that is
            most frequent along the border is the background.
    """
    import numpy

    if output.dtype.kind == "f":
        mask = output >= 0.5
    else:
        border = numpy.concatenate([output[0], output[-1], output[:, 0], output[:, -1]])
        labels, counts = numpy.unique(border, return_counts=True)
        mask = output != labels[counts.argmax()]
    left = set(zip(*(axis.tolist() for axis in numpy.nonzero(mask))))
    best = []  # type: List[Tuple[int, int]]
    for start in sorted(left):
        region = [start] if start in left else []
        for y, x in region:  # grows while it is walked
            left.discard((y, x))
            near = left & {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)}
            left -= near
            region += near
        best = max(best, region, key=len)
    if not best:
        return 0, 0, mask.shape[1], mask.shape[0]
    rows, columns = zip(*best)
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


# ------------------------------------------------------------------ evidence

STEP_S = 7200.0
"""Longest step, without the seconds that its queries take."""
FILES = (
    "etc/nv_tegra_release",
    "etc/nvpmodel.conf",
    "etc/os-release",
    "proc/meminfo",
    "proc/swaps",
    "proc/version",
    "proc/device-tree/model",
    "proc/device-tree/compatible",
    "sys/class/devfreq/*/*_freq",
    "sys/class/thermal/thermal_zone*/t[ye]*p*",
    "sys/bus/i2c/devices/*/hwmon/hwmon*/in*_label",
    "sys/bus/i2c/devices/*/iio:device*/rail_name_*",
)
COMMANDS = (
    "dpkg-query -W *nvinfer* cuda-cudart* libcudnn* nvidia-jetpack* nvidia-l4t*",
    "nvpmodel -q",
    "jetson_clocks --show",
    "id",
    "df -h /",
)


def describe_system(root: str = "/") -> Json:
    """Return what tells a board and its software apart; an unknown is an empty text."""
    paths = [path for name in FILES for path in sorted(glob.glob(os.path.join(root, name)))]
    tegrastats = shutil.which("tegrastats")
    return {
        "info": device_info(root),
        "files": {path: read_text(path)[:20000] for path in paths},
        "commands": {line: "".join(capture(line.split())[1:])[:20000] for line in COMMANDS},
        "tegrastats": first_line(tegrastats) if tegrastats else "",
        "clocks_locked": clocks_locked(root),
    }


def evidence_steps(work: str, job: Json, info: Json) -> List[str]:
    """Return the names of all steps: ``what``, or ``what:bundle``, or with a build as well."""
    steps = ["system"]
    for index, entry in enumerate(job["bundles"]):
        steps.append("measure:%d" % index)
        manifest = read_bundle(os.path.join(work, entry["folder"]))
        if manifest["target"] != "tensorrt":
            continue
        if info["tensorrt"]:
            try:
                builds = usable_builds(artifact_of(manifest, "regressor"), info["tensorrt"], False)
            except AgentError:
                builds = []
            steps += ["build:%d:%d" % (index, number) for number in range(len(builds))]
            if manifest["precision"] == "fp32":
                steps.append("tf32:%d:0" % index)
        if info["trtexec"]:
            steps.append("trtexec:%d" % index)
        if info["onnxruntime"] and manifest["precision"] == "fp32":
            steps.append("onnxruntime:%d" % index)
    return steps


def step_settings(work: str, what: str, number: int) -> Json:
    """Return the settings of a step of the evidence; a build is anew, of the regressor alone."""
    if what in ("build", "tf32"):
        cache = os.path.join(work, "engines")
        shutil.rmtree(cache, ignore_errors=True)
        how = {"engine": "tensorrt", "build": number, "tf32": what == "tf32", "cache": cache}
        return dict(how, localize=False, min_duration_s=0, energy_s=0)
    return {} if what == "measure" else {"engine": what}


def gather_evidence(work: str) -> int:
    """Run all steps, each in a process with a limit; one file in the current folder has all.

    It is written after each step: a board may lose its power.
    """
    if not os.path.isfile(os.path.join(work, "job.json")):
        raise AgentError("%s: not a kit; make one with: bakit bench BUNDLES --kit FILE" % work)
    job, info = read_json(os.path.join(work, "job.json")), device_info()
    place = "%s-%s" % (info["board"] or platform.machine(), info["system"] or platform.system())
    path = os.path.abspath("evidence-%s.json.gz" % re.sub(r"[^A-Za-z0-9.]+", "-", place))
    limit_s = STEP_S + 2 * job["settings"]["min_duration_s"]
    steps = []  # type: List[Json]
    document = {
        "version": 2,
        "host": host_info(job["bakit"], info),
        "board": {key: info[key] for key in ("board", "system", "gpu", "power_mode")},
        "bundles": [entry["name"] for entry in job["bundles"]],
        "seconds": job["settings"]["min_duration_s"],
        "steps": steps,
    }
    names = evidence_steps(work, job, info)
    for number, name in enumerate(names):
        log("%d of %d: %s" % (number + 1, len(names), name))
        before, began = len(read_log(work)), time.monotonic()
        found = run_apart(work, name, limit_s)
        step = {"step": name, "seconds": round(time.monotonic() - began, 1)}  # type: Json
        step["error"] = found.pop("error", None)
        if step["error"]:
            log("    " + step["error"])
        else:
            step["found"] = found
        step["log"] = read_log(work)[before:][-20000:]
        steps.append(step)
        write_file(path, gzip.compress(json.dumps(document).encode("ascii")))
        os.chmod(path, 0o644)  # nothing in it is a patient's, and it may have been written by root
    log("written: %s; send this file" % path)
    return 1 if all(step["error"] for step in steps[1:]) else 0


# ------------------------------------------------------------------ the job


def cpu_count() -> int:
    """Return the CPUs of the affinity mask, or of the container's quota if that is less."""
    count = len(os.sched_getaffinity(0))
    numbers = read_text("/sys/fs/cgroup/cpu.max").split()
    if not numbers:
        names = ("quota", "period")
        numbers = [read_text("/sys/fs/cgroup/cpu/cpu.cfs_%s_us" % name).strip() for name in names]
    if all(number.isdigit() and int(number) for number in numbers):  # else "max", "-1" or no file
        count = min(count, -(-int(numbers[0]) // int(numbers[1])))
    return max(count, 1)


def cpu_facts(cpuinfo: str) -> Tuple[str, List[str]]:
    """Return the CPU's name, which Arm's does not have, and the ``INT8_FLAGS`` that it has.

    Args:
        cpuinfo: Text of ``/proc/cpuinfo``; all cores are assumed to be equal.
    """
    pairs = [line.partition(":") for line in cpuinfo.splitlines()]
    fields = {key.strip(): value.strip() for key, _, value in reversed(pairs)}
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return fields.get("model name", ""), [flag for flag in INT8_FLAGS if flag in flags]


def memory_mb() -> Optional[float]:
    """Return the machine's memory in 10^6 bytes; None if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    except (AttributeError, OSError, ValueError):
        return None


def host_info(bakit: str, info: Json) -> Json:
    """Return the description of the machine (``bakit.bench.host.HostInfo``)."""
    cpu, isa = cpu_facts(read_text("/proc/cpuinfo"))
    names = ("numpy", "onnxruntime", "tensorrt", "trtexec")
    host = {
        "system": "%s %s" % (platform.system(), platform.release()),
        "machine": platform.machine(),
        "cpu": cpu or info["board"] or platform.machine(),
        "logical_cores": cpu_count(),
        "isa": isa,
        "memory_mb": memory_mb(),
        "python": platform.python_version(),
        "versions": dict({name: info[name] for name in names if info[name]}, bakit=bakit),
    }
    return dict(clean(host))


def run_job(work: str) -> int:
    """Measure every bundle of a work folder; one that fails does not end the others."""
    job = read_json(os.path.join(work, "job.json"))
    results = [{} for _ in job["bundles"]]  # type: List[Json]
    for turn in range(job["settings"]["turns"]):
        for index, entry in enumerate(job["bundles"]):
            if "error" in results[index]:
                continue
            found = run_apart(work, "measure:%d:%d" % (index, turn))
            if turn == 0 or "error" in found:
                results[index] = found
            else:
                add_turn(results[index], found)
            if "error" in found:
                log("%s: %s" % (entry["name"], found["error"]))
    if not job["keep"]:
        # Images are removed even if the host does not come back.
        for path in glob.glob(os.path.join(work, "*.npz")):
            os.unlink(path)
    host = host_info(job["bakit"], device_info())
    write_json(os.path.join(work, "raw.json"), {"host": host, "bundles": results})
    write_json(os.path.join(work, "progress.json"), {"state": "done"})
    return 1 if any("error" in result for result in results) else 0


def add_turn(result: Json, later: Json) -> None:
    """Append the latencies of a later turn of a bundle."""
    result["warm_up"] += later["warm_up"]
    result["turns"] += later["turns"]
    for stage, times in later["stages_ns"].items():
        result["stages_ns"][stage] += times


def read_log(work: str) -> str:
    """Return the log of a job; empty if there is none."""
    return read_text(os.path.join(work, "log.txt"))


def last_error(text: str) -> str:
    """Return TensorRT's last error in a log, or else its last line; may be empty."""
    lines = text.splitlines()
    marked = [line for line in lines if "[E]" in line]
    return str(clean((marked or lines or [""])[-1]))


def why_failed(status: int, logged: str = "") -> str:
    """Return why a process left no result, in a line; ``logged`` is the log's last error."""
    if was_killed(status):
        return out_of_memory()
    if status in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
        return "it was ended (signal %d)" % -status
    if logged:
        ended = "it crashed (signal %d)" % -status if status < 0 else "exit status %d" % status
        return "%s; the log's last error: %s" % (ended, logged)
    if status < 0:
        question = "is the NVIDIA driver of this system's own release? See the log"
        return "it crashed (signal %d): %s" % (-status, question)
    return "it ended with exit status %d; see the log" % status


def run_apart(work: str, step: str, limit_s: Optional[float] = None) -> Json:
    """Run a step in a process of its own; return what it found, or ``error``: why it failed."""
    result, before = os.path.join(work, "step.json"), len(read_log(work))
    command = [sys.executable, os.path.abspath(__file__), "step", work, step]
    if os.path.isfile(result):  # of a step that was ended after it had written
        os.unlink(result)
    with open(os.path.join(work, "log.txt"), "ab") as log_file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=log_file,
            start_new_session=limit_s is not None,  # else ``stop`` ends it with this process
        )
    try:
        status = process.wait(limit_s)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
        if limit_s is not None:
            os.killpg(process.pid, signal.SIGKILL)  # trtexec is a process of its own
        process.wait()
        if isinstance(error, KeyboardInterrupt):
            raise
        return {"error": "it was not done after %d seconds and was ended" % (limit_s or 0)}
    if not os.path.isfile(result):
        return {"error": clean(why_failed(status, last_error(read_log(work)[before:])))}
    found = read_json(result)
    os.unlink(result)
    return dict(found)


def run_step(work: str, step: str) -> int:
    """Run a step; write what it found, or ``error``: why it found nothing."""
    what, *numbers = step.split(":")
    try:
        if what == "system":
            found = describe_system()
        else:
            how = step_settings(work, what, int(numbers[-1]))
            turn = int(numbers[1]) if what == "measure" and len(numbers) > 1 else 0
            measured = Measurement(work, int(numbers[0]), turn, how)
            found = measured.run()
            if what != "measure" or len(numbers) == 1:  # evidence is read without its bundles
                found.update(measured.evidence)
    except AgentError as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": out_of_memory()}
    except OSError as error:
        found = {"error": "%s: %s" % (error.filename or "the device", error.strerror or error)}
    except Exception as error:
        log(traceback.format_exc())
        text = "the agent failed: %s: %s; see the log" % (type(error).__name__, error)
        found = {"error": text}
    write_json(os.path.join(work, "step.json"), clean(found) if "error" in found else found)
    return 2 if "error" in found else 0


def start_job(work: str) -> int:
    """Measure in the background; a second call finds that it has begun."""
    if os.path.exists(os.path.join(work, "pid")):
        return 0
    log_file = open(os.path.join(work, "log.txt"), "ab")
    process = subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "run", work],
        stdin=subprocess.DEVNULL,
        stdout=log_file,
        stderr=log_file,
        start_new_session=True,  # the end of the connection is not its end
    )
    write_file(os.path.join(work, "pid"), str(process.pid).encode("ascii"))
    return 0


def is_running(work: str) -> Optional[int]:
    """Return the id of the process that measures, None if it has ended."""
    text = read_text(os.path.join(work, "pid"))
    command = read_text("/proc/%s/cmdline" % text) if text else ""
    return int(text) if work in command else None


def watch_job(work: str, token: str, seconds: float = 5.0) -> int:
    """Print the progress: what is new at once, else a sign of life now and then."""
    path = os.path.join(work, "progress.json")
    last, told, until = None, 0.0, time.monotonic() + WATCH_S
    while time.monotonic() < until:
        running = is_running(work)
        state = read_json(path) if os.path.isfile(path) else {"state": "starting"}
        if state != last or time.monotonic() - told > seconds:
            last, told = state, time.monotonic()
            emit(state, token)
        if state["state"] == "done":
            return 0
        if running is None:
            said = last_error(read_log(work)) or "its log is empty"
            emit({"state": "died", "error": "the agent died: %s" % said}, token)
            return 1
        time.sleep(0.5)
    return 0


def stop_job(work: str) -> int:
    """End what runs, and remove the work folder."""
    process = is_running(work)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process is None:
            break
        try:
            os.killpg(process, number)
        except OSError:
            break
        for _ in range(30):
            if is_running(work) is None:
                break
            time.sleep(0.1)
        process = is_running(work)
    if os.path.isfile(os.path.join(work, "job.json")):  # nothing but a work folder is removed
        shutil.rmtree(work, ignore_errors=True)
    return 0


def emit(value: Any, token: str) -> None:
    """Print a value as JSON."""
    send(json.dumps(value, allow_nan=False).encode("ascii"), token)


def send(data: bytes, token: str) -> None:
    """Print a document at once: in a frame if there is a token, else as a line."""
    if token:
        # The empty line ends whatever a login shell has left open.
        head = "\nbakit-frame %s %d %s\n" % (token, len(data), sha256(data))
        data = head.encode("ascii") + data
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def log(text: str) -> None:
    """Write to the log, which is stderr."""
    sys.stderr.write(text.rstrip() + "\n")
    sys.stderr.flush()


def main(arguments: Sequence[str]) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="agent.py", description="Measures bundles of bakit.")
    parser.add_argument("--frame", default="", metavar="TOKEN", help="frame the answers with it")
    words = ("info", "run", "start", "watch", "fetch", "log", "stop", "evidence", "step")
    parser.add_argument("command", choices=words)
    parser.add_argument("work", nargs="?", type=os.path.abspath, help="default of evidence: here")
    parser.add_argument("step", nargs="?")
    given = parser.parse_args(arguments)
    if given.command == "evidence" and given.work is None:
        given.work = os.path.dirname(os.path.abspath(__file__))
    elif given.command != "info" and given.work is None:  # stop would remove the kit
        parser.error("%s needs a work folder" % given.command)
    if given.command == "step" and given.step is None:
        parser.error("step needs the step's name")
    run = {
        "info": lambda: emit(device_info(), given.frame),
        "fetch": lambda: send(read_bytes(os.path.join(given.work, "raw.json")), given.frame),
        "log": lambda: send(
            read_bytes(os.path.join(given.work, "log.txt"))[-LOG_BYTES:], given.frame
        ),
        "evidence": lambda: gather_evidence(given.work),
        "watch": lambda: watch_job(given.work, given.frame),
        "step": lambda: run_step(given.work, given.step),
        "run": lambda: run_job(given.work),
        "start": lambda: start_job(given.work),
        "stop": lambda: stop_job(given.work),
    }  # type: Dict[str, Callable[[], Optional[int]]]
    try:
        return run[given.command]() or 0
    except (AgentError, ImportError, OSError) as error:
        log("agent.py: %s" % error)
        return 2
    except KeyboardInterrupt:
        log("agent.py: interrupted")
        return 130


if __name__ == "__main__":
    os.umask(0o077)  # images of patients: readable by nobody else
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before ONNX Runtime is imported
    if platform.machine() == "aarch64":  # NumPy 1.19.5 crashes on a Nano ("Illegal instruction")
        os.environ.setdefault("OPENBLAS_CORETYPE", "ARMV8")
    sys.exit(main(sys.argv[1:]))
