"""Calibrate the adapted network on training images, each judged by a network that has not seen it."""

import numpy as np

from tailnas.adapt.settings import ADAPT
from tailnas.batches.device_images import DeviceImages
from tailnas.calibrate.cross_fit import cross_fitted_logits
from tailnas.calibrate.settings import Calibrate
from tailnas.calibration.conformal import class_thresholds
from tailnas.calibration.temperature import fitted_temperature, scaled
from tailnas.data.dataset import load_train
from tailnas.data.npy import write_npy
from tailnas.data.split_file import HALVES, read_split
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.retrain.settings import Retrain
from tailnas.space.device import prepare
from tailnas.space.network import load_model, save_model
from tailnas.training.loop import Loop


def run() -> None:
    args = arguments(__doc__, "seed", inputs=("data", "split", "adapted"))
    with Stage("calibrate", args) as stage:
        settings = stage.section("calibrate", Calibrate)
        adapting, retraining = stage.chosen("adapt", ADAPT), stage.section("retrain", Retrain)
        device = prepare(stage.runtime.device, stage.runtime.threads, retraining.training.precision)
        train = load_train(args.data)
        split = read_split(args.split, len(train.labels), len(train.classes))
        halves = {half: DeviceImages.from_part(train, device, split.half(half)) for half in HALVES}
        network = load_model(args.adapted / "model.safetensors", train.classes)
        loop = Loop(f"calibrate {stage.run}", stage.checkpoint, stage.logs, stage.runtime.progress)
        logits, labels = cross_fitted_logits(retraining, adapting, network, halves, int(args.seed), loop)
        network.temperature = fitted_temperature(logits, labels)
        network.class_thresholds = tuple(
            class_thresholds(scaled(logits, network.temperature), labels, settings.miss).tolist()
        )
        network.miss = settings.miss
        with stage.writing() as folder:
            save_model(folder / "model.safetensors", network)
            write_npy(folder / "logits.npy", logits.astype(np.float32))
            write_npy(folder / "labels.npy", labels)


if __name__ == "__main__":
    main(run)
