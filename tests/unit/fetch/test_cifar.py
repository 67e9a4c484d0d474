"""Archives of the real format, written here and served from loopback."""

import hashlib
import http.server
import io
import pickle
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from tailnas.data.dataset import Dataset
from tailnas.fetch import cifar, download
from tailnas.foundation.errors import UserError
from tailnas.sources import cifar10, cifar100

MODULES = {"cifar10": cifar10, "cifar100": cifar100}
KINDS = {
    "cifar10": (10, "cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], "test_batch", "batches.meta"),
    "cifar100": (100, "cifar-100-python", ["train"], "test", "meta"),
}


def batch(kind: str, seed: int, per_class: int) -> dict:
    classes = KINDS[kind][0]
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), per_class)).tolist()
    pixels = rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    names = [f"image_{i}.png" for i in range(len(labels))]
    if kind == "cifar10":
        return {"batch_label": f"batch {seed}", "labels": labels, "data": pixels, "filenames": names}
    coarse = [label // 5 for label in labels]
    return {"filenames": names, "batch_label": "b", "fine_labels": labels, "coarse_labels": coarse, "data": pixels}


def contents(kind: str) -> dict[str, dict]:
    """What the pickled files of an archive say."""
    classes, _, train, test, meta = KINDS[kind]
    content = {name: batch(kind, i, 2) for i, name in enumerate(train)} | {test: batch(kind, 99, 1)}
    key = "label_names" if kind == "cifar10" else "fine_label_names"
    return content | {meta: {"num_vis": 3072, key: [f"class {c}" for c in range(classes)]}}


def files(kind: str, protocol: int = 2) -> dict[str, bytes]:
    return {name: pickle.dumps(value, protocol) for name, value in contents(kind).items()}


def archive(kind: str, content: dict[str, bytes], prefix: str = "", mode: str = "w:gz") -> bytes:
    folder = KINDS[kind][1]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        directory = tarfile.TarInfo(prefix + folder)
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for name, raw in [("readme.html", b"<html>"), *content.items()]:
            member = tarfile.TarInfo(f"{prefix}{folder}/{name}")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    return out.getvalue()


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def settings(**changes: str) -> cifar.Archive:
    return cifar.Archive(name="photos", root=None, url=None, sha256=None).model_copy(update=changes)


def load(ask: cifar.Archive, image_size: int = 32, channels: int = 3, kind: str = "cifar10") -> Dataset:
    return MODULES[kind].load(ask, image_size, channels)


def load_as_published(ask: cifar.Archive, **published: object) -> Dataset:
    """With other addresses and checksums than torchvision's."""
    data_set = type("Published", (torchvision.datasets.CIFAR10,), published)
    return cifar.load(data_set, "labels", ask, "cifar10", 32, 3)


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.cut: int | None = None
        self.requests: list[str] = []

    def serve(self, raw: bytes, name: str = "a.tar.gz") -> str:
        self.content[f"/{name}"] = raw
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        raw = self.server.content.get(self.path)
        if raw is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw[: self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project / cifar.DOWNLOADS


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.endswith(".lock")] if folder.exists() else []


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_downloaded_whole(kind, protocol, server, downloads, capfd) -> None:
    raw = archive(kind, files(kind, protocol))
    ask = settings(url=server.serve(raw), sha256=sha256(raw))
    data = load(ask, kind=kind)
    classes, _, train, _, _ = KINDS[kind]
    expected = [batch(kind, i, 2) for i in range(len(train))]
    label_key = "labels" if kind == "cifar10" else "fine_labels"
    assert (data.train_images == np.concatenate([b["data"] for b in expected]).reshape(-1, 3, 32, 32)).all()
    assert data.train_labels.tolist() == [label for b in expected for label in b[label_key]]
    assert data.train_labels.dtype == np.int64
    assert (data.test_images == batch(kind, 99, 1)["data"].reshape(-1, 3, 32, 32)).all()
    assert data.test_labels.tolist() == batch(kind, 99, 1)[label_key]
    assert data.classes == tuple(f"class {c}" for c in range(classes))
    assert (data.name, data.kind) == ("photos", kind)
    assert left_behind(downloads) == [f"cifar-{classes}-python.tar.gz"]
    assert len(capfd.readouterr().err.splitlines()) == 1

    load(ask, 16, 1, kind)
    assert len(server.requests) == 1, "the archive is downloaded once"


def test_size_and_channels(server) -> None:
    raw = archive("cifar10", files("cifar10"))
    ask = settings(url=server.serve(raw), sha256=sha256(raw))
    full = load(ask).train_images.astype(float)
    small = load(ask, 16, 3).train_images
    grey = load(ask, 32, 1).train_images
    assert small.shape == (100, 3, 16, 16)
    halved = full.reshape(100, 3, 16, 2, 16, 2).mean((3, 5))
    assert np.corrcoef(halved.ravel(), small.ravel())[0, 1] > 0.9
    assert np.abs(grey[:, 0] - (full * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1)).max() <= 1


@pytest.mark.parametrize("layout", ["archive", "archive itself", "plain tar", "dotted names"])
def test_found_in_a_local_folder(layout, tmp_path) -> None:
    raw = archive(
        "cifar10",
        files("cifar10"),
        "./" if layout == "dotted names" else "",
        "w" if layout == "plain tar" else "w:gz",
    )
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(raw)
    root = path if layout == "archive itself" else tmp_path
    data = load(settings(root=str(root), sha256=sha256(raw)))
    assert len(data.train_labels) == 100


@pytest.mark.parametrize("nested", [True, False])
def test_extracted_batches_are_held_against_their_checksums(nested, tmp_path) -> None:
    content = files("cifar10")
    folder = tmp_path / "cifar-10-batches-py" if nested else tmp_path
    folder.mkdir(exist_ok=True)
    for name, raw in content.items():
        (folder / name).write_bytes(raw)
    ask = settings(root=str(tmp_path))
    one_line(ask, "data_batch_1: md5 ", "allowed: c99cafc152244af753f735de768cd75f")

    def sums(names: list[list[str]]) -> list[list[str]]:
        return [[name, hashlib.md5(content[name]).hexdigest()] for name, _ in names]

    published = torchvision.datasets.CIFAR10
    ours = {
        "train_list": sums(published.train_list),
        "test_list": sums(published.test_list),
        "meta": published.meta | {"md5": hashlib.md5(content["batches.meta"]).hexdigest()},
    }
    assert len(load_as_published(ask, **ours).train_labels) == 100

    one_line(settings(root=str(tmp_path), sha256="0" * 64), "sha256: ", "holds extracted batches; allowed: null")
    (folder / "test_batch").unlink()
    with pytest.raises(UserError, match="test_batch: no such file"):
        load_as_published(ask, **ours)


def test_the_published_checksum_holds_for_any_address(server, downloads) -> None:
    url = server.serve(archive("cifar10", files("cifar10")))
    one_line(settings(url=url), url, "md5 ", "allowed: c58f30108f718f92721af3b95e74349a")
    assert left_behind(downloads) == []


def test_without_an_address_it_is_the_published_one(server) -> None:
    raw = archive("cifar10", files("cifar10"))
    data = load_as_published(settings(), url=server.serve(raw), tgz_md5=hashlib.md5(raw).hexdigest())
    assert len(data.train_labels) == 100 and len(server.requests) == 1


def test_downloaded_into_root_where_both_are_given(server, tmp_path) -> None:
    raw = archive("cifar10", files("cifar10"))
    root = tmp_path / "mine"
    ask = settings(root=str(root), url=server.serve(raw), sha256=sha256(raw))
    for _ in range(2):
        load(ask)
    assert left_behind(root) == ["cifar-10-python.tar.gz"]
    assert len(server.requests) == 1


def test_a_stale_download_is_replaced(server, downloads) -> None:
    downloads.mkdir(parents=True)
    (downloads / "cifar-10-python.tar.gz").write_bytes(b"of another day")
    raw = archive("cifar10", files("cifar10"))
    load(settings(url=server.serve(raw), sha256=sha256(raw)))
    assert (downloads / "cifar-10-python.tar.gz").read_bytes() == raw


def one_line(ask: cifar.Archive, *told: str) -> None:
    with pytest.raises(UserError) as caught:
        load(ask)
    text = str(caught.value)
    assert "\n" not in text
    for part in told:
        assert part in text


def test_not_found_on_the_server(server, downloads) -> None:
    url = server.serve(b"", "other.tar.gz").replace("other", "missing")
    one_line(settings(url=url), "data: photos: url", url, "404 Not Found")
    assert left_behind(downloads) == []


def test_connection_refused(downloads) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.tar.gz"
        one_line(settings(url=url), url, "refused")
    assert left_behind(downloads) == []


def test_a_server_that_falls_silent(monkeypatch, downloads) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one_line(settings(url=f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar.gz"), "timed out")


def test_a_server_that_speaks_no_http(downloads) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def answer() -> None:
            connection, _ = rude.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"go away\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        one_line(settings(url=f"http://127.0.0.1:{rude.getsockname()[1]}/a.tar.gz"), "cannot be downloaded")
        thread.join()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "nonsense", "http://", "http://[::1"])
def test_other_addresses(url, downloads) -> None:
    one_line(settings(url=url), "data: photos: url", url)
    assert left_behind(downloads) == []


def test_a_transfer_that_breaks_off(server, downloads) -> None:
    raw = archive("cifar10", files("cifar10"))
    server.cut = len(raw) // 2
    one_line(settings(url=server.serve(raw), sha256=sha256(raw)), f"after {len(raw) // 2} bytes", f"all {len(raw)}")
    assert left_behind(downloads) == []


def test_the_wrong_checksum(server, downloads) -> None:
    raw = archive("cifar10", files("cifar10"))
    one_line(settings(url=server.serve(raw), sha256="0" * 64), sha256(raw), "allowed: " + "0" * 64)
    assert left_behind(downloads) == []


def replaced(name: str, change: Callable[[dict], dict]) -> bytes:
    return archive("cifar10", files("cifar10") | {name: pickle.dumps(change(contents("cifar10")[name]), 2)})


def without(name: str) -> bytes:
    return archive("cifar10", {key: raw for key, raw in files("cifar10").items() if key != name})


def linked() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    return out.getvalue()


class Hostile:
    def __reduce__(self):
        return (Path("pwned").touch, ())


DAMAGE = {
    "truncated": (lambda: archive("cifar10", files("cifar10"))[:-5000], "cannot be read as a tar archive"),
    "cut in half": (lambda: archive("cifar10", files("cifar10"))[:100_000], "cannot be read as a tar archive"),
    "plain tar cut": (lambda: archive("cifar10", files("cifar10"), mode="w")[:200_000], "tar archive"),
    "no archive": (lambda: b"<html>quota exceeded</html>", "cannot be read as a tar archive"),
    "zero bytes": (lambda: b"", "cannot be read as a tar archive"),
    "no members": (lambda: archive("cifar10", {}), "holds no batches.meta"),
    "a batch missing": (lambda: without("data_batch_3"), "holds no data_batch_3"),
    "names missing": (lambda: without("batches.meta"), "holds no batches.meta"),
    "another data set": (lambda: archive("cifar100", files("cifar100")), "holds no batches.meta"),
    "a link": (linked, "data_batch_1 is a link"),
    "given twice": (
        lambda: archive("cifar10", files("cifar10") | {"./test_batch": b"x"}),
        "test_batch is a link, given twice",
    ),
    "a program": (lambda: replaced("test_batch", lambda b: {**b, "data": Hostile()}), "test_batch: calls "),
    "garbage batch": (lambda: archive("cifar10", files("cifar10") | {"test_batch": b"garbage"}), "test_batch: "),
    "no dict": (lambda: archive("cifar10", files("cifar10") | {"test_batch": pickle.dumps([1])}), "holds a list"),
    "no pixels": (lambda: replaced("test_batch", lambda b: {"labels": b["labels"]}), "data: NoneType"),
    "floats": (lambda: replaced("test_batch", lambda b: {**b, "data": b["data"] / 255}), "test_batch: "),
    "wide integers": (lambda: replaced("test_batch", lambda b: {**b, "data": b["data"].astype(int)}), "data: int64"),
    "other side": (lambda: replaced("test_batch", lambda b: {**b, "data": b["data"][:, :768]}), "uint8 (10, 768)"),
    "labels short": (lambda: replaced("test_batch", lambda b: {**b, "labels": b["labels"][:-1]}), "10 whole numbers"),
    "labels missing": (lambda: replaced("data_batch_2", lambda b: {"data": b["data"]}), "data_batch_2: labels: None"),
    "labels nested": (lambda: replaced("test_batch", lambda b: {**b, "labels": [[1], [1, 2]]}), "labels: [[1]"),
    "label too large": (lambda: replaced("test_batch", lambda b: {**b, "labels": [10] * 10}), "10 to 10; allowed: 0"),
    "label negative": (lambda: replaced("test_batch", lambda b: {**b, "labels": [-1] * 10}), "-1 to -1"),
    "class missing": (
        lambda: replaced("test_batch", lambda b: {**b, "labels": [0] * 10}),
        "no image of class 'class 1'",
    ),
    "names no list": (lambda: replaced("batches.meta", lambda b: {"label_names": "abc"}), "label_names: 'abc'"),
    "names repeated": (lambda: replaced("batches.meta", lambda b: {"label_names": ["a"] * 10}), "different names"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_archives(damage, server) -> None:
    make, told = DAMAGE[damage]
    raw = make()
    one_line(settings(url=server.serve(raw), sha256=sha256(raw)), "cifar-10-python.tar.gz", told)
    assert not Path("pwned").exists()


def test_a_root_without_the_data(tmp_path) -> None:
    one_line(settings(root=str(tmp_path)), "data: photos: root", str(tmp_path), "cifar-10-python.tar.gz")
    one_line(settings(root=str(tmp_path / "none")), "data: photos: root", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"root: .* no such folder"):
        cifar10.train_counts(settings(root=str(tmp_path / "none")))


def test_a_damaged_archive_in_root_is_not_replaced(server, tmp_path) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(b"mine")
    raw = archive("cifar10", files("cifar10"))
    one_line(settings(root=str(tmp_path), url=server.serve(raw), sha256=sha256(raw)), str(path), "of 4 bytes")
    assert path.read_bytes() == b"mine"


def test_counts_known_before_fetching() -> None:
    assert cifar10.train_counts(settings()) == [5000] * 10
    assert cifar100.train_counts(settings()) == [500] * 100
    assert cifar10.train_counts(settings(sha256="0" * 64)) is None
    assert cifar10.class_names(settings()) is None
