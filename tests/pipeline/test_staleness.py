"""What makes which stage stale, as dvc.yaml says, against a trace of what each stage really imports and reads."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import yaml

from tailnas.foundation.extensions import names
from workflow.staleness import Dependency, dependencies, keys, stale

from .conftest import FACTOR
from .project import REPOSITORY, Project
from .stage_process import run_stage

METHODS = names("tailnas.methods")
TARGET, SOURCE, SPLIT = "data/raw/digits", "data/raw/glyphs", f"data/splits/if{FACTOR}-seed0"


def arguments(stage: str, method: str) -> dict[str, str]:
    """The command line of a stage of the study, but for its output."""
    search = f"results/runs/{method}-{FACTOR}-0"
    run = f"{search}-0"
    return {
        "fetch": {"role": "target"},
        "split": {"imbalance-factor": str(FACTOR), "seed": "0", "data": TARGET, "source": SOURCE},
        "pretrain": {"seed": "0", "data": SOURCE},
        "search": {
            "method": method,
            "imbalance-factor": str(FACTOR),
            "seed": "0",
            "data": TARGET,
            "split": SPLIT,
            "source": SOURCE,
            "pretrained": "results/pretrain/seed0",
        },
        "derive": {"found": f"{search}/search/found"},
        "retrain": {"seed": "0", "retrain-seed": "0", "data": TARGET, "split": SPLIT, "genotype": f"{search}/derive"},
        "adapt": {"seed": "0", "retrain-seed": "0", "data": TARGET, "split": SPLIT, "retrained": f"{run}/retrain"},
        "calibrate": {"seed": "0", "retrain-seed": "0", "data": TARGET, "split": SPLIT, "adapted": f"{run}/adapt"},
        "evaluate": {"data": TARGET, "split": SPLIT, "retrained": f"{run}/retrain", "calibrated": f"{run}/calibrate"},
        "report": {"results": "results", "data": TARGET, "splits": "data/splits"},
    }[stage]


SMOOTHING = {"largest": 0.3, "smallest": 0.0, "shape": "concave"}
LOSSES = {
    "balanced_softmax": {},
    "cross_entropy": {},
    "focal": {"gamma": 1.0},
    "label_aware_smoothing": {"smoothing": SMOOTHING},
    "ldam": {"margin": 0.5, "scale": 30.0},
    "logit_adjustment": {"tau": 1.0},
    "sigmoid_focal": {"gamma": 1.0},
}
TRAINING = {
    "epochs": 1,
    "batch_size": 64,
    "last_batch": "drop",
    "learning_rate": 0.1,
    "schedule": {"name": "cosine", "minimum": 0.0},
    "warmup": None,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.0,
}
HEADS = {
    "crt": {"sampler": "class_balanced", "training": TRAINING},
    "label_over_smooth": {"smoothing": 0.98, "training": TRAINING},
    "lws": {"sampler": "class_balanced", "training": TRAINING},
    "max_norm": {"beta": 0.99, "radius": 0.1, "training": TRAINING},
    "mislas": {"smoothing": SMOOTHING, "classifier_rate": 0.5, "shift_batch_norm": True, "training": TRAINING},
    "none": {},
    "reweight": {"beta": 0.99, "training": TRAINING},
    "tau_norm": {"tau": None},
}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{f"search@{method}": ("search", method, {}) for method in METHODS},
    **{f"retrain/{name}": ("retrain", "random", {"retrain.loss": {"name": name, **LOSSES[name]}}) for name in LOSSES},
    **{f"adapt/{name}": ("adapt", "random", {"adapt": {"method": name, **HEADS[name]}}) for name in HEADS},
    "calibrate": ("calibrate", "bbn_hls", {"calibrate.networks": 1}),
    **{stage: (stage, "bbn_hls", {}) for stage in ("fetch", "split", "pretrain", "derive", "evaluate", "report")},
}
NOT_READ = {
    # `search` lists one set of parameters for all methods; those that read nothing of it take a second to run again.
    **{
        f"search@{method}": {"search.training", "search.bilevel", "space"}
        for method in ("random", "darts_v2", "given", "resnet32", "frozen")
    },
    "search@imb_nas": {"search.bilevel", "search.training.crop_padding", "search.training.flip"},
    "search@random_best": {"search.bilevel"},
    "search@pc_darts": {"search.bilevel.initialisation"},  # always from random weights
    "search@zero_cost": {"search.training", "search.bilevel"},
    # tau_norm alone retrains; retraining comes before every adaptation anyway.
    **{f"adapt/{name}": {"retrain"} for name in HEADS if name != "tau_norm"},
    # read where `channels` is null
    **{name: {"retrain.network.parameters"} for name in ("calibrate", *(f"retrain/{loss}" for loss in LOSSES))},
    "adapt/tau_norm": {"retrain"},  # too few images to choose on here
}
"""Keys that a stage lists and does not read, and why."""


@pytest.fixture(scope="module")
def traces(every_method: Project, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """For each case the files that it imported, the keys that it read and those of its params.yaml."""
    root = tmp_path_factory.mktemp("traces") / "project"
    root.mkdir()
    for name in ("data", "results"):
        shutil.copytree(every_method.root / name, root / name)
    document = yaml.safe_load((every_method.root / "params.yaml").read_text())
    shutil.copy(REPOSITORY / "dvc.yaml", root)
    found = {}
    for case, (stage, method, changes) in CASES.items():
        changed = yaml.safe_load(yaml.safe_dump(document))
        for key, value in changes.items():
            *above, last = key.split(".")
            section = changed
            for part in above:
                section = section[part]
            section[last] = value
        (root / "params.yaml").write_text(yaml.safe_dump(changed))
        words = [word for name, value in arguments(stage, method).items() for word in (f"--{name}", value)]
        trace = root / "trace.json"
        ended = run_stage(root, stage, *words, "--output", f"elsewhere/{stage}", trace=trace)
        assert ended.status == 0, f"{case}: {ended.err}"
        found[case] = {**json.loads(trace.read_text()), "keys": list(keys(changed))}
    return found


def listed(what: str, case: str) -> list[Dependency]:
    """What dvc.yaml lists for a case, whatever value its templates have there."""
    stage = case.split("@")[0].split("/")[0]
    mine = {stage, case} | ({"fetch/target", "fetch/digits"} if stage == "fetch" else set())
    chosen = {f"{stage}/cross_entropy"} if stage == "adapt" else set()
    if stage == "calibrate":
        chosen = {"calibrate/cross_entropy", "calibrate/reweight"}
    return [one for one in dependencies(what) if one.stage in mine | chosen]


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_imported_or_read_without_being_a_dependency(traces, case):
    code, params = listed("deps", case), listed("params", case)
    docstrings = {"tailnas/__init__.py", "stages/__init__.py"}
    imported = [file for file in traces[case]["imported"] if file.startswith(("stages/", "tailnas/"))]
    packages = {file for file in imported if file.endswith("__init__.py")}
    assert len(imported) > 5
    assert [file for file in imported if file not in docstrings | packages and not stale(file, code, "/")] == []
    assert [key for key in traces[case]["read"] if not stale(key, params, ".")] == []


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_a_dependency_without_being_imported_or_read(traces, case):
    trace = traces[case]
    rooms = [one.path for one in listed("deps", case) if one.path.startswith("tailnas/")]
    unused = [
        room for room in rooms if not any(file == room or file.startswith(f"{room}/") for file in trace["imported"])
    ]
    assert unused == []
    params, read = listed("params", case), set(trace["read"])
    excused = NOT_READ.get(case, set())
    unread = [
        key
        for key in trace["keys"]
        if stale(key, params, ".")
        and key not in read
        and not any(key == one or key.startswith(f"{one}.") for one in excused)
    ]
    assert [key for key in unread if key != f"search.{CASES[case][1]}"] == [], "but for a method's empty section"
