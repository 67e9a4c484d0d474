"""Adapt the retrained network's head to the imbalance; the backbone stays as it is, bit by bit."""

from tailnas.data.dataset import load_train
from tailnas.data.device import DeviceImages
from tailnas.data.splits import read_split
from tailnas.space.network import load_model, save_model
from tailnas.stage import Stage, arguments, main
from tailnas.training.adaptation import adapt, halves_chooser
from tailnas.training.device import prepare
from tailnas.training.history import write_history
from tailnas.training.loop import Loop


def run() -> None:
    args = arguments(__doc__, "seed", inputs=("data", "split", "retrained"))
    with Stage("adapt", args) as stage:
        settings = stage.section("adapt")
        device = prepare(stage.params.runtime.device, stage.params.runtime.threads)
        train = load_train(args.data)
        split = read_split(args.split, len(train.labels), len(train.classes))
        data = DeviceImages.from_part(train, device, split.indices)
        weights, architecture = (
            DeviceImages.from_part(train, device, split.part(part)) for part in ("weights", "architecture")
        )
        network = load_model(args.retrained / "model.safetensors", train.classes).to(device)
        seed, progress = int(args.seed), stage.params.runtime.progress
        loop = Loop(f"adapt {stage.run}", stage.checkpoint, stage.logs, progress)
        choosing = Loop(f"retrain {stage.run} on the weight half", stage.checkpoint, stage.logs, progress)
        chooser = halves_chooser(settings, stage.section("retrain"), network, weights, architecture, seed, choosing)
        result = adapt(settings, network, data, seed, loop, chooser)
        with stage.writing() as folder:
            save_model(folder / "model.safetensors", network, network.classes, *network.normalisation)
            write_history(folder / "history.csv", result.history)
            if result.choice:
                write_history(folder / "choice.csv", result.choice)


if __name__ == "__main__":
    main(run)
