"""Note what a folder of the user's own holds. DVC watches the folder, and `fetch` depends on the note."""

from pathlib import Path

from tailnas.foundation.digest import folder_digest
from tailnas.foundation.errors import UserError
from tailnas.foundation.pipeline import outputs, overlap
from tailnas.foundation.stage import PARAMS, arguments, main
from tailnas.foundation.whole_file import write_whole
from tailnas.foundation.yaml_file import read_yaml


def run() -> None:
    args = arguments(__doc__, "role")
    document = read_yaml(PARAMS)
    folder = Path(document["data"]["watch"][args.role])
    for stage, output in outputs(document):
        if overlap(folder, output):
            raise UserError(
                f"{PARAMS}: data.watch.{args.role}: {folder} is, holds or lies inside {output}, which the stage "
                f"{stage} overwrites; allowed: a folder apart from what stages write"
            )
    write_whole(args.output, f"{folder_digest(folder)}\n".encode())


if __name__ == "__main__":
    main(run)
