"""Do the unit tests notice wrong mathematics? `python -m tests.mutation [PART ...]` changes one thing at a time.

Signs, operators, comparisons, exponents, numbers, conditions and elementary functions of each file below are changed,
one per run of the tests that are about the file; what survives is printed, with the share that was noticed. A change
that makes tests hang counts as noticed. Text, types, settings and what only leads to an error message are left alone.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import inspect
import os
import signal
import sys
import time
import types
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

PARTS = {
    **{
        f"tailnas/losses/{name}.py": ["tests/unit/retrain/test_losses.py"]
        for name in (
            *("balanced_softmax", "cross_entropy", "focal", "label_aware_smoothing", "ldam", "logit_adjustment"),
            "sigmoid_focal",
        )
    },
    "tailnas/retrain/reweighting.py": ["tests/unit/retrain/test_losses.py"],
    "tailnas/imbalance/class_weights.py": ["tests/unit/imbalance/test_class_weights.py"],
    "tailnas/imbalance/samplers.py": ["tests/unit/imbalance/test_samplers.py"],
    "tailnas/imbalance/mixing.py": ["tests/unit/imbalance/test_mixing_ratio.py"],
    "tailnas/imbalance/smoothing.py": ["tests/unit/imbalance/test_smoothing.py"],
    "tailnas/imbalance/accuracy.py": ["tests/unit/imbalance/test_accuracy.py"],
    "tailnas/training/learning_rate.py": ["tests/unit/training/test_learning_rate.py"],
    "tailnas/search/architecture_rates.py": ["tests/unit/search/test_architecture_rates.py"],
    "tailnas/evaluate/metrics.py": ["tests/unit/evaluate/test_metrics.py"],
    "tailnas/report/statistics.py": ["tests/unit/report/test_statistics.py"],
    "tailnas/retrain/width.py": [
        "tests/unit/retrain/test_width.py",
        *("-k", "stages or published or exact or narrowest or every_width or widest"),
    ],
    "tailnas/split/long_tail.py": ["tests/unit/split/test_splits.py"],
    "tailnas/search/bilevel.py": [
        *("tests/exactness/test_search.py", "tests/unit/search/test_bilevel_search.py"),
        *("-k", "side_by_side and not two or regulariser or means or travel"),
    ],
    "tailnas/search/architecture_gradient.py": [
        "tests/exactness/test_search.py",
        *("-k", "side_by_side and not two and (gradients or tends)"),
    ],
}
QUIET = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
LIMIT = 300
"""Seconds until a run of tests counts as hanging."""

SWAPS: dict[type[ast.AST], list[type[ast.AST]]] = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.Pow: [ast.Mult],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.Mult],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
}
CALLED = {"sub_": "add_", "add_": "sub_", "log": "exp", "exp": "log", "sin": "cos", "cos": "sin", "sqrt": "square"}
CALLED |= {"min": "max", "max": "min", "sum": "mean", "mean": "sum", "floor": "ceil", "ceil": "floor"}
CALLED |= {"_foreach_add": "_foreach_sub", "_foreach_sub": "_foreach_add", "_foreach_add_": "_foreach_sub_"}
CALLED |= {"_foreach_sub_": "_foreach_add_", "_foreach_mul_": "_foreach_div_"}
LEFT_ALONE = (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.arg)


def mutants(source: str) -> Iterator[tuple[int, str, ast.Module]]:
    """Line, words and tree of every changed version of `source`."""
    tree = ast.parse(source)
    places = list(_places(tree))
    for index, node in enumerate(places):
        for change in range(_changes(node)):
            changed = copy.deepcopy(tree)
            target = list(_places(changed))[index]
            before = ast.unparse(target)
            after = _apply(target, change)
            yield getattr(node, "lineno", 0), f"{before} -> {after}", ast.fix_missing_locations(changed)


def _places(node: ast.AST) -> Iterator[ast.AST]:
    for field, value in ast.iter_fields(node):
        if field in {"decorator_list", "annotation", "returns", "keywords"} and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            setting = isinstance(node, ast.ClassDef) and isinstance(child, ast.AnnAssign)
            if not isinstance(child, ast.AST) or isinstance(child, LEFT_ALONE) or setting:
                continue
            if _changes(child):
                yield child
            yield from _places(child)


def _changes(node: ast.AST) -> int:
    if isinstance(node, ast.BinOp | ast.BoolOp):
        return len(SWAPS.get(type(node.op), []))
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return len(SWAPS.get(type(node.ops[0]), []))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return 2
    if isinstance(node, ast.Attribute):
        return int(node.attr in CALLED)
    return int(isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not))


def _apply(node: ast.AST, change: int) -> str:
    """Changes `node` in place; what it is then, in words."""
    if isinstance(node, ast.BinOp | ast.BoolOp):
        node.op = SWAPS[type(node.op)][change]()  # type: ignore[assignment]
    elif isinstance(node, ast.Compare):
        node.ops = [SWAPS[type(node.ops[0])][change]()]  # type: ignore[list-item]
    elif isinstance(node, ast.Constant):
        node.value = node.value + (1, -1)[change]  # type: ignore[operator]
    elif isinstance(node, ast.Attribute):
        node.attr = CALLED[node.attr]
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else node.op
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
    return ast.unparse(node)


def put_in(tree: ast.Module, file: str) -> None:
    """Have the module of `file`, which is loaded, run the code of `tree`: functions keep their identity."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    changed = dict(vars(module))
    exec(compile(tree, file, "exec"), changed)
    _take_over(vars(module), changed)


