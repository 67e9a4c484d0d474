"""dvc.yaml says of each stage exactly what its script reads: code, parameters, inputs."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

from tailnas.foundation.extensions import names

from .project import REPOSITORY

DOCUMENT = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
STAGES = {name: document.get("do", document) for name, document in DOCUMENT["stages"].items()}
STAGE_SCRIPTS = [Path("stages") / f"{stage}.py" for stage in STAGES]
EXTENSIONS = ("tailnas/sources", "tailnas/methods", "tailnas/losses", "tailnas/heads")
EXTENSION_FILES = {Path(folder, f"{name}.py") for folder in EXTENSIONS for name in names(folder.replace("/", "."))}
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
    """Files of this repository that `path` imports, wherever in the file; not those for type checkers alone."""
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
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse((REPOSITORY / path).read_text()))
    return frozenset(found)


def closure(*scripts: Path) -> set[Path]:
    """All files of this repository that run when `scripts` do."""
    todo, seen = list(scripts), set()
    while todo:
        path = todo.pop()
        if path not in seen and path not in ALWAYS_RUN:
            seen.add(path)
            todo += [*imports(path), *packages_of(path)]
    return seen


def code_of(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith(("stages/", "tailnas/"))]


def chosen(dependency: str) -> set[Path]:
    """The files that a dependency with a template in it may be; none for others."""
    folder = dependency.rsplit("/", 1)[0]
    return {file for file in EXTENSION_FILES if "${" in dependency and str(file.parent) == folder}


def covers(dependency: str, file: Path) -> bool:
    return file in chosen(dependency) or file == Path(dependency) or Path(dependency) in file.parents


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_import_closure(stage):
    declared = code_of(stage)
    extensions = EXTENSION_FILES if stage == "validate" else set().union(*map(chosen, declared))
    needed = closure(Path("stages") / f"{stage}.py", *extensions)
    missing = sorted(str(file) for file in needed if not any(covers(dep, file) for dep in declared))
    assert not missing, f"imported by {stage}, but no dependency of it"
    surplus = sorted(dep for dep in declared if not any(covers(dep, file) for file in needed))
    assert not surplus, f"dependencies of {stage} that it never imports"
    assert len(declared) == len(set(declared))
    nested = [dep for dep in declared for other in declared if Path(other) in Path(dep).parents]
    assert not nested, "listed twice: the folder is there as well"


@pytest.mark.parametrize("file", sorted(EXTENSION_FILES), ids=str)
def test_an_extension_imports_no_sibling_and_nobody_imports_it(file):
    """Else a change of one would have to make the users of the other stale."""
    assert not {other for other in imports(file) if other.parent == file.parent}
    importers = {path for path in closure(*STAGE_SCRIPTS) if file in imports(path)}
    assert importers == set()


LAYERS = (
    {"foundation"},
    {"data", "imbalance", "genotype", "calibration"},
    {"batches", "space"},
    {"training"},
    {
        *("fetch", "split", "pretrain", "search", "derive", "retrain", "adapt", "calibrate", "evaluate", "report"),
        "export",
        "validate",
    },
)
ROOMS_OF_OTHERS = {
    "adapt": {"retrain"},
    "calibrate": {"adapt", "retrain"},
    "export": {"evaluate"},
    "report": {"derive", "evaluate"},
}
"""Rooms of earlier stages that a stage's room may use; validate may use the settings of all."""
HOMES = {"sources": "fetch", "methods": "search", "losses": "retrain", "heads": "adapt"}


def test_imports_run_downwards():
    """A room uses rooms of lower layers, of its own layer below the stages' rooms, and none of another stage."""
    level = {room: index for index, layer in enumerate(LAYERS) for room in layer}
    for file in closure(*STAGE_SCRIPTS, *EXTENSION_FILES):
        if file.parts[0] != "tailnas" or len(file.parts) < 3:
            continue
        room = HOMES.get(file.parts[1], file.parts[1])
        used = {found.parts[1] for found in imports(file) if found.parts[0] == "tailnas"} - {room}
        if room == "validate":
            continue
        allowed = {other for other in level if level[other] <= level[room] and level[other] < len(LAYERS) - 1}
        assert used <= allowed | ROOMS_OF_OTHERS.get(room, set()), f"{file} uses {sorted(used)}"


def test_what_every_import_runs_computes_nothing():
    for path in ALWAYS_RUN:
        statements = ast.parse((REPOSITORY / path).read_text()).body
        calls = {ast.unparse(node) for node in statements if isinstance(node, ast.Expr)} - {
            ast.unparse(statements[0])  # the docstring
        }
        assert calls <= {"os.environ.setdefault('GOMP_SPINCOUNT', '10000')", "say_in_one_line()"}
        modules = {name.name for node in statements if isinstance(node, ast.Import) for name in node.names}
        modules |= {str(node.module) for node in statements if isinstance(node, ast.ImportFrom)}
        assert modules <= {"os", "sys", "types", "importlib", "typing", "tailnas.foundation.uncaught"}


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "validate"])
def test_every_stage_says_what_it_needs(stage):
    """Memory in MB and minutes; what is retrained, adapted and measured of one run is one job of a cluster."""
    document = STAGES[stage]
    meta = document.get("do", document)["meta"]
    assert {"mem_mb", "runtime"} <= meta.keys()
    assert (meta.get("group") == "run_${key}") == (
        document.get("outs", [""])[0].startswith("results/runs/${key}/") and stage not in ("search", "derive")
    )


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
        assert dep.startswith(("data/params.ok", "data/watched")) or any(
            dep == path or dep.startswith(f"{path}/") for path in inputs
        ), f"{dep} is no input of the command"
    for path in inputs:
        assert any(dep == path or dep.startswith(f"{path}/") for dep in deps), f"{path} is no dependency"


@pytest.mark.parametrize("stage", ["split", "search", "retrain", "adapt", "calibrate"])
def test_the_targets_test_part_is_nobodys_dependency_but_evaluates(stage):
    target = [dep for dep in STAGES[stage]["deps"] if "${data.target.name}" in dep]
    allowed = {"meta.json", "train_images.npy", "train_labels.npy", "digests.npy", "groups.npy"}
    assert target and {dep.rsplit("/", 1)[1] for dep in target} <= allowed


def test_runtime_is_no_stages_parameter():
    assert not any("runtime" in str(document.get("params", [])) for document in STAGES.values())


def test_nothing_is_left_uncached_and_only_the_reports_numbers_are_metrics():
    assert DOCUMENT["metrics"] == ["results/report/metrics.json"]
    assert all(isinstance(out, str) for stage in STAGES.values() for out in stage["outs"])
