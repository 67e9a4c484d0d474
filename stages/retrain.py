"""Train the derived network from random weights on the whole long-tailed training data."""

from tailnas.data.dataset import load_train
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.data.splits import read_split
from tailnas.errors import UserError
from tailnas.space.genotype import Genotype
from tailnas.space.network import save_model
from tailnas.stage import Stage, arguments, main
from tailnas.training.device import prepare
from tailnas.training.history import write_history
from tailnas.training.loop import Loop
from tailnas.training.retraining import retrain


def run() -> None:
    args = arguments(__doc__, "seed", inputs=("data", "split", "genotype"))
    with Stage("retrain", args) as stage:
        settings = stage.section("retrain")
        device = prepare(stage.params.runtime.device, stage.params.runtime.threads, settings.precision)
        train = load_train(args.data)
        split = read_split(args.split, len(train.labels), len(train.classes))
        data = DeviceImages.from_part(train, device, split.indices)
        normalisation = Normalisation.of(data.images)
        path = args.genotype / "genotype.json"
        try:
            genotype = Genotype.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
        loop = Loop(f"retrain {stage.run}", stage.checkpoint, stage.logs, stage.params.runtime.progress)
        network, history = retrain(settings, genotype, data, normalisation, len(train.classes), int(args.seed), loop)
        with stage.writing() as folder:
            save_model(folder / "model.safetensors", network, train.classes, normalisation.mean, normalisation.std)
            write_history(folder / "history.csv", history)


if __name__ == "__main__":
    main(run)
