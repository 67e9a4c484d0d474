"""Bring a data set into data/raw: draw it, read it or download it."""

from tailnas.data.dataset import save
from tailnas.fetch.settings import SOURCE
from tailnas.foundation.stage import Stage, arguments, main


def run() -> None:
    args = arguments(__doc__, "role")
    with Stage("fetch", args) as stage:
        source = stage.chosen(f"data.{args.role}", SOURCE)
        size, channels = stage.section("data.image_size", int), stage.section("data.channels", int)
        dataset = source.module.load(source.settings, size, channels)
        with stage.writing() as folder:
            print(f"fetch {dataset.name}: {save(dataset, folder)}", flush=True)


if __name__ == "__main__":
    main(run)
