"""Search an architecture on the two halves of the imbalanced target."""

import json

from tailnas.data.dataset import load_test, load_train
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.data.splits import read_split
from tailnas.params import pretrained_paths
from tailnas.search.methods import method
from tailnas.search.record import write_alphas
from tailnas.search.task import SearchTask, Source
from tailnas.space.weights import read_weights, save_weights
from tailnas.stage import Stage, arguments, main
from tailnas.training.device import prepare
from tailnas.training.history import write_history
from tailnas.training.loop import Loop
from tailnas.training.pretraining import FILES, supernet_config


def run() -> None:
    args = arguments(__doc__, "method", "seed", inputs=("data", "split", "source", "pretrained"))
    with Stage("search", args) as stage:
        settings, space = stage.section("search"), stage.section("space")
        device = prepare(stage.params.runtime.device, stage.params.runtime.threads, settings.precision)
        train = load_train(args.data)
        split = read_split(args.split, len(train.labels), len(train.classes))
        weights, architecture = (
            DeviceImages.from_part(train, device, split.part(half)) for half in ("weights", "architecture")
        )
        paths = pretrained_paths(args.method, settings)
        pretrained = args.pretrained / FILES[paths] if paths else None
        task = SearchTask(
            settings=settings,
            space=space,
            weights=weights,
            architecture=architecture,
            num_classes=len(train.classes),
            normalisation=Normalisation.of(weights.images),
            pretrained=read_weights(pretrained, kind="supernet")[0] if pretrained else None,
            pretrained_file=pretrained,
            seed=int(args.seed),
            loop=Loop(f"search {stage.run}", stage.checkpoint, stage.logs, stage.params.runtime.progress),
            source=lambda: Source(
                *(DeviceImages.from_part(load(args.source), device) for load in (load_train, load_test))
            ),
        )
        result = method(args.method)(task)
        with stage.writing() as folder:
            write_alphas(folder / "alphas.npz", result.alphas, result.hand_made)
            if result.network is not None:
                save_weights(
                    folder / "supernet.safetensors", result.network.state_dict(), supernet_config(result.network)
                )
            for name, rows in {"history": result.history, **result.tables}.items():
                write_history(folder / f"{name}.csv", rows)
            (folder / "cost.json").write_text(json.dumps(result.cost.to_dict(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(run)
