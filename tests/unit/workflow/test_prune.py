"""Stages that users add to dvc.yaml are none of ours."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from bridge.plan import Job
from workflow.prune import obsolete_checkpoints, obsolete_results


@pytest.mark.parametrize(
    "command",
    [
        ["python my.py", "cp a b"],
        ["python my.py"],
        ["cp a b"],
        ["python -m stages.mine a b"],
        ["python -m other --output x"],
        [],
        ["echo '"],
    ],
)
def test_checkpoints_are_judged_beside_stages_of_any_command(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    orphan = tmp_path / ".tailnas/checkpoints/search-x-0-0-0123456789abcdef.pt"
    orphan.parent.mkdir(parents=True)
    orphan.touch()
    own = Job("own", command, ".", [], {"mine/table.csv": False}, done=False)
    assert [path.resolve() for path in obsolete_checkpoints([own])] == [orphan]


def test_exports_of_the_study_stay_and_others_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("onnx-darts-30-0-0", "torch_export-bbn_hls-1e+2-0-1", "onnx-random-natural-0-0", "mine", "onnx-mine"):
        (tmp_path / "results/exports" / name).mkdir(parents=True)
    kept = ["results/exports/onnx-darts-30-0-0", "results/report"]

    nothing = SimpleNamespace(settings=SimpleNamespace(own_folders=dict))
    params = SimpleNamespace(data=SimpleNamespace(source=nothing, target=nothing))
    assert [str(path) for path in obsolete_results(kept, params)] == [
        str(Path("results/exports") / name) for name in ("onnx-random-natural-0-0", "torch_export-bbn_hls-1e+2-0-1")
    ]
