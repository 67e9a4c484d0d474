"""Compute the study once more from nothing, in a copy, and compare every output byte: `make verify`.

The copy has the files that Git tracks or would track, as they are here, but neither results nor cache. Bit identity is
promised for equal threads, versions and hardware.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML

from tailnas.foundation.errors import UserError
from tailnas.foundation.stage import main as stage_main
from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.parameters import Params, load_params

OUTPUTS = ("data/raw", "data/splits", "results")
PARAMS = Path("params.yaml")


def digests(root: Path) -> dict[str, str]:
    """sha256 of every output file below `root`."""
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in OUTPUTS
        for file in sorted((root / folder).rglob("*"))
        if file.is_file() and file.name != ".snakemake_timestamp"
    }


def differences(here: dict[str, str], there: dict[str, str]) -> list[str]:
    """One line for each file that is not the same in both. Folders that the second run did not write do not count."""
    folders = {name.rsplit("/", 1)[0] for name in there}
    lines = [
        f"{name}: {'differs' if name in here else 'is missing here'}"
        for name, digest in there.items()
        if here.get(name) != digest
    ]
    surplus = [name for name in here if name not in there and name.rsplit("/", 1)[0] in folders]
    return lines + [f"{name}: is missing in the second run" for name in surplus]


def copy_project(names: Iterable[str], params: Params, copy: Path) -> None:
    """The files `names` of the working folder, and its parameters, whose local folders are named from the root."""
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, copy / name)
    document = read_yaml(PARAMS)
    for role, data in {"source": params.data.source, "target": params.data.target}.items():
        for key, folder in data.settings.own_folders().items():
            document["data"][role][key] = document["data"]["watch"][role] = str(folder.resolve())
    YAML(typ="safe").dump(document, copy / PARAMS)
    (copy / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")


def project_files() -> list[str]:
    """Tracked files and untracked ones that Git does not ignore, but for dvc.lock. Raises UserError without Git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    except OSError as error:
        raise UserError(f"git: {error.strerror}; allowed: a folder that Git knows") from None
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split())
        raise UserError(f"git ls-files: {reason}; allowed: a folder that Git knows") from None
    return [name for name in names if name and name != "dvc.lock" and Path(name).is_file()]


def verify() -> list[str]:
    """The differences between what is here and what a second run gives. Raises UserError where it cannot tell."""
    params = load_params()
    here = digests(Path())
    if not any(name.startswith("results/") for name in here):
        raise UserError("results: nothing to compare; allowed: results of this study, as `make repro` computes them")
    files = project_files()
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    with tempfile.TemporaryDirectory(prefix="tailnas-verify-") as folder:
        copy = Path(folder) / "copy"
        copy_project(files, params, copy)
        if subprocess.run(["dvc", "repro"], cwd=copy, env={**os.environ, "PATH": programs}, check=False).returncode:
            raise UserError("dvc repro: failed in the copy, see above; allowed: a study that computes from nothing")
        there = digests(copy)
    different = differences(here, there)
    print("\n".join([*different, f"{len(there)} output files computed again, {len(different)} differ"]))
    return different


def main() -> None:
    sys.exit(1 if verify() else 0)


if __name__ == "__main__":
    stage_main(main)
