"""A forked stage is what a fresh Python would be: output, status, arguments, environment, end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bridge.command import Command
from bridge.plan import Job
from bridge.worker import Worker, module_command

SCRIPT = """
import atexit, os, random, sys, threading, time
from steps.code import VALUE
print("arguments", sys.argv[1:], __name__, VALUE, os.environ.get("OWN"), "json" in sys.modules, flush=True)
print("path", sys.path[0] == os.getcwd(), threading.active_count(), file=sys.stderr, flush=True)
atexit.register(lambda: print("handler"))
what = sys.argv[1]
if what == "text": sys.exit("one line")
if what == "status": sys.exit(7)
if what == "raise": raise ValueError("a bug")
if what == "signal": os.kill(os.getpid(), 15)
if what == "sleep": time.sleep(60)
if what == "nap": time.sleep(1), print("woken")
if what == "thread": threading.Thread(target=lambda: (time.sleep(0.2), print("thread ended"))).start()
if what == "interrupt": raise KeyboardInterrupt
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "__init__.py").write_text("")
    (tmp_path / "steps" / "one.py").write_text(SCRIPT)
    (tmp_path / "steps" / "code.py").write_text("VALUE = 1\n")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def worker():
    worker = Worker(["json", "no_such_module"])
    yield worker
    worker.close()


def run(root: Path, what: str, worker: Worker | None) -> tuple[int, str]:
    job = Job("one", [f"python -m steps.one {what} --seed 0"], ".", [], {}, done=False)
    log = root / "log"
    with log.open("wb") as out:
        address = worker.address if worker else None
        status = Command(job, str(root), {**os.environ, "OWN": "yes"}, address, "steps.").run(out)
    return status, log.read_text().replace(" json True", "")


@pytest.mark.parametrize("shell", [None, "/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("what", ["nothing", "text", "status", "thread", "signal"])
def test_a_fork_does_what_a_fresh_python_does(project, worker, what, shell, monkeypatch):
    if shell is None:
        monkeypatch.delenv("SHELL", raising=False)
    else:
        monkeypatch.setenv("SHELL", shell)
    status, said = run(project, what, worker)
    alone = run(project, what, None)
    by_the_stage = alone[1].removesuffix("Terminated\n")  # dash's own word on its child
    assert said.replace("True\npath", "X\npath") == by_the_stage.replace("False\npath", "X\npath")
    assert status % 256 in {alone[0] % 256, 128 + 15, 256 - 15}
    assert (status == 0) == (alone[0] == 0)


def test_an_uncaught_error_is_a_traceback_of_the_script_and_status_1(project, worker):
    status, said = run(project, "raise", worker)
    assert status == 1 and "ValueError: a bug" in said and "steps/one.py" in said
    assert run(project, "interrupt", worker)[0] == 130


def test_code_is_read_anew_for_every_stage(project, worker):
    assert " 1 yes" in run(project, "nothing", worker)[1]
    (project / "steps" / "code.py").write_text("VALUE = 'two'\n")
    assert " two yes" in run(project, "nothing", worker)[1]


@contextmanager
def sleeping(project: Path, worker: Worker) -> Iterator[Callable[[], int]]:
    """A command at work; what is given kills it and returns its status."""
    job = Job("one", ["python -m steps.one sleep"], ".", [], {}, done=False)
    statuses: list[int] = []
    with (project / "log").open("wb") as out:
        command = Command(job, str(project), os.environ, worker.address, "steps.")
        thread = threading.Thread(target=lambda: statuses.append(command.run(out)))
        thread.start()
        while "arguments" not in (project / "log").read_text():
            time.sleep(0.01)

        def kill() -> int:
            command.kill()
            thread.join(20)
            return statuses[0]

        yield kill


def test_a_killed_command_is_dead_and_ps_had_shown_it(project, worker):
    with sleeping(project, worker) as kill:
        (child,) = psutil.Process(worker._process.pid).children()
        assert child.cmdline()[1:4] == ["-m", "steps.one", "sleep"]
        assert kill() == -signal.SIGKILL
    assert psutil.wait_procs([child], timeout=20)[1] == []


def test_without_its_starter_the_worker_ends_and_its_children_too(project):
    program = (
        "import sys, os; from bridge.worker import Worker, Running; w = Worker(['json']);"
        "r = Running(w.address, ['steps.one', 'sleep'], sys.argv[1], dict(os.environ), (0, 1, 2));"
        "print(w._process.pid, flush=True); r.wait()"
    )
    starter = subprocess.Popen([sys.executable, "-c", program, str(project)], stdout=subprocess.PIPE, text=True)
    pid = int(starter.stdout.readline())
    assert "arguments" in starter.stdout.readline()
    family = [psutil.Process(pid), *psutil.Process(pid).children()]
    assert len(family) == 2
    assert_ends_with(starter, family)


def assert_ends_with(starter: subprocess.Popen[str], family: list[psutil.Process]) -> None:
    starter.kill()
    _, alive = psutil.wait_procs(family, 20)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_worker_that_has_died_is_done_without(project):
    worker = Worker(["json"])
    worker._process.kill()
    worker._process.wait()
    status, said = run(project, "nothing", worker)
    assert status == 0 and "arguments" in said
    worker.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("python -m steps.one --a b/c@d-1.5", ["steps.one", "--a", "b/c@d-1.5"]),
        ("python -m steps.one > file", None),
        ("python -m steps.one $HOME", None),
        ("python -m steps.one 'a b'", None),
        ("python steps/one.py", None),
        ("echo -m steps.one", None),
        ("A=1 python -m steps.one", None),
    ],
)
def test_only_a_plain_module_command_goes_to_the_worker(project, line, words):
    assert module_command(line) == words


