"""A cluster that agrees to everything and does nothing, so that only the service's own work is measured.

python -m bench.redshift_stub PORT
"""

from __future__ import annotations

import socketserver
import struct
import sys
from collections.abc import Iterator

import pg_wire
from pg_wire import Gone, Message, Wire

ANSWERS = {
    b"P": (Message(b"1"),),
    b"D": (Message(b"t", b"\0\0"), Message(b"n")),  # no statement has rows: nothing was loaded before
    b"B": (Message(b"2"),),
    b"C": (Message(b"3"),),
}


class Session(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire = Wire(self.request)
        try:
            wire.first()
            wire.send(Message(b"R", struct.pack("!i", 0)), Message(b"Z", b"I"))
            self._state, self._texts = b"I", dict[str, str]()
            while True:
                wire.send(*(answer for asked in wire.until(b"S") for answer in self._answers(asked)))
        except Gone:
            pass

    def _answers(self, asked: Message) -> Iterator[Message]:
        if asked.kind == b"X":
            raise Gone
        if asked.kind == b"P":
            name, text = pg_wire.strings(asked.body, 2)
            self._texts[name] = text
        if asked.kind == b"B":
            word = self._texts[pg_wire.strings(asked.body, 2)[1]].split()[0].lower()
            self._state = {"begin": b"T", "commit": b"I", "rollback": b"I"}.get(word, self._state)
        if asked.kind == b"E":
            yield Message(b"C", b"DONE\0")
        if asked.kind == b"S":
            yield Message(b"Z", self._state)
        yield from ANSWERS.get(asked.kind, ())


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Session) as server:
        server.serve_forever()
