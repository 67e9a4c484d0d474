"""Train the derived network from random weights on the whole long-tailed training data."""

from tailnas.batches.device_images import DeviceImages
from tailnas.data.dataset import load_train
from tailnas.data.split_file import read_split
from tailnas.foundation.seeding import retraining_seed
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.genotype.found import GENOTYPE_FILE, read_genotype
from tailnas.retrain.retraining import input_normalisation, retrain
from tailnas.retrain.settings import Retrain
from tailnas.space.device import prepare
from tailnas.space.network import save_model
from tailnas.training.history import write_history
from tailnas.training.loop import Loop


def run() -> None:
    args = arguments(__doc__, "seed", "retrain_seed", inputs=("data", "split", "genotype"))
    with Stage("retrain", args) as stage:
        settings = stage.section("retrain", Retrain)
        device = prepare(stage.runtime.device, stage.runtime.threads, settings.training.precision)
        train = load_train(args.data)
        split = read_split(args.split, len(train.labels), len(train.classes))
        data = DeviceImages.from_part(train, device, split.indices)
        genotype = read_genotype(args.genotype / GENOTYPE_FILE)
        normalisation = input_normalisation(genotype, data.images)
        loop = Loop(f"retrain {stage.run}", stage.checkpoint, stage.logs, stage.runtime.progress, stage.live)
        seed = retraining_seed(int(args.seed), int(args.retrain_seed))
        network, history = retrain(settings, genotype, data, normalisation, len(train.classes), seed, loop)
        network.classes = train.classes
        with stage.writing() as folder:
            save_model(folder / "model.safetensors", network)
            write_history(folder / "history.csv", history)


if __name__ == "__main__":
    main(run)
