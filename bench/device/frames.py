"""Frames: the agent's answers within all that a device prints (``bakit.agent.send``).

A login shell may print a banner before an answer, after it and between two of them. Only what a
frame with the token of this very command announces is an answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bakit.bench.stream import MAX_OTHER, shown
from bakit.files import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER_BYTES = 256
_SHOWN_BYTES = 4096


class AnswerError(ValueError):
    """An answer that the agent does not give; the message is the predicate of a sentence."""


class FrameReader:
    """Takes the documents, of at most ``max_bytes``, out of a device's output."""

    def __init__(self, token: str, max_bytes: int) -> None:
        pattern = rf"\nbakit-frame {re.escape(token)} (\d{{1,12}}) ([0-9a-f]{{64}})\r?\n"
        self._header = re.compile(pattern.encode())
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._announced: tuple[int, str] | None = None
        self._other = 0
        self._head = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the documents that are complete with some more bytes of the output.

        Raises:
            AnswerError: If a document is too large or damaged, or there is too much other text.
        """
        self._head += data[: _SHOWN_BYTES - len(self._head)]
        self._buffer += data
        while self._announced or self._find_header():
            length, digest = self._announced or (0, "")
            if len(self._buffer) < length:
                return
            document = bytes(self._buffer[:length])
            del self._buffer[:length]
            self._announced = None
            if sha256(document) != digest:
                message = "was damaged on the way (SHA-256 differs)"
                raise AnswerError(message)
            yield document

    def _find_header(self) -> bool:
        """Drop the text before the next header, and the header."""
        found = self._header.search(self._buffer)
        if found:
            self._announced = int(found[1]), found[2].decode()
            end, other = found.end(), found.start()
        else:
            # Keep the last line, with which a header may begin; of a long one, only its length.
            line = max(self._buffer.rfind(b"\n"), 0)
            end = other = line if len(self._buffer) - line < _HEADER_BYTES else len(self._buffer)
        self._other += other
        del self._buffer[:end]
        if self._other > MAX_OTHER:
            message = f"is lost in more than {MAX_OTHER >> 20} MiB of other text"
            raise AnswerError(message)
        if self._announced and self._announced[0] > self._max_bytes:
            message = f"has {self._announced[0]} bytes; at most {self._max_bytes} are read"
            raise AnswerError(message)
        return self._announced is not None

    def close(self, *, answered: bool) -> None:
        """Check the end of the output.

        Raises:
            AnswerError: If a document is cut off, or there was none.
        """
        if self._announced or not answered:
            message = "is cut off" if self._announced else "is missing"
            raise AnswerError(message)

    @property
    def first_line(self) -> str:
        """The first line of the output that is no header, printable and short; may be empty."""
        lines = (line.strip() for line in self._head.splitlines())
        line = next((line for line in lines if line and not line.startswith(b"bakit-frame ")), b"")
        return shown(line.decode("utf-8", "backslashreplace"), 120)
