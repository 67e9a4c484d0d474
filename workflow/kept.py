"""What an interrupted study keeps of the trainings that it was in."""

from __future__ import annotations

from pathlib import Path

from tailnas.foundation.stage import STATE_FOLDER
from tailnas.training.live import last_epochs

CHECKPOINTS, LIVE = STATE_FOLDER / "checkpoints", Path("logs/live")


def kept(since: float = 0.0) -> list[str]:
    """`search bbn_hls-30-0: 12 of 20 epochs kept` for each checkpoint written since `since` (seconds since 1970)."""
    lines = []
    for file in sorted(LIVE.glob("*.csv")):
        for run, (done, epochs) in last_epochs(file).items():
            name = f"{file.stem}-{run.split()[0]}-"
            if any(path.stat().st_mtime >= since for path in CHECKPOINTS.glob(f"{name}*.pt")):
                lines.append(f"{file.stem} {run}: {done} of {epochs} epochs kept")
    return lines
