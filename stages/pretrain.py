"""Pretrain the super-network on the balanced source, as a mixture and, if a search ranks paths, then path by path."""

import json

from tailnas.batches.device_images import DeviceImages
from tailnas.data.dataset import load_test, load_train
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.pretrain.pretraining import at_chance, pretrain, pretraining_cost, train_paths
from tailnas.pretrain.settings import Pretrain
from tailnas.space.device import prepare
from tailnas.space.pretrained import FILES, HISTORIES, Paths, supernet_config
from tailnas.space.settings import Space
from tailnas.space.supernet import SuperNet
from tailnas.space.weights import save_weights
from tailnas.training.checkpoint import Row
from tailnas.training.history import write_history
from tailnas.training.loop import Loop


def run() -> None:
    args = arguments(__doc__, "seed", inputs=("data",))
    with Stage("pretrain", args) as stage:
        settings, space = stage.section("pretrain", Pretrain), stage.section("space", Space)
        training = settings.training
        device = prepare(stage.runtime.device, stage.runtime.threads, training.precision)
        source = load_train(args.data)
        train, held_out = (DeviceImages.from_part(part, device) for part in (source, load_test(args.data)))
        loop = Loop(f"pretrain {stage.run}", stage.checkpoint, stage.logs, stage.runtime.progress, stage.live)
        seed, classes = int(args.seed), len(source.classes)
        mixture = pretrain(training, space, train, held_out, classes, seed, loop)
        trained: dict[Paths, tuple[SuperNet, list[Row]]] = {"mixture": mixture}
        if settings.single_path is not None:
            part = loop.part("single-path", "pretrain.single_path")
            trained["single"] = train_paths(training, settings.single_path, mixture[0], train, held_out, seed, part)
        for paths, (_, history) in trained.items():
            if line := at_chance(history):
                print(f"pretrain {stage.run}: {paths}: {line}", flush=True)
        with stage.writing() as folder:
            for paths, (network, history) in trained.items():
                save_weights(folder / FILES[paths], network.state_dict(), supernet_config(network) | {"paths": paths})
                write_history(folder / HISTORIES[paths], history)
            cost = pretraining_cost(training, settings.single_path, space, mixture[0], train, seed)
            (folder / "cost.json").write_text(json.dumps(cost, indent=1) + "\n")


if __name__ == "__main__":
    main(run)
