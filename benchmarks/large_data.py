"""What many images cost: `python -m benchmarks.large_data FOLDER [--images 200000]`.

Makes a manifest of small images of ten classes, reads them as `fetch` does, stores them, and trains on nothing: passes
batches with crop and flip, from the file and from memory. Prints seconds of CPU time, images per second of it, and the
memory that the process takes at most: its own, and pages of files, which the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import numpy as np
import torch

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.data.dataset import load_train, save
from tailnas.imbalance.samplers import make_sampler
from tailnas.sources import manifest

SIDE, CLASSES, BATCH = 32, 10, 128


class Peak:
    """The most memory of each kind that the process held within a block, in MiB."""

    def __enter__(self) -> Peak:
        self.most = {"RssAnon": 0, "RssFile": 0}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._started = time.process_time()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.process_time() - self._started
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            for kind in self.most:
                self.most[kind] = max(self.most[kind], int(lines[kind].split()[0]) // 1024)

    def told(self, what: str, images: int) -> str:
        own, pages = self.most.values()
        return (
            f"{what}: {self.seconds:.0f} s of CPU time, {images / self.seconds:,.0f} images per second of it; "
            f"at most {own} MiB of its own and {pages} MiB of files"
        )


def make_files(folder: Path, images: int) -> None:
    """A manifest and its images, written as plain pixels."""
    rows = ["path,label,split"]
    draw = np.random.default_rng(0)
    for number in range(images):
        name = f"{number % 1000:03}/{number}.ppm"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, SIDE * SIDE * 3, np.uint8)
        (folder / name).write_bytes(b"P6 %d %d 255\n" % (SIDE, SIDE) + pixels.tobytes())
        rows.append(f"{name},{number % CLASSES},{'test' if number % 20 == 0 else 'train'}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")


def passed(data: DeviceImages) -> int:
    """Images of one pass in batches with crop and flip."""
    sampler = make_sampler("instance", data.labels.cpu(), CLASSES, torch.Generator().manual_seed(0))
    normalisation = Normalisation.of(data.images)
    augmentation = Augmentation(4, True)
    batches = Batches(data, sampler, BATCH, normalisation, augmentation, torch.Generator().manual_seed(1))
    return sum(len(labels) for _, labels in batches.epoch())


def run() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_data", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200_000)
    args = parser.parse_args()
    if not (args.folder / "list.csv").exists():
        make_files(args.folder, args.images)
    with Peak() as peak:
        time.sleep(1)
    print(peak.told("with nothing loaded", 0), flush=True)
    settings = manifest.Settings(
        name="large",
        root=str(args.folder),
        file="list.csv",
        test_per_class=None,
        group=None,
        unreadable="refuse",
        seed=0,
    )
    stored = args.folder / "stored"
    with Peak() as peak:
        save(manifest.load(settings, SIDE, 3), stored)
    print(peak.told("fetch", args.images), flush=True)
    for what, room in (("batches from the file", 0), ("batches from memory", 2**40)):
        with Peak() as peak:
            images = passed(DeviceImages.from_part(load_train(stored), "cpu", room=room))
        print(peak.told(what, images), flush=True)


if __name__ == "__main__":
    run()
