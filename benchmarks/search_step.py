"""How fast a step is: tailnas against a plain implementation of DARTS, alternately, each in its own process.

    python -m benchmarks.search_step                     every step at the published size, C16 L8, batch 32, 32x32
    python -m benchmarks.search_step --sizes 8x5x32x32   another size: channels x cells x batch x image side
    python -m benchmarks.search_step --growth --plot docs/growth.svg
    python -m benchmarks.search_step --profile           where tailnas's time goes
    python -m benchmarks.search_step --quick             a smoke test

A step of a search is one alpha step and one weight step; images per second count those of both halves.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import growth, where
from benchmarks.cases import STEPS, Case, size
from benchmarks.compare import compare
from benchmarks.worker import Worker

PUBLISHED = "16x8x32x32"
QUICK = "4x3x4x16"
MEASURED_STEPS = tuple(step for step in STEPS if step != "darts_deep")


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    machine = describe(args)
    document: dict[str, Any] = {"machine": machine, "cases": [], "growth": []}
    show = (lambda text: None) if args.json else (lambda text: print(text, flush=True))
    show(heading(machine))
    if args.profile:
        case = Case(args.steps[0], *args.sizes[0])
        with Worker("tailnas", case, machine["device"], args.threads, args.precision) as worker:
            document["profile"] = {"case": case.as_dict(), "operations": worker.where()}
        show(f"\n{case}\n{where.table(document['profile']['operations'])}")
    elif not args.growth:
        for sizes in args.sizes:
            for step in args.steps:
                case = Case(step, *sizes)
                result = compare(case, machine["device"], args.threads, args.precision, args.seconds)
                document["cases"].append(result)
                show("\n" + table(result, machine["ceilings"]))
    else:
        rows = growth.measure(machine["device"], args.threads, args.precision, args.seconds, args.quick)
        document["growth"] = rows
        show("\n" + growth.table(rows))
        if args.plot is not None:
            growth.plot(rows, args.plot, f"First-order search step, {machine['processor']}")
    if args.json:
        print(json.dumps(document, indent=1))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    parser.add_argument("--sizes", nargs="+", metavar="SIZE", help=f"CHANNELSxCELLSxBATCHxIMAGE (default {PUBLISHED})")
    parser.add_argument("--steps", nargs="+", choices=MEASURED_STEPS, default=list(MEASURED_STEPS))
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--precision", choices=("float32", "tf32", "bf16"), default="float32")
    parser.add_argument("--seconds", type=float, help="time for the turns of one case (default 60, quick 0)")
    parser.add_argument("--growth", action="store_true", help="vary channels, cells, batch and image size instead")
    parser.add_argument("--plot", type=Path, help="with --growth: write the plot here (.svg or .png)")
    parser.add_argument(
        "--profile", action="store_true", help="of the first step and size, tailnas's time by operation"
    )
    parser.add_argument("--quick", action="store_true", help=f"size {QUICK} and two turns; the figures mean nothing")
    args = parser.parse_args(arguments)
    try:
        args.sizes = [size(text) for text in args.sizes or [QUICK if args.quick else PUBLISHED]]
    except ValueError as error:
        parser.error(str(error))
    if args.seconds is None:
        args.seconds = 0.0 if args.quick else 60.0
    if args.plot is not None and (not args.growth or args.plot.suffix not in (".svg", ".png")):
        parser.error("--plot goes with --growth and ends in .svg or .png")
    if args.threads < 1:
        parser.error(f"--threads: {args.threads}; allowed: from 1")
    return args


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """Machine, versions, date, command and ceilings: what a figure means nothing without."""
    import torch

    from benchmarks.ceilings import ceilings

    name = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    device = torch.device(name)
    torch.set_num_threads(args.threads)
    return {
        "device": name,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "threads": args.threads,
        "precision": args.precision,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python -m benchmarks.search_step", *sys.argv[1:]]),
        "ceilings": None if args.quick else ceilings(device, args.precision),
    }


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def heading(machine: dict[str, Any]) -> str:
    lines = [
        f"{machine['processor']}, {machine['device']}, {machine['threads']} CPU threads, {machine['precision']}, "
        f"torch {machine['torch']}, {machine['date']}",
        machine["command"],
    ]
    if machine["ceilings"] is not None:
        limits = machine["ceilings"]
        lines.append(
            f"measured ceilings: matrix product {limits['flops_per_second'] / 1e9:,.0f} GFLOP/s, "
            f"copy {limits['bytes_per_second'] / 1e9:,.1f} GB/s"
        )
    return "\n".join(lines)


def table(result: dict[str, Any], limits: dict[str, float] | None) -> str:
    lines = [
        str(Case(**result["case"])),
        f"{'':12} {'s/step min':>10} {'median':>8} {'images/s':>9} {'peak GiB':>8} {'operations':>10} {'kernels':>7} "
        f"{'multiply-adds':>13} {'GFLOP/s':>8} {'GB/s':>7}" + (f" {'of peak':>7} {'of copy':>7}" if limits else ""),
    ]
    for name in ("plain", "tailnas", "darts_deep"):
        if name not in result:
            continue
        row = result[name]
        flops = 2 * row["multiply_adds"] / row["seconds_min"]
        traffic = row["bytes_touched"] / row["seconds_min"]
        lines.append(
            f"{name:12} {row['seconds_min']:>10.4f} {row['seconds_median']:>8.4f} {row['images_per_second']:>9.1f} "
            f"{row['peak_memory'] / 2**30:>8.2f} {row['operations']:>10,} {row['kernels']:>7,} "
            f"{row['multiply_adds'] / 1e9:>11.2f} G {flops / 1e9:>8.1f} {traffic / 1e9:>7.1f}"
        )
        if limits is not None:
            lines[-1] += f" {flops / limits['flops_per_second']:>7.1%} {traffic / limits['bytes_per_second']:>7.1%}"
    ratio = result["ratio"]
    lines.append(
        f"plain / tailnas: time {ratio['speed_min']:.2f} (median {ratio['speed_median']:.2f}), operations "
        f"{ratio['operations']:.2f}; tailnas / plain: memory {ratio['memory']:.2f} "
        f"({ratio['memory_above_baseline']:.2f} without the library)"
    )
    if "bbn_hls_over_darts" in ratio:
        lines.append(f"BBN-HLS / DARTS of the same depth and as many images: {ratio['bbn_hls_over_darts']:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
