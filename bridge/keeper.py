"""One loaded pipeline for many processes: `Keeper` answers the clients of bridge/client.py from threads of its own."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from typing import Any

from bridge.client import ADDRESS
from bridge.interior import RUN, Pipeline, PipelineError
from bridge.plan import Job


class Keeper:
    """Serves a pipeline until `close`. A client that goes away between `begin` and `end` lets go of its stage."""

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
        self._forced = forced
        self._pipeline = pipeline
        self._jobs = jobs
        self._listener = Listener(("", 0) if remote else None, "AF_INET" if remote else "AF_UNIX", 1024)
        self._secret = secrets.token_hex(32)
        address = self._listener.address
        told = {
            "address": [socket.getfqdn(), address[1]] if remote else address,
            "secret": self._secret,
            "host": os.uname().nodename,
            "worker": worker,
            "modules": modules,
        }
        temporary = ADDRESS.with_name(f"{ADDRESS.name}.{os.getpid()}.tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            json.dump(told, stream)
        temporary.replace(ADDRESS)
        self._closing = threading.Event()
        self._dvc = ThreadPoolExecutor(1)  # one thread, for one connection to DVC's data base of hashes
        for target in (self._accept, self._flush):
            threading.Thread(target=target, daemon=True).start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection = self._listener.accept()
            except OSError:
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _flush(self) -> None:
        while not self._closing.wait(1):
            self._pipeline.flush()

    def _serve(self, connection: Connection) -> None:
        name, begun = "", False
        try:
            deliver_challenge(connection, self._secret.encode())
            answer_challenge(connection, self._secret.encode())
            while True:
                request = json.loads(connection.recv_bytes())
                name = request["stage"]
                try:
                    answer = self._answer(request)
                except (PipelineError, KeyError) as error:
                    answer = {"error": str(error)}
                begun = answer.get("found") == RUN
                connection.send_bytes(json.dumps(answer).encode())
        except (EOFError, OSError, AuthenticationError):
            pass
        finally:
            if begun:
                self._pipeline.drop(name)
            connection.close()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["stage"]
        if request["do"] == "end":
            self._dvc.submit(self._pipeline.end, name).result()
            return {"found": "recorded"}
        found = self._dvc.submit(self._pipeline.begin, name, force=name in self._forced).result()
        return {"found": found, "job": asdict(self._jobs[name])}

    def close(self) -> None:
        """Answer nobody any more and have dvc.lock hold everything."""
        self._closing.set()
        ADDRESS.unlink(missing_ok=True)
        self._listener.close()
        self._dvc.shutdown()
        self._pipeline.close()
