"""What an epoch of adapting a single-path super-network costs: `head`, whose backbone is frozen, against `finetune`.

    python -m benchmarks.path_adaptation params.yaml

Times adaptations of two lengths on noise of the target's shape, alternately: their difference is the time of the
epochs, what is left is paid once, which for `head` is the features of its paths. Prints both, and what share of
`finetune`'s time `head` takes with and without them. Exits with 1 where an epoch takes more than a fifth.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from tailnas.data.device import DeviceImages, Normalisation
from tailnas.errors import UserError
from tailnas.params import Params, load_params
from tailnas.search.methods.imb_nas import target_scorer
from tailnas.search.task import SearchTask
from tailnas.seeding import torch_generator
from tailnas.training.device import prepare
from tailnas.training.loop import InnerLoop
from tailnas.training.pretraining import supernet

LARGEST_SHARE = 1 / 5
CLASSES = 10


def task(params: Params, device: torch.device, adaptation: str, images: int) -> SearchTask:
    """A search on `images` images in each half, all of noise; time does not depend on what they show."""
    generator = torch_generator(0, "benchmark")
    shape = (images, params.data.channels, params.data.image_size, params.data.image_size)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    half = DeviceImages(pixels.to(device), (torch.arange(images) % CLASSES).to(device))
    return SearchTask(
        settings=params.search.model_copy(update={"adaptation": adaptation}),
        space=params.space,
        weights=half,
        architecture=half,
        num_classes=CLASSES,
        normalisation=Normalisation.of(pixels),
        pretrained=supernet(params.space, CLASSES, params.data.channels).state_dict(),
        seed=0,
        loop=InnerLoop("search benchmark", lambda: None),
    )


def seconds(params: Params, device: torch.device, adaptation: str, images: int, epochs: int) -> float:
    """Seconds of one adaptation; what a process pays once (building, counting) is paid before."""
    settings = params.search.model_copy(update={"epochs": epochs})
    prepared = task(params.model_copy(update={"search": settings}), device, adaptation, images)
    _ = prepared.path_costs
    started = time.perf_counter()
    target_scorer(prepared)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", type=Path, nargs="?", default=Path("params.yaml"))
    parser.add_argument("--epochs", type=int, default=4, help="epochs by which the two lengths differ")
    parser.add_argument("--images", type=int, default=256, help="images in the weight half")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(arguments)
    try:
        params = load_params(args.params)
    except UserError as error:
        sys.exit(str(error))
    device = prepare(params.runtime.device, params.runtime.threads, params.search.precision)
    times: dict[str, dict[int, list[float]]] = {name: {1: [], args.epochs + 1: []} for name in ("head", "finetune")}
    for _ in range(args.repeats):
        for adaptation, lengths in times.items():
            for epochs, measured in lengths.items():
                measured.append(seconds(params, device, adaptation, args.images, epochs))
    print(f"{device}, {params.runtime.threads} threads, {args.images} images, C{params.space.channels}")
    epoch, once = {}, {}
    for adaptation, lengths in times.items():
        short, long = (min(measured) for measured in lengths.values())
        epoch[adaptation] = (long - short) / args.epochs
        once[adaptation] = max(0.0, short - epoch[adaptation])
        print(f"{adaptation:>9} {epoch[adaptation]:.4f} s an epoch, {once[adaptation]:.4f} s once")
    share = epoch["head"] / epoch["finetune"]
    print(f"    share of an epoch {share:.3f}, at most {LARGEST_SHARE:.3f} allowed")
    for epochs in sorted({params.search.epochs, 50}):
        whole = {name: once[name] + epochs * epoch[name] for name in epoch}
        print(f"    share of {epochs} epochs with what is paid once {whole['head'] / whole['finetune']:.3f}")
    sys.exit(share > LARGEST_SHARE)


if __name__ == "__main__":
    main()
