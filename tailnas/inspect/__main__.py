"""Look at a folder of images before training on it.

Prints the images of each class, what is wrong with them, and the parameters that suit them. With --output it also
writes inspection.png and files.csv, one row per file.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from tailnas.foundation.stage import main
from tailnas.inspect.duplicates import near_groups, same_groups
from tailnas.inspect.files import listed_files, read_files
from tailnas.inspect.picture import draw
from tailnas.inspect.summary import Summary, counted, recall_half_width


def inspected(root: Path) -> Summary:
    """All files of `root` read. Raises UserError for a folder without classes."""
    files, prints = read_files(root, listed_files(root))
    return Summary(root, files.assign(same=same_groups(files["digest"]), near=near_groups(prints)))


def text(summary: Summary) -> str:
    """What the command prints."""
    sizes, whole = summary.classes(), summary.whole
    width = max(len("class"), *(len(size.name) for size in sizes))
    part = summary.test_part
    lines = [
        f"{summary.root}: {counted(len(whole), 'image')} in {counted(len(sizes), 'class')}, "
        f"imbalance factor {summary.imbalance_factor:.3g}",
        _sizes(summary),
        "",
        f"{'class':{width}}  {'train':>7}" + (f"  {part:>7}" if part else "") + "  recall known to",
    ]
    for size in sizes:
        count = summary.tested(size)
        held_out = f"  {size.held_out:>7,}" if part else ""
        known = f"±{100 * recall_half_width(count):.0f} points on {count:,}" if count else "no test image"
        lines.append(f"{size.name:{width}}  {size.training:>7,}{held_out}  {known}")
    found = summary.findings() or ["nothing that stands in the way"]
    return "\n".join([*lines, "", *(f"- {line}" for line in found), "", "For params.yaml:", "", summary.suggestion()])


def _sizes(summary: Summary) -> str:
    whole = summary.whole
    if whole.empty:
        return "no whole image"
    modes = ", ".join(f"{mode} {count:,}" for mode, count in Counter(whole["mode"]).most_common())
    middle = whole.assign(area=whole.width * whole.height).sort_values("area")
    low, median, high = (middle.iloc[index] for index in (0, len(middle) // 2, -1))
    return (
        f"sizes from {low.width}x{low.height} to {high.width}x{high.height}, median {median.width}x{median.height}; "
        f"modes: {modes}"
    )


def run() -> None:
    parser = argparse.ArgumentParser(prog="python -m tailnas.inspect", description=__doc__)
    parser.add_argument("folder", type=Path, help="one directory per class, or train/, val/ and test/ that hold them")
    parser.add_argument("--output", type=Path, help="folder for inspection.png and files.csv")
    args = parser.parse_args()
    summary = inspected(args.folder.expanduser())
    print(text(summary))
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        draw(summary, args.output / "inspection.png")
        summary.files.to_csv(args.output / "files.csv", index=False, lineterminator="\n")
        print(f"\nwritten: {args.output / 'inspection.png'}, {args.output / 'files.csv'}")


def console() -> None:
    """The command `tailnas-inspect`."""
    main(run)


if __name__ == "__main__":
    main(run)
