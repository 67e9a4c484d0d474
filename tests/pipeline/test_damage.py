"""Damaged inputs: one line that names the file, status 1, and nothing else touched."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tailnas.foundation.stage import Stage
from tailnas.space.weights import read_weights, save_weights

from .project import Project
from .stage_process import run_stage

TARGET, SOURCE, SPLIT, PRETRAINED = (
    "data/raw/digits",
    "data/raw/glyphs",
    "data/splits/if10-seed0",
    "results/pretrain/seed0",
)
SEARCH = "results/runs/bbn_hls-10-0"
RUN = f"{SEARCH}-0"
ARGUMENTS = {
    "split": {"imbalance-factor": "10", "seed": "0", "data": TARGET, "source": SOURCE, "output": SPLIT},
    "pretrain": {"seed": "0", "data": SOURCE, "output": PRETRAINED},
    "search": {
        "method": "bbn_hls",
        "imbalance-factor": "10",
        "seed": "0",
        "data": TARGET,
        "split": SPLIT,
        "source": SOURCE,
        "pretrained": PRETRAINED,
        "output": f"{SEARCH}/search",
    },
    "derive": {"found": f"{SEARCH}/search/found", "output": f"{SEARCH}/derive"},
    "retrain": {
        "seed": "0",
        "retrain-seed": "0",
        "data": TARGET,
        "split": SPLIT,
        "genotype": f"{SEARCH}/derive",
        "output": f"{RUN}/retrain",
    },
    "adapt": {
        "seed": "0",
        "retrain-seed": "0",
        "data": TARGET,
        "split": SPLIT,
        "retrained": f"{RUN}/retrain",
        "output": f"{RUN}/adapt",
    },
    "calibrate": {
        "seed": "0",
        "retrain-seed": "0",
        "data": TARGET,
        "split": SPLIT,
        "adapted": f"{RUN}/adapt",
        "output": f"{RUN}/calibrate",
    },
    "evaluate": {
        "data": TARGET,
        "split": SPLIT,
        "retrained": f"{RUN}/retrain",
        "calibrated": f"{RUN}/calibrate",
        "output": f"{RUN}/evaluate",
    },
    "report": {"results": "results", "data": TARGET, "splits": "data/splits", "output": "results/report"},
}
DATA = ("meta.json", "train_images.npy", "train_labels.npy")
TEST = ("meta.json", "test_images.npy", "test_labels.npy")
SPLIT_FILES = (f"{SPLIT}/split.csv", f"{SPLIT}/counts.csv")
INPUTS = {
    "split": [*(f"{TARGET}/{name}" for name in (*DATA, "digests.npy", "groups.npy")), f"{SOURCE}/digests.npy"],
    "pretrain": [f"{SOURCE}/{name}" for name in {*DATA, *TEST}],
    "search": [*(f"{TARGET}/{name}" for name in DATA), *SPLIT_FILES, f"{PRETRAINED}/supernet.safetensors"],
    "derive": [f"{SEARCH}/search/found/alphas.npz"],
    "retrain": [*(f"{TARGET}/{name}" for name in DATA), *SPLIT_FILES, f"{SEARCH}/derive/genotype.json"],
    "adapt": [*(f"{TARGET}/{name}" for name in DATA), *SPLIT_FILES, f"{RUN}/retrain/model.safetensors"],
    "calibrate": [*(f"{TARGET}/{name}" for name in DATA), *SPLIT_FILES, f"{RUN}/adapt/model.safetensors"],
    "evaluate": [
        *(f"{TARGET}/{name}" for name in TEST),
        *SPLIT_FILES,
        f"{RUN}/retrain/model.safetensors",
        f"{RUN}/calibrate/model.safetensors",
    ],
    "report": [
        f"{SPLIT}/counts.csv",
        *(f"{SEARCH}/search/{name}" for name in ("history.csv", "mixing_ratio.csv", "found/alphas.npz", "cost.json")),
        f"{SEARCH}/derive/genotype.json",
        *(f"{RUN}/{stage}/history.csv" for stage in ("retrain", "adapt")),
        *(f"{RUN}/evaluate/{name}" for name in ("metrics.json", "confusion.csv")),
        f"{PRETRAINED}/history.csv",
    ],
}


@pytest.fixture(scope="module")
def sound(study, tmp_path_factory) -> Path:
    """Parameters, declarations and all outputs of the study; no engine."""
    root = tmp_path_factory.mktemp("sound") / "project"
    root.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(study.dvc.root / name, root)
    for name in ("data", "results"):
        shutil.copytree(study.dvc.root / name, root / name)
    return root


@pytest.fixture
def project(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "project")


def run(root: Path, stage: str, **limits):
    return run_stage(
        root, stage, *(word for name, value in ARGUMENTS[stage].items() for word in (f"--{name}", value)), **limits
    )


def contents(root: Path) -> dict[str, str]:
    """Every file and folder but logs and the stages' own state, with a digest of each file."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(root.rglob("*"))
        if path.relative_to(root).parts[0] not in {"logs", ".tailnas"}
    }


