"""dvc.yaml says of each stage exactly what its script reads: code, parameters, inputs."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

from .project import REPOSITORY

STAGES = {
    name: document.get("do", document)
    for name, document in yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"].items()
}
PARAMS = Path("tailnas/params.py")
"""A dependency of validate alone: to the others their own sections are dependencies, not how they are described."""

ALWAYS_RUN = {Path("tailnas/__init__.py"), Path("stages/__init__.py")}
"""Run whenever anything is imported; they load nothing and compute nothing (see below)."""


def file_of(module: str) -> Path | None:
    path = Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (REPOSITORY / candidate).is_file():
            return candidate
    return None


def packages_of(path: Path) -> set[Path]:
    """The __init__ files that Python runs before the module, but those of a docstring alone."""
    files = [folder / "__init__.py" for folder in path.parents if folder.parts]
    return {file for file in files if len(ast.parse((REPOSITORY / file).read_text()).body) > 1}


@cache
def imports(path: Path) -> frozenset[Path]:
    """Files of this repository that `path` imports, wherever in the file; not those for type checkers alone.

    Where a module is looked up by its name at run time, its whole package is imported.
    """
    found: set[Path] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(filter(None, (file_of(alias.name) for alias in node.names)))
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                module = file_of(f"{node.module}.{alias.name}") or file_of(str(node.module))
                if module is not None:
                    found.add(module)
        if isinstance(node, ast.Name) and node.id == "import_module" and path != Path("tailnas/__init__.py"):
            found.update(file.relative_to(REPOSITORY) for file in (REPOSITORY / path).parent.glob("*.py"))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse((REPOSITORY / path).read_text()))
    return frozenset(found)


def closure(script: Path, excluded: set[Path]) -> set[Path]:
    """All files of this repository that run when `script` does."""
    todo, seen = [script], set()
    while todo:
        path = todo.pop()
        if path not in seen and path not in excluded:
            seen.add(path)
            todo += [*imports(path), *packages_of(path)]
    return seen


def code_of(stage: str) -> list[Path]:
    return [Path(dep) for dep in STAGES[stage]["deps"] if dep.startswith(("stages/", "tailnas/"))]


def covers(dependency: Path, file: Path) -> bool:
    return file == dependency or dependency in file.parents


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_import_closure(stage):
    excluded = ALWAYS_RUN | (set() if stage == "validate" else {PARAMS})
    needed = closure(Path("stages") / f"{stage}.py", excluded)
    declared = code_of(stage)
    missing = sorted(str(file) for file in needed if not any(covers(dep, file) for dep in declared))
    assert not missing, f"imported by {stage}, but no dependency of it"
    surplus = sorted(str(dep) for dep in declared if not any(covers(dep, file) for file in needed))
    assert not surplus, f"dependencies of {stage} that it never imports"
    assert (PARAMS in declared) == (stage == "validate")
    assert len(declared) == len(set(declared))
    nested = [str(dep) for dep in declared for other in declared if other in dep.parents]
    assert not nested, "listed twice: the folder is there as well"


def test_what_every_import_runs_computes_nothing():
    for path in ALWAYS_RUN:
        statements = ast.parse((REPOSITORY / path).read_text()).body
        calls = {ast.unparse(node) for node in statements if isinstance(node, ast.Expr)} - {
            ast.unparse(statements[0])  # the docstring
        }
        assert calls <= {"os.environ.setdefault('GOMP_SPINCOUNT', '10000')"}
        modules = {name.name for node in statements if isinstance(node, ast.Import) for name in node.names}
        modules |= {str(node.module) for node in statements if isinstance(node, ast.ImportFrom)}
        assert modules <= {"os", "importlib", "typing"}


def asked_for(script: Path) -> tuple[set[str], set[str]]:
    """Arguments of every `stage.section(...)`, and attributes X of every `stage.params.X`."""
    sections, attributes = set(), set()
    for node in ast.walk(ast.parse((REPOSITORY / script).read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "stage.section":
            (argument,) = node.args
            sections.add(ast.unparse(argument).removeprefix("f").strip("'\"").replace("{args.role}", "${key}"))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "stage.params":
            attributes.add(node.attr)
    return sections, attributes


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "validate"])
def test_parameters_are_the_sections_that_the_script_asks_for(stage):
    sections, attributes = asked_for(Path("stages") / f"{stage}.py")
    assert set(STAGES[stage].get("params", [])) == sections
    assert attributes <= {"runtime"}, "only runtime may be read without being a dependency"


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "validate"])
def test_commands_name_the_inputs_and_the_output(stage):
    document = STAGES[stage]
    words = document["cmd"].split()
    assert words[:3] == ["python", "-m", f"stages.{stage}"]
    (output,) = document["outs"]
    assert words[words.index("--output") + 1] == output
    deps = [dep for dep in document["deps"] if dep.startswith(("data/", "results/"))]
    folders = [words[i + 1] for i, word in enumerate(words) if word.startswith("--")]
    inputs = [path for path in folders if path.startswith(("data/", "results")) and path != output]
    for dep in deps:
        assert dep == "data/params.ok" or any(dep == path or dep.startswith(f"{path}/") for path in inputs), (
            f"{dep} is no input of the command"
        )
    for path in inputs:
        assert any(dep == path or dep.startswith(f"{path}/") for dep in deps), f"{path} is no dependency"


@pytest.mark.parametrize("stage", ["split", "search", "retrain", "adapt"])
def test_the_targets_test_part_is_nobodys_dependency_but_evaluates(stage):
    target = [dep for dep in STAGES[stage]["deps"] if "${data.target.name}" in dep]
    assert target and all(
        dep.rsplit("/", 1)[1] in {"meta.json", "train_images.npy", "train_labels.npy"} for dep in target
    )


def test_runtime_is_no_stages_parameter():
    assert not any("runtime" in str(document.get("params", [])) for document in STAGES.values())


def test_nothing_is_left_uncached_and_only_the_reports_numbers_are_metrics():
    document = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
    assert document["metrics"] == ["results/report/metrics.json"]
    assert all(isinstance(out, str) for stage in STAGES.values() for out in stage["outs"])
