"""Core AI, in a process of its own: its runtime may abort the process that it runs in. Beta.

On Linux, it is Apple's runtime for the CPU. Not yet run on Apple hardware.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from coreai.authoring import AIModelAsset
from coreai.runtime import NDArray

from bakit.errors import BundleError, first_line
from bakit.processes import python_command
from bakit.session import Closing

if TYPE_CHECKING:
    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Tensors

ABOUT = "metadata.json"
FILES = ("main.mlirb", "main.hash", ABOUT)
"""Files of an ``.aimodel`` folder, the model first."""

OLDEST = "1.0.0b3"
"""Oldest coreai-core whose files are read: those of earlier betas fail on later ones."""


class CoreAiSession(Closing):
    """An ``.aimodel`` folder, opened in another process, which reads it once.

    Raises:
        BundleError: If it cannot be loaded.
    """

    provider = "coreai-cpu" if sys.platform == "linux" else "coreai"

    def __init__(self, package: Path, name: str) -> None:
        command = python_command("bakit.backends.coreai", str(package))
        pipe = subprocess.PIPE
        self._process: Any = subprocess.Popen(  # noqa: S603  # our own module
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
        )
        try:
            self._answer()
        except RuntimeError as error:
            self.close()
            message = f"{name}: Core AI cannot load it: {error}"
            raise BundleError(message) from error

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        _write(self._process.stdin, feeds)
        return self._answer()

    def _answer(self) -> Tensors:
        answer = _read(self._process.stdout)
        if answer is None or "error" in answer:
            raise RuntimeError(answer["error"].item() if answer else "its process ended")
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _write(stream: Any, arrays: Tensors) -> None:  # noqa: ANN401  # a pipe
    """Write a message: its length in four bytes, then arrays by name as ``.npz``."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy has one flag among the names
    stream.write(buffer.tell().to_bytes(4, "little") + buffer.getvalue())
    stream.flush()


def _read(stream: Any) -> Tensors | None:  # noqa: ANN401
    """Read a message; None at the end of the stream."""
    data = stream.read(int.from_bytes(stream.read(4), "little"))
    return dict(np.load(io.BytesIO(data))) if data else None


async def _serve(package: Path, answers: Any) -> None:  # noqa: ANN401
    async with AIModelAsset.load(package).executable() as model:
        function = model.load_function("main")
        _write(answers, {})
        while (feeds := _read(sys.stdin.buffer)) is not None:
            results: Any = await function({name: NDArray(feeds[name]) for name in feeds})
            _write(answers, {name: np.asarray(results[name].numpy()) for name in results})


def main(package: Path) -> None:
    """Open a folder and answer messages; the first answer is empty, or an error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Core AI prints to stdout
    try:
        asyncio.run(_serve(package, answers))
    except Exception as error:  # Core AI's errors have no common base
        _write(answers, {"error": np.array(first_line(error))})
    os._exit(0)  # at a usual end, threads of Core AI may abort the process


def _version(text: str) -> list[int]:
    """Return the version in a text; a beta comes before its release."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)(?:b(\d+))?", text)
    return [int(n or 9999) for n in found.groups()] if found else []


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> CoreAiSession:
    """Open a copy of a sealed ``.aimodel`` folder; Core AI chooses its threads.

    Raises:
        BundleError: If it cannot be loaded, or an older coreai-core wrote it.
    """
    del threads
    folder = artifact.path.rpartition("/")[0]
    content = {name: files.read(f"{folder}/{name}") for name in FILES}
    name = str(files.root / folder)
    producer = re.search(rb'"producer" *: *"([^"]*)', content[ABOUT])
    written_by = producer[1].decode(errors="replace") if producer else "an unknown program"
    if _version(written_by) < _version(OLDEST):
        needed = f"coreai-core {OLDEST} or later"
        message = f"{name}: written by {written_by}, not by {needed}; export the bundle again"
        raise BundleError(message)
    with TemporaryDirectory(prefix="bakit-") as place:
        for file, data in content.items():
            (Path(place) / file).write_bytes(data)
        return CoreAiSession(Path(place), name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
