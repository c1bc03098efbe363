"""What a worker process prints, as lines of the log that name stream and hook: so much for each call, and no more."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Mapping

from firehose import observe

CALL_BYTES = 64 * 1024  # of what is printed during one call, that is logged
CALL_LINES = 1000
SEARCH_LINES = 10  # of each of the many calls that search for the records at fault
LINE_CHARACTERS = 4096
READ_BYTES = 64 * 1024


class Printed:
    """The pipe of a worker's standard output and error, read as it fills so that printing never waits for long."""

    def __init__(self, descriptor: int, labels: Mapping[str, str]) -> None:
        self._descriptor = descriptor
        self._labels = labels
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._bytes, self._lines, self._cut = CALL_BYTES, CALL_LINES, 0
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._hear)

    def next_call(self, *, searching: bool = False) -> None:
        """What is printed from now on counts anew."""
        if self._cut:
            observe.log.warning("hook.print_cut", **self._labels, bytes=self._cut)
        self._bytes, self._lines, self._cut = CALL_BYTES, SEARCH_LINES if searching else CALL_LINES, 0

    def close(self) -> None:
        """Tells what is still in the pipe. A process that the user's code left behind may hold its other end: nobody
        waits for that one.
        """
        self._hear()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._log(self._line + self._text.decode(b"", True))
        self.next_call()

    def _hear(self) -> None:
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._take(data)
        else:
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def _take(self, data: bytes) -> None:
        kept = data[: self._bytes]
        self._bytes -= len(kept)
        self._cut += len(data) - len(kept)
        *lines, self._line = (self._line + self._text.decode(kept)).split("\n")
        if len(self._line) >= LINE_CHARACTERS or not self._bytes:
            lines, self._line = [*lines, self._line], ""
        for line in lines:
            self._log(line)

    def _log(self, line: str) -> None:
        line = line.rstrip()
        for start in range(0, len(line), LINE_CHARACTERS):
            piece = line[start : start + LINE_CHARACTERS]
            if self._lines:
                self._lines -= 1
                observe.log.info("hook.printed", **self._labels, line=piece)
            else:
                self._cut += len(piece)