def assert_refused(root: Path, stage: str, named: str, pattern: str = "", **limits) -> None:
    """Status 1 and one line that names `named`; the output is as it was and nothing is left over."""
    before = contents(root)
    ended = run(root, stage, **limits)
    assert "Traceback" not in ended.err, ended.err
    assert ended.status == 1, ended
    line = ended.err.strip()
    assert len(line.splitlines()) == 1 and named in line, ended.err
    assert re.search(pattern, line), line
    assert contents(root) == before
    assert not list((root / ".tailnas" / "checkpoints").glob("*.tmp"))


WHOLE = {
    "missing": lambda path: path.unlink(),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 8),
}


def slow_but_first(cases: list[tuple[str, ...]], of: Callable[[tuple[str, ...]], object]) -> list[Any]:
    """`make test` runs the first case of each kind, `make test-slow` the others."""
    seen: set[object] = set()
    marked = []
    for case in cases:
        marked.append(pytest.param(*case, marks=[pytest.mark.slow] if of(case) in seen else [], id="-".join(case)))
        seen.add(of(case))
    return marked


@pytest.mark.parametrize(
    ("stage", "name", "kind"),
    slow_but_first(
        [(stage, name, kind) for stage, names in INPUTS.items() for name in sorted(names) for kind in WHOLE],
        of=lambda case: Path(case[1]).name,
    ),
)
def test_an_input_that_is_not_whole(project, stage, name, kind):
    WHOLE[kind](project / name)
    assert_refused(project, stage, name)


def npy(root: Path, name: str, change) -> None:
    np.save(root / name, change(np.load(root / name)))


def text(root: Path, name: str, pattern: str, replacement: str) -> None:
    old = (root / name).read_text()
    new = re.sub(pattern, replacement, old, count=1, flags=re.MULTILINE)
    assert new != old
    (root / name).write_text(new)


def alphas(root: Path, change) -> None:
    path = root / SEARCH / "search" / "found" / "alphas.npz"
    with np.load(path) as file:
        arrays = {name: file[name].copy() for name in file.files}
    change(arrays)
    np.savez(path, **arrays)


def weights(root: Path, name: str, change) -> None:
    state, config = read_weights(root / name)
    change(state, config)
    save_weights(root / name, state, config)


def another_kind(root: Path, name: str, other: str) -> None:
    shutil.copy(root / other, root / name)


def without_metadata(root: Path, name: str) -> None:
    save_file(load_file(root / name), root / name)


def pickled(root: Path, name: str) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object))
    (root / name).write_bytes(stream.getvalue())


