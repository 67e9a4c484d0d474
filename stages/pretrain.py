"""Pretrain the super-network on the balanced source, as a mixture and, if a search ranks paths, then path by path."""

from tailnas.batches.device_images import DeviceImages
from tailnas.data.dataset import load_test, load_train
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.pretrain.pretraining import pretrain, train_paths
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
        loop = Loop(f"pretrain {stage.run}", stage.checkpoint, stage.logs, stage.runtime.progress)
        seed, classes = int(args.seed), len(source.classes)
        mixture = pretrain(training, space, train, held_out, classes, seed, loop)
        trained: dict[Paths, tuple[SuperNet, list[Row]]] = {"mixture": mixture}
        if settings.single_path is not None:
            part = loop.part("single-path", "pretrain.single_path")
            trained["single"] = train_paths(training, settings.single_path, mixture[0], train, held_out, seed, part)
        with stage.writing() as folder:
            for paths, (network, history) in trained.items():
                save_weights(folder / FILES[paths], network.state_dict(), supernet_config(network) | {"paths": paths})
                write_history(folder / HISTORIES[paths], history)


if __name__ == "__main__":
    main(run)