def test_what_libraries_want_done_at_the_workers_end_is_not_done_at_a_stages(project, monkeypatch):
    library = "import atexit, weakref\nclass Kept: pass\nkept = Kept()\n"
    library += "atexit.register(print, 'the library')\nweakref.finalize(kept, print, 'the library')\n"
    (project / "some_library.py").write_text(library)
    (project / "steps" / "one.py").write_text(
        "import weakref\nclass Kept: pass\nkept = Kept()\nweakref.finalize(kept, print, 'the stage')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(project))
    warm = Worker(["some_library"])
    try:
        assert run(project, "nothing", warm) == (0, "the stage\n")
    finally:
        warm.close()


@pytest.fixture
def templates(project):
    """A worker that makes templates of the steps, whose code notes where it is imported."""
    (project / "steps" / "code.py").write_text(NOTED.format(value=1))
    warm = Worker(["json"], packages=["steps"])
    yield warm
    warm.close()


NOTED = "import os\nwith open('imported', 'a') as file: print(os.getpid(), file=file)\nVALUE = {value!r}\n"


def imported(project: Path) -> list[int]:
    return [int(line) for line in (project / "imported").read_text().split()]


def value(project: Path, worker: Worker, what: str = "nothing") -> str:
    status, said = run(project, what, worker)
    assert status == 0, said
    return said.split("__main__ ")[1].split()[0]


def test_what_a_module_imports_is_imported_once_for_all_its_forks_but_the_first(project, templates):
    alone = run(project, "thread", None)
    forks = [run(project, "thread", templates) for _ in range(4)]
    assert {(status, said.replace("True\npath", "X\npath")) for status, said in forks} == {
        (alone[0], alone[1].replace("False\npath", "X\npath"))
    }
    assert len(imported(project)) == 3  # the process alone, the first fork, the template


def test_nothing_but_the_stage_holds_its_output_open(project, templates):
    job = Job("one", ["python -m steps.one nothing"], ".", [], {}, done=False)
    for _ in range(4):
        ear, voice = os.pipe()
        with os.fdopen(voice, "wb") as out:
            assert Command(job, str(project), os.environ, templates.address, "steps.").run(out) == 0
        os.set_blocking(ear, False)
        while (part := os.read(ear, 4096)) != b"":  # raises BlockingIOError where someone may still write
            assert part
        os.close(ear)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("change", ["edit", "replace", "new", "remove"])
def test_a_template_ends_with_the_code_that_it_has_read(project, templates, change, times):
    code = project / "steps" / "code.py"
    assert [value(project, templates) for _ in range(times)] == ["1"] * times
    before = code.stat()
    if change == "edit":
        code.write_text(NOTED.format(value=22))
    elif change == "replace":  # of the same size and time
        (project / "other").write_text(NOTED.format(value=2))
        os.utime(project / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
        (project / "other").replace(code)
        shutil.rmtree(project / "steps" / "__pycache__", ignore_errors=True)
    elif change == "new":  # which goes before the one there was
        (project / "steps" / "code").mkdir()
        (project / "steps" / "code" / "__init__.py").write_text(NOTED.format(value=3))
    else:
        code.unlink()
        status, said = run(project, "nothing", templates)
        assert status == 1 and "No module named 'steps.code'" in said
        code.write_text(NOTED.format(value=44))
    expected = {"edit": "22", "replace": "2", "new": "3", "remove": "44"}[change]
    assert [value(project, templates) for _ in range(3)] == [expected] * 3


def test_a_fork_of_a_template_that_retires_is_waited_for(project, templates):
    value(project, templates)
    ended: list[int] = []
    thread = threading.Thread(target=lambda: ended.append(run(project, "nap", templates)[0]))
    thread.start()
    while "arguments ['nap'" not in (project / "log").read_text():
        time.sleep(0.01)
    (project / "log").rename(project / "first.log")
    (project / "steps" / "code.py").write_text(NOTED.format(value=22))
    assert value(project, templates) == "22"
    thread.join(20)
    assert ended == [0] and "woken" in (project / "first.log").read_text()


def test_code_that_starts_a_thread_gets_no_template(project, templates):
    (project / "steps" / "code.py").write_text(
        NOTED.format(value=1)
        + "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    assert [value(project, templates) for _ in range(5)] == ["1"] * 5
    assert len(set(imported(project))) == 6  # the template that was tried is not tried again


def test_code_behind_a_link_gets_no_template(project, templates):
    (project / "steps").rename(project / "elsewhere")
    (project / "steps").mkdir()
    for name in ("__init__.py", "one.py", "code.py"):
        (project / "steps" / name).write_bytes((project / "elsewhere" / name).read_bytes())
    (project / "steps" / "more").symlink_to(project / "elsewhere")
    assert [value(project, templates) for _ in range(4)] == ["1"] * 4
    assert len(set(imported(project))) == 4


def template(worker: Worker) -> psutil.Process:
    (child,) = psutil.Process(worker._process.pid).children()
    assert child.cmdline()[1:4] == ["-m", "bridge.forks", "steps.one"]
    return child


def test_a_template_that_was_killed_is_done_without(project, templates):
    value(project, templates), value(project, templates)
    template(templates).kill()
    assert [value(project, templates) for _ in range(3)] == ["1"] * 3


def test_a_killed_fork_of_a_template_is_dead(project, templates):
    value(project, templates), value(project, templates)
    with sleeping(project, templates) as kill:
        (child,) = template(templates).children()
        assert kill() == -signal.SIGKILL
    assert psutil.wait_procs([child], timeout=20)[1] == []
    assert value(project, templates) == "1"


def test_templates_and_their_forks_end_with_the_starter_of_their_worker(project):
    program = (
        "import sys, os; from bridge.worker import Worker, Running; w = Worker(['json'], packages=['steps']);"
        "run = lambda what: Running(w.address, ['steps.one', what], sys.argv[1], dict(os.environ), (0, 1, 2)).wait();"
        "run('nothing'); print(w._process.pid, flush=True); run('sleep')"
    )
    starter = subprocess.Popen([sys.executable, "-c", program, str(project)], stdout=subprocess.PIPE, text=True)
    lines = [starter.stdout.readline() for _ in range(4)]
    pid = int(next(line for line in lines if line.strip().isdigit()))
    while not (family := psutil.Process(pid).children(recursive=True))[1:]:
        time.sleep(0.01)
    assert len(family) == 2
    assert_ends_with(starter, [psutil.Process(pid), *family])


def test_a_worker_that_still_imports_is_closed_at_once(project, monkeypatch):
    (project / "slow_library.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(project))
    began = time.monotonic()
    Worker(["slow_library"]).close()
    assert time.monotonic() - began < 30


PAGES = """
import random
from bridge.forks import large_pages
held = random.Random(0).randbytes(64 << 20)
print(sum(large_pages()))
assert held == random.Random(0).randbytes(64 << 20)
"""


def test_memory_stays_as_it_is_in_large_pages():
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    kernel = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    has_large_pages = kernel >= (6, 1) and Path("/sys/kernel/mm/transparent_hugepage").exists()
    assert int(done.stdout) >= (1 if has_large_pages else 0)