MODEL, SUPERNET, GENOTYPE = (
    f"{RUN}/retrain/model.safetensors",
    f"{PRETRAINED}/supernet.safetensors",
    f"{SEARCH}/derive/genotype.json",
)
IMAGES, LABELS, META = (f"{TARGET}/{name}" for name in ("train_images.npy", "train_labels.npy", "meta.json"))
DAMAGE = {
    # data
    "images of another type": ("split", IMAGES, lambda r: npy(r, IMAGES, lambda a: a.astype(np.float32)), "float32"),
    "images of another size": ("retrain", IMAGES, lambda r: npy(r, IMAGES, lambda a: a[:, :, :12, :12]), "12, 12"),
    "flat images": ("search", IMAGES, lambda r: npy(r, IMAGES, lambda a: a.reshape(len(a), -1)), "uint8"),
    "no images": ("split", IMAGES, lambda r: npy(r, IMAGES, lambda a: a[:0]), r"\(0,"),
    "fewer labels than images": ("split", LABELS, lambda r: npy(r, LABELS, lambda a: a[:-1]), "int64"),
    "a label that no class has": ("adapt", LABELS, lambda r: npy(r, LABELS, lambda a: a + 5), "allowed: 0 to 9"),
    "labels that meta.json does not count": (
        "split",
        LABELS,
        lambda r: npy(r, LABELS, lambda a: a[::-1] * 0),
        "meta.json",
    ),
    "objects in place of labels": ("split", LABELS, lambda r: pickled(r, LABELS), ""),
    "meta.json without its classes": ("split", META, lambda r: text(r, META, '"classes"', '"klasses"'), "classes"),
    "meta.json that lists": ("search", META, lambda r: (r / META).write_text("[1, 2]"), "object"),
    "a negative image size": ("split", META, lambda r: text(r, META, r'"image_size": \d+', '"image_size": -4'), "-4"),
    "test images of another size": (
        "evaluate",
        f"{TARGET}/test_images.npy",
        lambda r: npy(r, f"{TARGET}/test_images.npy", lambda a: a[:, :, ::2, ::2]),
        "8, 8",
    ),
    # the split
    "an unknown half": ("search", SPLIT_FILES[0], lambda r: text(r, SPLIT_FILES[0], "weight$", "wight"), "wight"),
    "an image twice": (
        "search",
        SPLIT_FILES[0],
        lambda r: text(r, SPLIT_FILES[0], r"^(\d+),(\d+),(\w+)\n\d+,", r"\1,\2,\3\n\1,"),
        "twice",
    ),
    "an image that is not there": (
        "retrain",
        SPLIT_FILES[0],
        lambda r: text(r, SPLIT_FILES[0], r"^\d+,", "99999,"),
        "99999",
    ),
    "a label out of range": (
        "search",
        SPLIT_FILES[0],
        lambda r: text(r, SPLIT_FILES[0], r"^(\d+),\d+,", r"\1,10,"),
        "10",
    ),
    "another header": ("adapt", SPLIT_FILES[0], lambda r: text(r, SPLIT_FILES[0], "^index", "row"), "row,label,half"),
    "a row less than counted": (
        "search",
        SPLIT_FILES[0],
        lambda r: text(r, SPLIT_FILES[0], r"^\d+,\d+,\w+\n", ""),
        "counts",
    ),
    "counts of fewer classes": (
        "evaluate",
        SPLIT_FILES[1],
        lambda r: text(r, SPLIT_FILES[1], r"^9,.*\n", ""),
        "9 classes",
    ),
    "a count that is no number": (
        "retrain",
        SPLIT_FILES[1],
        lambda r: text(r, SPLIT_FILES[1], r",\d+$", ",many"),
        "many",
    ),
    # alphas and genotypes
    "alphas that are NaN": (
        "derive",
        f"{SEARCH}/search/found/alphas.npz",
        lambda r: alphas(r, lambda a: a["normal"].__setitem__((-1, 3, 2), np.nan)),
        "finite",
    ),
    "alphas of another shape": (
        "derive",
        f"{SEARCH}/search/found/alphas.npz",
        lambda r: alphas(r, lambda a: a.update(normal=a["normal"][:, :13])),
        "13",
    ),
    "alphas without a component": (
        "derive",
        f"{SEARCH}/search/found/alphas.npz",
        lambda r: alphas(r, lambda a: a.pop("reduce")),
        "reduce",
    ),
    "a genotype of nonsense": (
        "retrain",
        GENOTYPE,
        lambda r: (r / GENOTYPE).write_text('{"normal": 7}'),
        "allowed|must|missing",
    ),
    "a genotype with an unknown primitive": (
        "retrain",
        GENOTYPE,
        lambda r: text(r, GENOTYPE, r'\["\w+"', '["conv_7x7"'),
        "conv_7x7",
    ),
    "a genotype with an input that comes later": (
        "retrain",
        GENOTYPE,
        lambda r: text(r, GENOTYPE, r'", [01]\]', '", 4]'),
        "4",
    ),
    "a genotype with a key too many": (
        "retrain",
        GENOTYPE,
        lambda r: text(r, GENOTYPE, r"^\{", '{"extra": 1,'),
        "extra",
    ),
    # weights
    "a super-network in place of a network": ("adapt", MODEL, lambda r: another_kind(r, MODEL, SUPERNET), "supernet"),
    "a network in place of a super-network": (
        "search",
        SUPERNET,
        lambda r: another_kind(r, SUPERNET, MODEL),
        "network",
    ),
    "weights of another program": ("evaluate", MODEL, lambda r: without_metadata(r, MODEL), "metadata"),
    "a tensor missing": (
        "adapt",
        MODEL,
        lambda r: weights(r, MODEL, lambda s, c: s.pop("classifier.bias")),
        "classifier.bias",
    ),
    "a tensor of another shape": (
        "evaluate",
        MODEL,
        lambda r: weights(r, MODEL, lambda s, c: s.update({"classifier.bias": s["classifier.bias"][:3].clone()})),
        "classifier.bias",
    ),
    "a network of other channels": (
        "adapt",
        MODEL,
        lambda r: weights(r, MODEL, lambda s, c: c.update(channels=[5, 10, 20])),
        "shape",
    ),
    "a network of text channels": (
        "adapt",
        MODEL,
        lambda r: weights(r, MODEL, lambda s, c: c.update(channels="x")),
        "",
    ),
    "a network with a negative deviation": (
        "evaluate",
        MODEL,
        lambda r: weights(r, MODEL, lambda s, c: c.update(std=[-1.0])),
        "std",
    ),
    "a network of fewer classes": (
        "evaluate",
        MODEL,
        lambda r: weights(
            r,
            MODEL,
            lambda s, c: (
                c.update(classes=c["classes"][:9]),
                s.update({k: s[k][:9].clone() for k in ("classifier.weight", "classifier.bias")}),
            ),
        ),
        "9",
    ),
    "a network of colour images": (
        "adapt",
        MODEL,
        lambda r: weights(r, MODEL, lambda s, c: c.update(in_channels=3)),
        "",
    ),
    "weights that are NaN": (
        "evaluate",
        MODEL,
        lambda r: weights(r, MODEL, lambda s, c: s["classifier.weight"].fill_(float("nan"))),
        "finite|NaN|nan",
    ),
    "a super-network of other channels": (
        "search",
        SUPERNET,
        lambda r: weights(r, SUPERNET, lambda s, c: s.update({"stem.0.weight": s["stem.0.weight"][:1].clone()})),
        "stem.0.weight",
    ),
    "a super-network without a cell": (
        "search",
        SUPERNET,
        lambda r: weights(r, SUPERNET, lambda s, c: [s.pop(k) for k in list(s) if k.startswith("cells.3.")]),
        "depth",
    ),
    # what the report gathers
    "metrics without a model": (
        "report",
        f"{RUN}/evaluate/metrics.json",
        lambda r: text(r, f"{RUN}/evaluate/metrics.json", '"adapted"', '"adopted"'),
        "adapted",
    ),
    "metrics out of range": (
        "report",
        f"{RUN}/evaluate/metrics.json",
        lambda r: text(r, f"{RUN}/evaluate/metrics.json", r'"top1": [\d.]+', '"top1": 71'),
        "71",
    ),
    "a history of text": (
        "report",
        f"{RUN}/retrain/history.csv",
        lambda r: text(r, f"{RUN}/retrain/history.csv", r"^1,[\d.e-]+,", "1,fast,"),
        "fast",
    ),
}


