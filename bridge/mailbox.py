"""A conversation through files in one folder, for processes on machines that share a file system and nothing else.

Each conversation is one file: lines of JSON, a request and its answer in turn, appended by whoever's turn it is.
`alive` in the same folder changes while the answering side lives: replaced by rename, it also has a network file system
look at the folder afresh.
"""

from __future__ import annotations

import json
import secrets
import select
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ALIVE = "alive"
BEAT = 1.0
"""Seconds between two changes of `alive`, and at most between two looks at a file."""

SILENCE = 120.0
"""Seconds after which a side that has not changed `alive` counts as dead. Network file systems show changes late."""


class Mailbox:
    """The answering side: `answer(request, conversation)` is called for one request after the other, until `close`."""

    def __init__(self, folder: Path, answer: Callable[[dict[str, Any], str], dict[str, Any]]) -> None:
        """Makes the folder, for this user alone; its conversations are left to `close`."""
        self._folder = folder
        self._answer = answer
        self._closing = threading.Event()
        folder.mkdir(mode=0o700, parents=True)
        self._beat(0)
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._live, self._listen)]
        for thread in self._threads:
            thread.start()

    def _live(self) -> None:
        count = 0
        while not self._closing.wait(BEAT):
            count += 1
            with suppress(OSError):  # a full disk or a server that is away: the next one may get through
                self._beat(count)

    def _beat(self, count: int) -> None:
        temporary = self._folder / f"{ALIVE}.tmp"
        temporary.write_text(str(count))
        temporary.replace(self._folder / ALIVE)

    def _listen(self) -> None:
        while not self._closing.wait(BEAT / 4):
            for path in sorted(self._folder.glob("*.talk")):
                with suppress(OSError, ValueError):  # its client has gone; or the next look finds it whole
                    lines = path.read_text().split("\n")
                    if len(lines) % 2 == 0:
                        _append(path, self._answer(json.loads(lines[-2]), path.name))

    def close(self) -> None:
        """Answer nobody any more: clients find the folder gone."""
        self._closing.set()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)


class Conversation:
    """The asking side. Raises EOFError where the other one has ended or has not been heard of for SILENCE."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._path = self._folder / f"{secrets.token_hex(8)}.talk"
        self._answers = 0
        self._heard: tuple[str, float] = "", time.monotonic()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer."""
        self._require_alive()
        _append(self._path, request)
        self._answers += 1
        pause = 0.02
        while True:
            with suppress(OSError):
                lines = self._path.read_text().split("\n")
                if len(lines) > 2 * self._answers:
                    answer: dict[str, Any] = json.loads(lines[2 * self._answers - 1])
                    return answer
            time.sleep(pause)
            pause = min(2 * pause, BEAT)
            self._require_alive()

    def wait(self, ear: int) -> bool:
        """Wait until the descriptor `ear` says something, True, or the other side has ended, False."""
        try:
            while not select.select([ear], [], [], 10 * BEAT)[0]:
                self._require_alive()
        except EOFError:
            return False
        return True

    def close(self) -> None:
        """Leave nothing to look at."""
        self._path.unlink(missing_ok=True)

    def _require_alive(self) -> None:
        now, text = time.monotonic(), self._heard[0]
        try:
            text = (self._folder / ALIVE).read_text()
        except FileNotFoundError:
            raise EOFError from None
        except OSError:
            pass  # a server that is away counts as silence
        if text != self._heard[0]:
            self._heard = text, now
        elif now - self._heard[1] > SILENCE:
            raise EOFError


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
