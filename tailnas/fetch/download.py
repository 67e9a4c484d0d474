"""Files from the network: whole and with the right checksum, or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tailnas.foundation.errors import UserError

TIMEOUT_SECONDS = 30
LARGEST_FILE = 2**31
CHUNK = 2**20


@dataclass(frozen=True)
class Checksum:
    """An algorithm of hashlib and the hexadecimal digest that a file must have."""

    algorithm: str
    digest: str

    def found(self, path: Path) -> str:
        """The digest that `path` has."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, self.algorithm).hexdigest()

    def require(self, path: Path, name: str) -> None:
        """Raises UserError naming `name`, the digest of `path` and the one that is allowed."""
        found = self.found(path)
        if found != self.digest:
            raise UserError(
                f"{name}: {self.algorithm} {found} of {path.stat().st_size} bytes (truncated or altered?); "
                f"allowed: {self.digest}"
            )


def fetched(url: str, path: Path, checksum: Checksum, key: str) -> Path:
    """Bring `url` to `path`, unless a file with the right checksum lies there.

    key: the parameter that errors name. Two processes that ask for one path wait for each other. Raises UserError
    for an address that cannot be reached, a transfer that breaks off or a wrong checksum; `path` is then as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_file() and checksum.found(path) == checksum.digest:
            return path
        part = path.with_name(f"{path.name}.part")
        try:
            _transfer(url, part, key)
            checksum.require(part, f"{key}: {url}")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def _transfer(url: str, part: Path, key: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{key}: {url!r}; allowed: addresses that start with http:// or https://")
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "tailnas"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            _stream(response, part, f"{key}: {url}")
    except urllib.error.HTTPError as error:
        error.close()
        raise _unreachable(key, url, f"the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _unreachable(key, url, str(error.reason)) from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _unreachable(key, url, f"{type(error).__name__}: {error}") from None


def _unreachable(key: str, url: str, reason: str) -> UserError:
    return UserError(
        f"{key}: {url} cannot be downloaded ({' '.join(reason.split())}); allowed: an address that can be reached, "
        "or root with a folder that holds the archive"
    )


def _stream(response: http.client.HTTPResponse, part: Path, name: str) -> None:
    stated = response.headers.get("Content-Length", "")
    size = int(stated) if stated.isdigit() else None
    if not sys.stderr.isatty():
        print(f"downloading {name}" + (f" ({size / 1e6:.1f} MB)" if size else ""), file=sys.stderr, flush=True)
    received = 0
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=part.stem, leave=False, disable=not sys.stderr.isatty())
    with bar, part.open("wb") as file:
        while chunk := response.read(CHUNK):
            received += len(chunk)
            if received > LARGEST_FILE:
                raise UserError(f"{name}: more than {LARGEST_FILE} bytes; allowed: the archive of the data set")
            file.write(chunk)
            bar.update(len(chunk))
    if size is not None and received != size:
        raise UserError(f"{name}: broke off after {received} bytes; allowed: all {size}; run again")
