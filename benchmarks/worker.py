"""One side of one case in a process of its own, so that its peak memory is its own; it steps when it is told to."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from dataclasses import asdict
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.cases import Case

ANSWER_SECONDS = 1800
STEPS_BEFORE_A_GPU_IS_WARM = 8
"""Libraries choose their algorithms, and tailnas records its CUDA graph."""


class Worker:
    """`with Worker(side, case, device, threads, precision) as worker:`; answers come once the step is warm."""

    def __init__(self, side: str, case: Case, device: str, threads: int, precision: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, side, case, device, threads, precision), daemon=True
        )
        self._process.start()
        theirs.close()

    def seconds(self, steps: int) -> list[float]:
        """Seconds of each of `steps` steps."""
        return list(self._ask("seconds", steps))

    def memory(self) -> dict[str, int]:
        """Bytes. `peak_memory`: of the whole process on a CPU, of the allocator on a GPU; `baseline_memory`: the part
        of it that was there before the network was.
        """
        return dict(self._ask("memory"))

    def counts(self) -> dict[str, int]:
        return dict(self._ask("counts"))

    def where(self) -> list[dict[str, Any]]:
        """Seconds of one step by operation."""
        return list(self._ask("where"))

    def ready(self) -> None:
        """Wait until the step is built and warm."""
        self._ask("ready")

    def _ask(self, *question: Any) -> Any:
        self._pipe.send(question)
        if not self._pipe.poll(ANSWER_SECONDS):
            raise TimeoutError(f"no answer to {question[0]!r} within {ANSWER_SECONDS} s")
        try:
            kind, answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("a benchmark process died (out of memory?)") from None
        if kind == "error":
            raise RuntimeError(answer)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def serve(pipe: Connection, side: str, case: Case, device: str, threads: int, precision: str) -> None:
    """Answer until the other end closes."""
    try:
        measured = Measured(side, case, device, threads, precision)
    except Exception:
        pipe.recv()
        pipe.send(("error", traceback.format_exc()))
        return
    while True:
        try:
            question, *details = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("answer", getattr(measured, question)(*details)))
        except Exception:
            pipe.send(("error", traceback.format_exc()))


class Measured:
    """The step, its clock and its memory, inside the worker's process."""

    def __init__(self, side: str, case: Case, device: str, threads: int, precision: str) -> None:
        import torch

        from benchmarks.sides import build

        self.torch = torch
        self.device = torch.device(device)
        self.baseline_memory = resident_bytes("VmRSS") if self.device.type == "cpu" else 0
        self.side = build(side, case, self.device, threads, precision)
        self.side.run(1 if self.device.type == "cpu" else STEPS_BEFORE_A_GPU_IS_WARM, lambda: None)
        self._wait()

    def ready(self) -> None:
        return None

    def seconds(self, steps: int) -> list[float]:
        if self.device.type == "cpu":
            times = [time.perf_counter()]
            self.side.run(steps, lambda: times.append(time.perf_counter()))
            return [after - before for before, after in pairwise(times)]
        self._wait()
        events = [self._recorded_event()]
        self.side.run(steps, lambda: events.append(self._recorded_event()))
        self._wait()
        return [before.elapsed_time(after) / 1e3 for before, after in pairwise(events)]

    def _recorded_event(self) -> Any:
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def memory(self) -> dict[str, int]:
        gpu = self.device.type == "cuda"
        peak = self.torch.cuda.max_memory_allocated() if gpu else resident_bytes("VmHWM")
        return {"peak_memory": int(peak), "baseline_memory": self.baseline_memory}

    def counts(self) -> dict[str, int]:
        from benchmarks.count import count

        return asdict(count(self.side.eager))

    def where(self) -> list[dict[str, Any]]:
        from benchmarks.where import time_by_operation

        return time_by_operation(self.side.eager, self.device)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()


def resident_bytes(line_name: str) -> int:
    """VmRSS, the resident size of this process, or VmHWM, its largest so far.

    From /proc: `ru_maxrss` would start at the size of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(line_name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {line_name}; memory is measured on Linux only")
