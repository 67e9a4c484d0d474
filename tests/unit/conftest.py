"""What tests of every training need."""

from collections.abc import Callable

import pytest

from tailnas.training.loop import Loop


@pytest.fixture
def dying() -> Callable[[Loop, int], Loop]:
    """Has a loop end like a killed process, by KeyboardInterrupt, at a moment from 1 on.

    Each epoch has one moment at its start, when the one before it is in the checkpoint, and one after each step.
    """

    def dying(loop: Loop, moment: int) -> Loop:
        run, left = loop.run, iter(range(moment - 1))

        def live() -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        def run_dying(epochs, steps, run_epoch, parts, show=None):
            def run_epoch_dying(epoch, step_done):
                live()
                return run_epoch(epoch, lambda: (step_done(), live()))

            return run(epochs, steps, run_epoch_dying, parts, show)

        loop.run = run_dying
        return loop

    return dying
