"""The Kotlin of docs/samples compiles, and prepares images as bakit does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bakit.hand.prepare import crop
from bakit.hand.working import working_image
from bakit.image.read import decode
from bakit.runtime import Runtime

SAMPLES = Path(__file__).parents[2] / "docs/samples"
OPENCV = Path("/usr/share/java/opencv.jar")
NATIVE = Path("/usr/lib/jni")
STDLIB = Path("/usr/share/java/kotlin-stdlib.jar")
CLOSEABLE = Path("/usr/share/java/kotlin-stdlib-jdk7.jar")  # part of the above since Kotlin 1.8

# Of ONNX Runtime's Java interface, what the page uses.
DECLARATIONS = """
package ai.onnxruntime
import java.nio.FloatBuffer
class OrtEnvironment {
    companion object { @JvmStatic fun getEnvironment(): OrtEnvironment = TODO() }
    fun createSession(model: ByteArray, options: OrtSession.SessionOptions): OrtSession = TODO()
}
interface OnnxValue : AutoCloseable { val value: Any }
class OnnxTensor : AutoCloseable {
    companion object {
        @JvmStatic
        fun createTensor(e: OrtEnvironment, data: FloatBuffer, shape: LongArray): OnnxTensor =
            TODO()
    }
    override fun close() {}
}
class OrtSession : AutoCloseable {
    class SessionOptions : AutoCloseable {
        fun setIntraOpNumThreads(count: Int) {}
        override fun close() {}
    }
    class Result : AutoCloseable {
        operator fun get(index: Int): OnnxValue = TODO()
        override fun close() {}
    }
    fun run(inputs: Map<String, OnnxTensor>): Result = TODO()
    override fun close() {}
}
"""

# Reads an image and a certainty map, writes the working image, the box and the two crops.
HARNESS = """
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
fun floats(file: File): FloatArray {
    val bytes = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
    return FloatArray(bytes.remaining()).also { bytes.get(it) }
}
fun write(file: File, values: FloatArray) {
    val bytes = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
    bytes.asFloatBuffer().put(values)
    file.writeBytes(bytes.array())
}
fun main(args: Array<String>) {
    System.loadLibrary(org.opencv.core.Core.NATIVE_LIBRARY_NAME)
    val settings = Settings()
    for (image in File(args[0]).listFiles()!!.filter { it.extension == "png" }) {
        fun beside(kind: String) = File("${image.path}.$kind")
        val grey = decode(image.readBytes())
        write(beside("working"), workingImage(grey, settings))
        val box = findHand(floats(beside("certainty")), grey, settings)
        write(beside("crop"), crop(grey, box, settings))
        write(beside("whole"), crop(grey, null, settings))
        val text = if (box == null) "none" else "${box.x0} ${box.y0} ${box.x1} ${box.y1}"
        beside("box").writeText(text)
    }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The app's code, compiled."""
    compiler = shutil.which("kotlinc")
    needed = (OPENCV, STDLIB, CLOSEABLE)
    if compiler is None or not all(path.exists() for path in needed):
        pytest.skip("kotlinc or OpenCV for Java is not installed")
    folder = tmp_path_factory.mktemp("kotlin")
    for source in SAMPLES.glob("*.kt"):
        shutil.copy(source, folder)
    (folder / "Harness.kt").write_text(HARNESS, encoding="utf-8")
    (folder / "OnnxRuntime.kt").write_text(DECLARATIONS, encoding="utf-8")
    command = [
        compiler,
        *sorted(folder.glob("*.kt")),
        "-cp",
        f"{OPENCV}:{CLOSEABLE}",
        "-d",
        folder / "page.jar",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "error:" not in done.stderr
    return folder / "page.jar"


def test_the_page_s_code_prepares_the_golden_images(program, shipped, tmp_path):
    settings = shipped.manifest.preprocessing
    images = tmp_path / "images"
    images.mkdir()
    with Runtime(shipped, 1) as runtime:
        for golden in shipped.manifest.golden:
            name = Path(golden.path).name
            shutil.copy(shipped.root / golden.path, images / name)
            working = working_image(decode(images / name), shipped.manifest.localizer.size)
            certainty = runtime.localizer.session.run({"image": working[None, None]})["hand"]
            (images / f"{name}.certainty").write_bytes(certainty.astype("<f4").tobytes())
        shutil.copy(images / name, images / "black.png")
        (images / "black.png.certainty").write_bytes(bytes(certainty.nbytes))
        classes = f"{program}:{OPENCV}:{STDLIB}"
        command = ["java", f"-Djava.library.path={NATIVE}", "-cp", classes, "HarnessKt", images]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert (images / "black.png.box").read_text(encoding="utf-8") == "none"
        for golden in shipped.manifest.golden:
            path = images / Path(golden.path).name
            grey = decode(path)

            def read(kind, side, path=path):
                return np.fromfile(f"{path}.{kind}", "<f4").reshape(side, side)

            size = shipped.manifest.localizer.size
            assert read("working", size) == pytest.approx(working_image(grey, size), abs=1e-5)
            box = tuple(map(int, Path(f"{path}.box").read_text(encoding="utf-8").split()))
            assert box == golden.box
            for kind, where in (("crop", golden.box), ("whole", None)):
                expected = crop(grey, where, golden.inverted, settings)
                # Another build of OpenCV may round an average to the next grey.
                difference = np.abs(read(kind, settings.image_size) - expected) * 255
                assert difference.max() < 2.5
                assert (difference > 0.5).mean() < 0.01
            pixels = np.ascontiguousarray(read("crop", settings.image_size))
            age = runtime.regress(pixels, male=golden.sex == "M")
            assert age == pytest.approx(golden.bundle_months, abs=shipped.manifest.tolerance_months)
