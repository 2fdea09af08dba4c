"""Read films on a Ray cluster, in an actor on each CPU."""

from __future__ import annotations

import os
import socket
import tempfile
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import ray
import ray._private.worker
from ray.exceptions import RayError

from bakit.bundle import MANIFEST, SEAL, Bundle
from bakit.data.parallel import check_count
from bakit.errors import BakitError, BundleError, InputError, MissingBackendError, first_line
from bakit.runtime import Runtime
from bakit.session import Closing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from bakit.score.engine import Known, Work

CONNECT_S = 10.0
WAIT_S = 600.0
"""Longest time without a result or a new actor."""

# Ray prints that a node has died on stdout, at any moment, also into a JSON document.
ray._private.worker.print_to_stdstream = lambda *_, **__: None


class RayReaders(Closing):
    """Actors on a running cluster, whose nodes find the films under the same paths.

    The bundle travels once to each node, and is verified there. ``known`` is not asked: the same
    pixels are read again, with the same result. ``workers`` are actors, each with ``threads`` CPUs
    of the cluster, as many as fit when None; ``address`` is such as ``10.0.0.1:6379``, the cluster
    of this machine when None.

    Raises:
        InputError: If ``workers`` is below 1, or the cluster cannot be reached.
    """

    chunk = 16

    def __init__(
        self,
        bundle: Bundle,
        work: Work,
        known: Known,
        *,
        workers: int | None = None,
        threads: int = 1,
        address: str | None = None,
    ) -> None:
        del known
        check_count("workers", workers)
        try:
            if address is not None:  # Ray tries for many minutes
                host, _, port = address.rpartition("://")[2].rpartition(":")
                socket.create_connection((host, int(port)), CONNECT_S).close()
            with _in_an_empty_folder():
                ray.init(address or "auto", log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # of many kinds
            message = f"no Ray cluster at {address or 'this machine'} ({first_line(error)}); "
            message += "start one with: ray start --head"
            raise InputError(message) from error
        names = (MANIFEST, SEAL, *bundle.files.digests)
        files = ray.put({name: (bundle.root / name).read_bytes() for name in names})
        self._arguments = files, bundle.sha256, work, threads
        self.number = workers or max(int(ray.cluster_resources().get("CPU", 1)) // threads, 1)
        self._actor = ray.remote(num_cpus=threads)(_Actor)

    def start(self) -> _Reader:
        """Start an actor; it waits until its CPUs are free."""
        actor = self._actor.remote()
        return _Reader(actor, deque([actor.open.remote(*self._arguments)]))

    def send(self, reader: Any, items: list[Any]) -> None:  # noqa: ANN401  # of ``start``
        """Send a task."""
        reader.results.append(reader.actor.do.remote(items))

    def wait(self, busy: Collection[Any]) -> tuple[object, list[Any] | Exception]:
        """Return an actor that is done.

        Raises:
            InputError: If none is.
            BundleError: If a node cannot run the bundle.
            MissingBackendError: If bakit is not installed on a node.
        """
        readers = {reader.results[0]: reader for reader in busy}
        ready, _ = ray.wait(list(readers), timeout=WAIT_S)
        if not ready:
            message = f"the cluster gave no result for {WAIT_S:g} s; see ray status"
            raise InputError(message)
        try:
            found = ray.get(ready[0])
        except RayError as error:
            last = str(error).strip().splitlines()[-1]  # of the node's traceback
            if "ModuleNotFoundError" in last:
                need = f"a node of the cluster ({last})"
                raise MissingBackendError(need, "ray") from error
            found = InputError(f"its actor ended ({last})")
        if isinstance(found, str):
            raise BundleError(found)
        readers[ready[0]].results.popleft()
        return readers[ready[0]], found

    def close(self) -> None:
        """End the actors."""
        ray.shutdown()


@contextmanager
def _in_an_empty_folder() -> Iterator[None]:
    """Change the working folder: Ray puts it first on the import path of every node's processes."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="bakit-") as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


class _Reader:
    def __init__(self, actor: Any, results: deque[Any]) -> None:  # noqa: ANN401  # of Ray
        self.actor, self.results = actor, results


class _Actor:
    def open(
        self, files: dict[str, bytes], sha256: str, work: Work, threads: int
    ) -> list[Any] | str:
        """Open the bundle; return what is wrong with it."""
        cv2.setNumThreads(1)
        try:
            with tempfile.TemporaryDirectory(prefix="bakit-") as folder:
                for name, data in files.items():
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                bundle = Bundle.read(Path(folder))  # checks every digest
                if bundle.sha256 != sha256:
                    return "the bundle was changed on its way to a node; start again"
                self._runtime, self._work = Runtime(bundle, threads), work
        except BakitError as error:
            return f"on a node of the cluster: {error}"
        return []

    def do(self, items: list[Any]) -> list[Any]:
        """Return the result of each item."""
        return [self._work(self._runtime, item, lambda _: None) for item in items]
