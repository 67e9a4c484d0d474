"""Calibrate the adapted network on training images, each judged by a network that has not seen it."""

from tailnas.adapt.settings import ADAPT
from tailnas.batches.device_images import DeviceImages
from tailnas.calibrate.cross_fit import cross_fitted_logits
from tailnas.calibrate.settings import Calibrate
from tailnas.calibration.conformal import class_thresholds
from tailnas.calibration.temperature import at_more_images, fitted_temperature, scaled
from tailnas.data.dataset import load_train
from tailnas.data.split_file import HALVES, read_split
from tailnas.foundation.seeding import retraining_seed
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.retrain.settings import Retrain
from tailnas.space.device import prepare
from tailnas.space.network import load_model, save_model
from tailnas.training.loop import Loop


def run() -> None:
    args = arguments(__doc__, "seed", "retrain_seed", inputs=("data", "split", "adapted"))
    with Stage("calibrate", args) as stage:
        settings = stage.section("calibrate", Calibrate)
        adapting, retraining = stage.chosen("adapt", ADAPT), stage.section("retrain", Retrain)
        device = prepare(stage.runtime.device, stage.runtime.threads, retraining.training.precision)
        train = load_train(args.data)
        split = read_split(args.split, len(train.labels), len(train.classes))
        network = load_model(args.adapted / "model.safetensors", train.classes)
        if settings.networks:
            halves = {half: DeviceImages.from_part(train, device, split.half(half)) for half in HALVES}
            loop = Loop(f"calibrate {stage.run}", stage.checkpoint, stage.logs, stage.runtime.progress)
            seed = retraining_seed(int(args.seed), int(args.retrain_seed))
            logits, labels = cross_fitted_logits(retraining, adapting, network, halves, settings.networks, seed, loop)
            judges = fitted_temperature(logits, labels)
            network.temperature = at_more_images(judges, share=1 / len(HALVES))
            probabilities = scaled(logits, judges)
            network.class_thresholds = tuple(class_thresholds(probabilities, labels, settings.miss).tolist())
            network.miss = settings.miss
        with stage.writing() as folder:
            save_model(folder / "model.safetensors", network)


if __name__ == "__main__":
    main(run)
