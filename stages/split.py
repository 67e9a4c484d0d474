"""Make the target long-tailed and cut it into the two halves of the search."""

from dataclasses import replace

import numpy as np

from tailnas.data.dataset import load_meta, load_train
from tailnas.data.origin import read_groups
from tailnas.data.repeated import read_digests
from tailnas.data.split_file import write_fold, write_split
from tailnas.foundation.errors import UserError
from tailnas.foundation.settings import NATURAL
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.split.apart import require_apart
from tailnas.split.folds import fold_of_each, with_copies
from tailnas.split.long_tail import long_tailed_split
from tailnas.split.settings import Split


def run() -> None:
    args = arguments(__doc__, "imbalance_factor", "seed", inputs=("data", "source"))
    with Stage("split", args) as stage:
        settings = stage.section("split", Split)
        train, meta = load_train(args.data), load_meta(args.data)
        require_apart(args.data, args.source)
        groups, rows, tested = read_groups(args.data, len(train.labels)), np.arange(len(train.labels)), None
        if settings.folds is not None:
            if any(meta.test_counts):
                raise UserError(
                    f"split.folds: {settings.folds}: {args.data} has {sum(meta.test_counts)} test images; "
                    "allowed: null, or data.target without a test part"
                )
            copies = with_copies(groups, read_digests(args.data)[: len(groups)])
            fold = fold_of_each(train.labels, copies, settings.folds, len(train.classes))
            own = int(args.seed) % settings.folds
            rows, tested = np.flatnonzero(fold != own), np.flatnonzero(fold == own)
        split = long_tailed_split(
            train.labels[rows],
            len(train.classes),
            args.imbalance_factor if args.imbalance_factor == NATURAL else float(args.imbalance_factor),
            settings.profile,
            settings.class_order,
            settings.n_max,
            int(args.seed),
            train.classes,
            groups[rows],
        )
        with stage.writing() as folder:
            write_split(replace(split, indices=rows[split.indices]), folder, train.classes)
            if tested is not None:
                write_fold(tested, train.labels[tested], folder)


if __name__ == "__main__":
    main(run)
