"""A client that never stops posting, and knows what was acknowledged."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import Counter

PATIENCE_SECONDS = 30
PAUSE_SECONDS = 0.02  # after a connection that broke


class Client(threading.Thread):
    """Posts records until told to stop. An id whose answer was lost is neither acknowledged nor repeated."""

    def __init__(self, port: int, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()
        self.answers: Counter[int] = Counter()
        self._port = port
        self._dice = dice
        self._ended = threading.Event()
        self._number = 0

    def run(self) -> None:
        while not self._ended.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
            try:
                while not self._ended.is_set():
                    self._post(connection)
            except (OSError, http.client.HTTPException):
                self._ended.wait(PAUSE_SECONDS)
            finally:
                connection.close()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _post(self, connection: http.client.HTTPConnection) -> None:
        ids = [f"{self._number + i:09d}" for i in range(self._dice.randint(1, 40))]
        self._number += len(ids)
        self.sent.update(ids)
        body = "".join(json.dumps({"id": one, "pad": "x" * self._dice.randint(0, 200)}) + "\n" for one in ids)
        connection.request("POST", "/ingest/app", body.encode())
        answer = connection.getresponse()
        said = answer.read()
        self.answers[answer.status] += 1
        if answer.status == 200:
            assert json.loads(said) == {"accepted": len(ids), "rejected": 0}, said
            self.acknowledged.update(ids)
