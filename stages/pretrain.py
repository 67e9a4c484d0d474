"""Pretrain the super-network on the balanced source: as a mixture, one path a step, or one of each."""

from typing import get_args

from tailnas.data.dataset import load_test, load_train
from tailnas.data.device import DeviceImages
from tailnas.space.weights import save_weights
from tailnas.stage import Stage, arguments, main
from tailnas.training.device import prepare
from tailnas.training.history import write_history
from tailnas.training.loop import Loop
from tailnas.training.pretraining import FILES, Paths, merged_histories, pretrain, supernet_config


def run() -> None:
    args = arguments(__doc__, "seed", inputs=("data",))
    with Stage("pretrain", args) as stage:
        settings, space = stage.section("pretrain"), stage.section("space")
        device = prepare(stage.params.runtime.device, stage.params.runtime.threads, settings.precision)
        source = load_train(args.data)
        train, held_out = (DeviceImages.from_part(part, device) for part in (source, load_test(args.data)))
        loop = Loop(f"pretrain {stage.run}", stage.checkpoint, stage.logs, stage.params.runtime.progress)
        kinds: tuple[Paths, ...] = get_args(Paths) if settings.paths == "both" else (settings.paths,)
        trained = {
            paths: pretrain(
                settings,
                space,
                train,
                held_out,
                len(source.classes),
                int(args.seed),
                loop.part(paths) if settings.paths == "both" else loop,
                paths,
            )
            for paths in kinds
        }
        with stage.writing() as folder:
            for paths, (network, _) in trained.items():
                save_weights(folder / FILES[paths], network.state_dict(), supernet_config(network) | {"paths": paths})
            write_history(folder / "history.csv", merged_histories([history for _, history in trained.values()]))


if __name__ == "__main__":
    main(run)
