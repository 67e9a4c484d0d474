from pathlib import Path
from types import SimpleNamespace

from workflow.prune import obsolete_results


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
