"""Stages that users add to dvc.yaml are none of ours."""

import pytest

from bridge.plan import Job
from workflow.prune import obsolete_checkpoints


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
