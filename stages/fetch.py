"""Bring a data set into data/raw: draw it, read it or download it."""

from tailnas.data.dataset import save
from tailnas.data.sources import source
from tailnas.stage import Stage, arguments, main


def run() -> None:
    args = arguments(__doc__, "role")
    with Stage("fetch", args) as stage:
        settings = stage.section(f"data.{args.role}")
        size, channels = stage.section("data.image_size"), stage.section("data.channels")
        dataset = source(settings.kind).load(settings, size, channels)
        with stage.writing() as folder:
            save(dataset, folder)


if __name__ == "__main__":
    main(run)