@pytest.mark.parametrize("kind", slow_but_first([(kind,) for kind in DAMAGE], of=lambda case: DAMAGE[case[0]][1]))
def test_an_input_with_the_wrong_content(project, kind):
    stage, name, damage, pattern = DAMAGE[kind]
    damage(project)
    assert_refused(project, stage, name, pattern)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ARGUMENTS)
def test_an_output_that_cannot_be_written(project, stage):
    """A file stands where the output's parent folder belongs."""
    output = project / ARGUMENTS[stage]["output"]
    elsewhere = project / "elsewhere"
    elsewhere.write_text("a file")
    arguments = {**ARGUMENTS[stage], "output": f"elsewhere/{output.name}"}
    before = contents(project)
    ended = run_stage(project, stage, *(word for name, value in arguments.items() for word in (f"--{name}", value)))
    assert ended.status == 1 and "Traceback" not in ended.err
    assert len(ended.err.strip().splitlines()) == 1 and "elsewhere" in ended.err, ended.err
    assert contents(project) == before


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["split", "pretrain", "search", "retrain", "adapt", "report"])
def test_a_full_disk(project, stage):
    """Whatever is being written then, a checkpoint or an output: one line, and the old output stays."""
    assert_refused(project, stage, "", "allowed: |space|large", file_size=700)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [*WHOLE.values(), lambda path: path.write_bytes(b"")])
