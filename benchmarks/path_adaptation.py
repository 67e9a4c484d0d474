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

from benchmarks.target import ranking_settings
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import torch_generator
from tailnas.methods.imb_nas import target_scorer
from tailnas.search.adapt_paths import NotAdapted
from tailnas.search.task import SearchTask
from tailnas.space.device import prepare
from tailnas.space.pretrained import supernet
from tailnas.training.loop import InnerLoop
from tailnas.validate.parameters import Params
from tailnas.validate.presets import load_preset

LARGEST_SHARE = 1 / 5
CLASSES = 10


def task(params: Params, device: torch.device, images: int, epochs: int) -> SearchTask:
    """A search on `images` images in each half, all of noise; time does not depend on what they show."""
    generator = torch_generator(0, "benchmark")
    shape = (images, params.data.channels, params.data.image_size, params.data.image_size)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    half = DeviceImages(pixels.to(device), (torch.arange(images) % CLASSES).to(device))
    return SearchTask(
        training=params.search.training.model_copy(update={"epochs": epochs}),
        augment_architecture_half=params.search.augment_architecture_half,
        bilevel=params.search.bilevel,
        space=params.space,
        weight_half=half,
        architecture_half=half,
        num_classes=CLASSES,
        normalisation=Normalisation.of(pixels),
        pretrained=supernet(params.space, CLASSES, params.data.channels).state_dict(),
        seed=0,
        loop=InnerLoop("search benchmark", lambda: None),
    )


def seconds(params: Params, device: torch.device, adaptation: str, images: int, epochs: int) -> float:
    """Seconds of one adaptation; what a process pays once (building, counting) is paid before."""
    settings, prepared = ranking_settings(params, adaptation), task(params, device, images, epochs)
    assert not isinstance(settings.adaptation, NotAdapted)
    _ = prepared.path_costs
    started = time.perf_counter()
    target_scorer(prepared, settings, settings.adaptation)
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
    times: dict[str, dict[int, list[float]]] = {name: {1: [], args.epochs + 1: []} for name in ("head", "finetune")}
    try:
        params = load_preset(args.params)
        device = prepare(params.runtime.device, params.runtime.threads, params.search.training.precision)
        for _ in range(args.repeats):
            for adaptation, lengths in times.items():
                for epochs, measured in lengths.items():
                    measured.append(seconds(params, device, adaptation, args.images, epochs))
    except UserError as error:
        sys.exit(str(error))
    print(f"{device}, {params.runtime.threads} threads, {args.images} images, C{params.space.channels}")
    epoch, once = {}, {}
    for adaptation, lengths in times.items():
        short, long = (min(measured) for measured in lengths.values())
        epoch[adaptation] = (long - short) / args.epochs
        once[adaptation] = max(0.0, short - epoch[adaptation])
        print(f"{adaptation:>9} {epoch[adaptation]:.4f} s per epoch, {once[adaptation]:.4f} s once")
    share = epoch["head"] / epoch["finetune"]
    print(f"    share of an epoch {share:.3f}, at most {LARGEST_SHARE:.3f} allowed")
    for epochs in sorted({params.search.training.epochs, 50}):
        whole = {name: once[name] + epochs * epoch[name] for name in epoch}
        print(f"    share of {epochs} epochs with what is paid once {whole['head'] / whole['finetune']:.3f}")
    sys.exit(share > LARGEST_SHARE)


if __name__ == "__main__":
    main()
