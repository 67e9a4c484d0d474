"""Check the whole of params.yaml before anything else runs; with --check nothing is written."""

import os
import sys
from pathlib import Path

from tailnas.foundation.stage import main
from tailnas.validate.combinations import warnings
from tailnas.validate.feasible import require_feasible
from tailnas.validate.parameters import load_params

OUTPUT = Path("data/params.ok")


def run() -> None:
    params = load_params()
    require_feasible(params)
    for line in warnings(params):
        print(f"params.yaml: warning: {line}", flush=True)
    if sys.argv[1:] == ["--check"]:
        return
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    temporary = OUTPUT.with_name(f".{OUTPUT.name}.{os.getpid()}.tmp")
    temporary.write_text("params.yaml is valid\n")
    temporary.replace(OUTPUT)


if __name__ == "__main__":
    main(run)