def test_a_corrupt_checkpoint_only_costs_time(project, monkeypatch, damage):
    """The stage starts at its beginning and ends as ever."""
    import argparse

    before = contents(project)
    monkeypatch.chdir(project)
    values = {name: value if name == "seed" else Path(value) for name, value in ARGUMENTS["retrain"].items()}
    path = Stage("retrain", argparse.Namespace(**values)).checkpoint
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 1000)
    damage(path)
    ended = run(project, "retrain")
    assert ended.status == 0, ended.err
    assert contents(project) == before
    assert not path.exists()


def test_the_test_part_is_opened_by_evaluate_alone(project):
    """With garbage in its place every stage before it still works, and gives the same results."""
    before = contents(project)
    for name in ("test_images.npy", "test_labels.npy"):
        path = project / TARGET / name
        path.unlink()
        path.mkdir()  # a folder cannot be opened as a file
    for stage in ("split", "search", "derive", "retrain", "adapt", "calibrate", "report"):
        assert run(project, stage).status == 0, stage
    after = contents(project)
    assert {name: after[name] for name in before if "test_" not in name} == {
        name: digest for name, digest in before.items() if "test_" not in name
    }
    assert_refused(project, "evaluate", f"{TARGET}/test_")


def test_a_mistake_in_its_parameters_stops_a_stage(project):
    document = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(document.replace("calibration_bins: 15", "calibration_bins: 0"))
    assert_refused(project, "evaluate", "evaluate.calibration_bins: 0; allowed: ")


@pytest.mark.parametrize("engine", ["dvc", "snakemake"])
def test_engines_pass_the_line_on_and_keep_what_is_sound(study, tmp_path, engine):
    """A damaged output of an earlier stage is found by its hash and computed again; a damaged source is one line."""
    project = getattr(study, engine).copy(tmp_path / "project")
    before = project.outputs()
    (project.root / GENOTYPE).write_text("{}")
    assert project.ran(lambda: project.engine(engine)) == set(), "restored from the cache"
    assert project.outputs() == before and project.is_clean()
    assert json.loads((project.root / GENOTYPE).read_text())["concat"] == [2, 3, 4, 5]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dvc", "snakemake"])
def test_engines_name_a_source_that_cannot_be_read(study, tmp_path, engine):
    project: Project = getattr(study, engine).copy(tmp_path / "project")
    before = project.outputs()
    document = (project.root / "params.yaml").read_text()
    images = tmp_path / "images"
    for name in ("a", "b"):
        (images / name).mkdir(parents=True)
        for index in range(12):
            (images / name / f"{index}.png").write_text("no image")
    folder = f"{{name: own, kind: folder, path: {images}, test_per_class: 2, group: null, unreadable: refuse, seed: 0}}"
    changed = re.sub(r"^  source:.*\n(    .*\n)*", f"  source: {folder}\n", document, flags=re.MULTILINE)
    assert changed != document
    changed = re.sub(r"^  watch:.*\n", f"  watch: {{source: {images}}}\n", changed, flags=re.MULTILINE)
    (project.root / "params.yaml").write_text(changed)
    said = project.dvc("repro", status=255) if engine == "dvc" else project.snakemake(status=1)
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if str(images / "a" / "0.png") in line]
    after = project.outputs()
    assert all(after[name] == digest for name, digest in before.items())
    assert project.leftovers() == []
