"""The picture of an inspection: images of each class, how well each can be measured, and sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tailnas.inspect.summary import Summary, counted, recall_half_width

MOST_LABELLED = 40
TRAINING, HELD_OUT = "#0072b2", "#e69f00"


def draw(summary: Summary, path: Path) -> None:
    """Write a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    sizes = summary.classes()
    positions = np.arange(len(sizes))
    figure, (bars, sides) = plt.subplots(1, 2, figsize=(11, 4.6), width_ratios=[2.2, 1], layout="constrained", dpi=110)
    bars.bar(
        positions,
        [size.training for size in sizes],
        color=TRAINING,
        label="to train on",
    )
    if part := summary.test_part:
        bars.plot(positions, [size.held_out for size in sizes], "D", color=HELD_OUT, label=f"in {part}/, to test on")
    bars.set_yscale("symlog", linthresh=1)
    bars.set_ylim(bottom=0)
    bars.set_ylabel("images (logarithmic)")
    bars.set_title(f"Images per class: imbalance factor {summary.imbalance_factor:.3g}", loc="left")
    if len(sizes) <= MOST_LABELLED:
        bars.set_xticks(positions, [size.name[:24] for size in sizes], rotation=45, ha="right", rotation_mode="anchor")
    else:
        bars.set_xlabel(f"{len(sizes)} classes by size")
    bars.legend(frameon=False)
    bars.spines[["top", "right"]].set_visible(False)

    whole = summary.whole
    sides.plot(whole["width"], whole["height"], ".", color=TRAINING, alpha=0.4, markeredgewidth=0)
    if len(whole):
        sides.set_xscale("log", base=2)
        sides.set_yscale("log", base=2)
    for axis in (sides.xaxis, sides.yaxis):
        axis.set_major_formatter("{x:.0f}")
    sides.set_xlabel("width in pixels")
    sides.set_ylabel("height in pixels")
    sides.set_title("Sizes of the images", loc="left")
    sides.spines[["top", "right"]].set_visible(False)
    fewest = min(map(summary.tested, sizes))
    known = f"±{100 * recall_half_width(fewest):.0f} points"
    figure.suptitle(
        f"{summary.root.resolve().name}: {counted(len(whole), 'image')} in {counted(len(sizes), 'class')}\n"
        f"Each recall is known to about {known} or better: the fewest test images of a class are {fewest}",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    figure.savefig(path)
    plt.close(figure)
