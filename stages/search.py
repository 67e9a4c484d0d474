"""Search an architecture on the two halves of the imbalanced target."""

import json

from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.data.dataset import load_test, load_train
from tailnas.data.split_file import HALVES, read_split
from tailnas.foundation.extensions import extension
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.genotype.found import FOUND, write_alphas, write_genotype
from tailnas.search.method import PACKAGE, starting_paths
from tailnas.search.settings import Bilevel
from tailnas.search.task import SearchTask, Source
from tailnas.space.device import prepare
from tailnas.space.pretrained import FILES, supernet_config
from tailnas.space.settings import Space
from tailnas.space.weights import read_weights, save_weights
from tailnas.training.history import write_history
from tailnas.training.loop import Loop
from tailnas.training.settings import NetworkTraining


def run() -> None:
    args = arguments(__doc__, "method", "imbalance_factor", "seed", inputs=("data", "split", "source", "pretrained"))
    with Stage("search", args) as stage:
        method = extension(PACKAGE, args.method, "--method")
        settings = stage.section(f"search.{args.method}", method.Settings)
        training, bilevel = stage.section("search.training", NetworkTraining), stage.section("search.bilevel", Bilevel)
        device = prepare(stage.runtime.device, stage.runtime.threads, training.precision)
        train = load_train(args.data)
        split = read_split(args.split, len(train.labels), len(train.classes))
        weight_half, architecture_half = (DeviceImages.from_part(train, device, split.half(half)) for half in HALVES)
        paths = starting_paths(args.method, bilevel, settings)
        pretrained = args.pretrained / FILES[paths] if paths else None
        task = SearchTask(
            training=training,
            augment_architecture_half=stage.section("search.augment_architecture_half", bool),
            bilevel=bilevel,
            space=stage.section("space", Space),
            weight_half=weight_half,
            architecture_half=architecture_half,
            num_classes=len(train.classes),
            normalisation=Normalisation.of(weight_half.images),
            pretrained=read_weights(pretrained, kind="supernet")[0] if pretrained else None,
            pretrained_file=pretrained,
            seed=int(args.seed),
            loop=Loop(f"search {stage.run}", stage.checkpoint, stage.logs, stage.runtime.progress, stage.live),
            source=lambda: Source(
                *(DeviceImages.from_part(load(args.source), device) for load in (load_train, load_test))
            ),
            cuda_graph=stage.runtime.cuda_graph,
            run=(args.method, args.imbalance_factor, args.data.name),
        )
        result = method.search(task, settings)
        with stage.writing() as folder:
            (folder / FOUND).mkdir()
            if result.genotype is not None:
                write_genotype(folder / FOUND, result.genotype)
            if result.alphas is not None:
                write_alphas(folder / FOUND, {name: values.numpy() for name, values in result.alphas.items()})
            if result.network is not None:
                save_weights(
                    folder / "supernet.safetensors", result.network.state_dict(), supernet_config(result.network)
                )
            for name, rows in {"history": result.history, **result.tables}.items():
                write_history(folder / f"{name}.csv", rows)
            cost = {**result.cost.to_dict(), "pretrained": paths}
            (folder / "cost.json").write_text(json.dumps(cost, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(run)
