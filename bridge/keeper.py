"""One loaded pipeline for many processes: `Keeper` answers the clients of bridge/client.py from threads of its own.

Clients on this machine talk through a socket, those on others through files in DVC's temporary folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from typing import Any

from bridge.client import ADDRESS
from bridge.interior import RUN, Pipeline, PipelineError
from bridge.mailbox import Mailbox
from bridge.plan import Job


class Keeper:
    """Serves a pipeline until `close`. A client that goes away between `begin` and `end` lets go of its stage, which
    another one may begin; only the last to begin a stage may end it.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        jobs: Mapping[str, Job],
        *,
        worker: str | None = None,
        modules: str = "",
        remote: bool = False,
        forced: Collection[str] = (),
    ) -> None:
        """worker: address of a warm one for commands of `modules`. remote: whether clients are on other machines.

        forced: names of stages to run even if they are up to date.
        """
        self._forced = set(forced)
        self._pipeline = pipeline
        self._jobs = jobs
        self._begun: dict[str, str] = {}  # stage to the conversation that has begun it
        self._closing = threading.Event()
        self._dvc = ThreadPoolExecutor(1)  # one thread, for one connection to DVC's data base of hashes
        for old in ADDRESS.parent.glob("bridge-*"):
            shutil.rmtree(old, ignore_errors=True)
        self._mailbox: Mailbox | None = None
        self._listener: Listener | None = None
        told: dict[str, Any] = {"modules": modules, "worker": None if remote else worker}
        if remote:
            folder = ADDRESS.parent.resolve() / f"bridge-{secrets.token_hex(8)}"
            self._mailbox = Mailbox(folder, self._said)
            told["folder"] = str(folder)
        else:
            self._listener = Listener(None, "AF_UNIX", 1024)
            self._secret = secrets.token_hex(32)
            told |= {"address": self._listener.address, "secret": self._secret}
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        temporary = ADDRESS.with_name(f"{ADDRESS.name}.{os.getpid()}.tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            json.dump(told, stream)
        temporary.replace(ADDRESS)
        threading.Thread(target=self._flush, daemon=True).start()

    def _accept(self, listener: Listener) -> None:
        while not self._closing.is_set():
            try:
                connection = listener.accept()
            except OSError:
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _flush(self) -> None:
        while not self._closing.wait(1):
            with suppress(PipelineError):  # a full disk may have room the next time; `close` says what is wrong
                self._pipeline.flush()

    def _serve(self, connection: Connection) -> None:
        conversation = secrets.token_hex(8)
        try:
            deliver_challenge(connection, self._secret.encode())
            answer_challenge(connection, self._secret.encode())
            while True:
                answer = self._said(json.loads(connection.recv_bytes()), conversation)
                connection.send_bytes(json.dumps(answer).encode())
        except (EOFError, OSError, AuthenticationError):
            pass
        finally:
            for name in [name for name, whose in self._begun.items() if whose == conversation]:
                self._let_go(name)
            connection.close()

    def _said(self, request: dict[str, Any], conversation: str) -> dict[str, Any]:
        try:
            return self._answer(request["do"], request["stage"], conversation)
        except (PipelineError, KeyError) as error:
            return {"error": str(error)}

    def _answer(self, do: str, name: str, conversation: str) -> dict[str, Any]:
        if do == "end":
            if self._begun.get(name) != conversation:
                return {"error": "another job has begun it since; allowed: one at a time"}
            del self._begun[name]
            self._dvc.submit(self._pipeline.end, name).result()
            self._forced.discard(name)
            return {"found": "recorded"}
        self._let_go(name)
        found = self._dvc.submit(self._pipeline.begin, name, force=name in self._forced).result()
        if found == RUN:
            self._begun[name] = conversation
        return {"found": found, "job": asdict(self._jobs[name])}

    def _let_go(self, name: str) -> None:
        if self._begun.pop(name, None):
            self._pipeline.drop(name)

    def close(self) -> None:
        """Answer nobody any more and have dvc.lock hold everything."""
        self._closing.set()
        ADDRESS.unlink(missing_ok=True)
        if self._listener:
            self._listener.close()
        if self._mailbox:
            self._mailbox.close()
        self._dvc.shutdown()
        try:
            self._pipeline.close()
        except PipelineError as error:
            print(f"dvc: {error}", file=sys.stderr, flush=True)
