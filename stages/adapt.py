"""Adapt the retrained network's head to the imbalance; the backbone stays as it is, bit by bit."""

from tailnas.adapt.head_adaptation import adapt, halves_chooser
from tailnas.adapt.settings import ADAPT
from tailnas.batches.device_images import DeviceImages
from tailnas.data.dataset import load_train
from tailnas.data.split_file import HALVES, read_split
from tailnas.foundation.seeding import retraining_seed
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.retrain.settings import Retrain
from tailnas.space.device import prepare
from tailnas.space.network import load_model, save_model
from tailnas.training.history import write_history
from tailnas.training.loop import Loop


def run() -> None:
    args = arguments(__doc__, "seed", "retrain_seed", inputs=("data", "split", "retrained"))
    with Stage("adapt", args) as stage:
        chosen, retraining = stage.chosen("adapt", ADAPT), stage.section("retrain", Retrain)
        device = prepare(stage.runtime.device, stage.runtime.threads)
        train = load_train(args.data)
        split = read_split(args.split, len(train.labels), len(train.classes))
        data = DeviceImages.from_part(train, device, split.indices)
        weight_half, architecture_half = (DeviceImages.from_part(train, device, split.half(half)) for half in HALVES)
        network = load_model(args.retrained / "model.safetensors", train.classes).to(device)
        seed, progress = retraining_seed(int(args.seed), int(args.retrain_seed)), stage.runtime.progress
        loop = Loop(f"adapt {stage.run}", stage.checkpoint, stage.logs, progress, stage.live)
        choosing = Loop(f"retrain {stage.run} on the weight half", stage.checkpoint, stage.logs, progress, stage.live)
        chooser = halves_chooser(retraining, network, weight_half, architecture_half, seed, choosing)
        result = adapt(chosen, network, data, seed, loop, chooser)
        with stage.writing() as folder:
            save_model(folder / "model.safetensors", network)
            write_history(folder / "history.csv", result.history)
            if result.choice:
                write_history(folder / "choice.csv", result.choice)


if __name__ == "__main__":
    main(run)
