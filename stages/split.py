"""Make the target long-tailed and cut it into the two halves of the search."""

from tailnas.data.dataset import load_train
from tailnas.data.origin import read_groups
from tailnas.data.split_file import write_split
from tailnas.foundation.settings import NATURAL
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.split.apart import require_apart
from tailnas.split.long_tail import long_tailed_split
from tailnas.split.settings import Split


def run() -> None:
    args = arguments(__doc__, "imbalance_factor", "seed", inputs=("data", "source"))
    with Stage("split", args) as stage:
        settings = stage.section("split", Split)
        train = load_train(args.data)
        require_apart(args.data, args.source)
        split = long_tailed_split(
            train.labels,
            len(train.classes),
            args.imbalance_factor if args.imbalance_factor == NATURAL else float(args.imbalance_factor),
            settings.profile,
            settings.class_order,
            settings.n_max,
            int(args.seed),
            train.classes,
            read_groups(args.data, len(train.labels)),
        )
        with stage.writing() as folder:
            write_split(split, folder, train.classes)


if __name__ == "__main__":
    main(run)
