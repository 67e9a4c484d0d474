"""Check the whole of params.yaml and note the installed packages, before anything else runs; --check writes nothing."""

import sys
from pathlib import Path

from tailnas.foundation.stage import PARAMS, main
from tailnas.foundation.whole_file import write_whole
from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.apart import require_apart
from tailnas.validate.combinations import warnings
from tailnas.validate.feasible import require_feasible
from tailnas.validate.parameters import load_params
from tailnas.validate.watched import FOLDER, PACKAGES_FILE, packages

OUTPUT = Path("data/params.ok")


def run() -> None:
    params = load_params(PARAMS)
    require_apart(params, read_yaml(PARAMS))
    require_feasible(params)
    for line in warnings(params):
        print(f"params.yaml: warning: {line}", flush=True)
    if sys.argv[1:] == ["--check"]:
        return
    write_whole(FOLDER / PACKAGES_FILE, packages().encode())
    for note in FOLDER.glob("*.txt"):
        if note.stem not in params.data.watch:
            note.unlink()  # of a folder that is watched no more
    write_whole(OUTPUT, b"params.yaml is valid\n")


if __name__ == "__main__":
    main(run)