def _take_over(old: Mapping[str, object], new: Mapping[str, object]) -> None:
    for name, before in list(old.items()):
        after = new.get(name)
        if inspect.isclass(before) and inspect.isclass(after):
            if before is not after:
                _take_over(vars(before), vars(after))
            continue
        first, second = _function(before), _function(after)
        if first is not None and second is not None:
            first.__code__, first.__defaults__, first.__kwdefaults__ = (
                *(second.__code__, second.__defaults__),
                second.__kwdefaults__,
            )
        elif isinstance(old, dict) and isinstance(before, int | float | dict | list | tuple) and before != after:
            old[name] = after
        if clear := getattr(before, "cache_clear", None):
            clear()


def _function(value: object) -> types.FunctionType | None:
    """The plain function inside of a property, a method or a decorated function."""
    value = getattr(value, "fget", None) or getattr(value, "__func__", None) or getattr(value, "func", None) or value
    value = inspect.unwrap(value) if callable(value) else value
    return value if isinstance(value, types.FunctionType) else None


def noticed(file: str, tree: ast.Module | None, tests: list[str]) -> bool:
    """Whether the tests fail, or hang, with `tree` in the place of `file`; in a process of its own."""
    process = os.fork()
    if not process:
        os.setsid()
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if tree is not None:
            try:
                put_in(tree, file)
            except Exception:
                os._exit(1)
        os._exit(int(pytest.main([*QUIET, "-x", *tests])))
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status != 0
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def main(chosen: list[str]) -> None:
    torch.set_num_threads(1)
    seen = total = 0
    for file, tests in PARTS.items():
        if chosen and not any(part in file for part in chosen):
            continue
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            pytest.main([*QUIET, "--collect-only", *tests])  # loads all that the tests need, once, before the forks
        if noticed(file, None, tests):
            sys.exit(f"{file}: its tests fail as it is; allowed: tests that pass")
        found = [(line, words, noticed(file, tree, tests)) for line, words, tree in mutants(Path(file).read_text())]
        for line, words, caught in found:
            if not caught:
                print(f"  survived  {file}:{line}  {words}")
        seen, total = seen + sum(caught for *_, caught in found), total + len(found)
        print(f"{file}: {sum(caught for *_, caught in found)} of {len(found)} noticed", flush=True)
    print(f"all: {seen} of {total} noticed ({seen / max(total, 1):.1%})")


if __name__ == "__main__":
    main(sys.argv[1:])
