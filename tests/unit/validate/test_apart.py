"""The user's images lie apart from what stages write, through links and `~` too."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from tailnas.foundation.errors import UserError
from tailnas.foundation.pipeline import outputs, overlap
from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.apart import require_apart
from tailnas.validate.parameters import checked_params

REPOSITORY = Path(__file__).parents[3]


def images(folder):
    for name in ("crow", "duck"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (4, 4), i).save(folder / name / f"{i}.png")


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Checks a target at `path` called `name`, in a project of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)

    def check(path, name="birds", **other):
        document = read_yaml(REPOSITORY / "presets" / "default.yaml")
        own = {"test_per_class": 1, "group": None, "unreadable": "refuse", "seed": 0}
        document["data"]["target"] = {"kind": "folder", "name": name, "path": path, **own}
        document["data"]["watch"] = {"target": str(Path(path).expanduser())}
        document["data"].update(other)
        if "source" in other:
            document["data"]["watch"]["source"] = other["source"]["root"]
        require_apart(checked_params(document, "params.yaml"), document)

    return check


@pytest.mark.parametrize(
    ("lies", "path", "name", "output"),
    [
        ("data/raw/birds", "data/raw/birds", "birds", "data/raw/birds"),
        ("data/raw/birds", "./data/../data/raw/birds/", "birds", "data/raw/birds"),
        ("data/raw/birds", "~/data/raw/birds", "birds", "data/raw/birds"),
        ("data/raw/birds", "link", "birds", "data/raw/birds"),
        ("data/raw/birds/images", "data/raw/birds/images", "birds", "data/raw/birds"),
        ("data/raw/glyphs/images", "data/raw/glyphs/images", "birds", "data/raw/glyphs"),
        ("data/raw", "data/raw", "crow", "data/raw/glyphs"),
        ("data", "data", "birds", "data/params.ok"),
        ("results/runs/any-7-1/search", "results/runs/any-7-1/search", "birds", "results/runs/*/search"),
        ("data/splits/if7-seed9/x", "data/splits/if7-seed9/x", "birds", "data/splits/if*-seed*"),
    ],
)
def test_images_that_a_stage_would_overwrite_are_refused(check, lies, path, name, output):
    images(Path(lies))
    Path("link").symlink_to(lies)
    with pytest.raises(UserError) as error:
        check(path, name)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f'params.yaml: data.target.path: "{path}" is, holds or lies inside {output}, ')
    assert "; allowed: " in line


@pytest.mark.parametrize("link", ["class folder", "file", "output"])
def test_links_to_and_from_outputs_are_refused(check, link):
    images(Path("results/report/kept"))
    if link == "class folder":
        shutil.copytree("results/report/kept/crow", "mine/crow")
        Path("mine/duck").symlink_to(Path("results/report/kept/duck").resolve())
    elif link == "file":
        images(Path("mine"))
        Path("mine/duck/more.png").symlink_to(Path("results/report/kept/duck/0.png").resolve())
    else:
        images(Path("mine"))
        Path("data/raw").mkdir(parents=True)
        Path("data/raw/birds").symlink_to(Path("mine").resolve())
    with pytest.raises(UserError, match=r"data\.target\.path: \"mine\""):
        check("mine")


def test_an_archive_inside_an_output_is_refused(check):
    Path("data/raw/cifar10").mkdir(parents=True)
    images(Path("mine"))
    source = {"kind": "cifar10", "name": "cifar10", "root": "data/raw/cifar10", "url": None, "sha256": None}
    with pytest.raises(UserError, match=r"data\.source\.root: \"data/raw/cifar10\" is, holds or lies inside data/raw/"):
        check("mine", source=source)


@pytest.mark.parametrize(("path", "name"), [("mine", "birds"), ("data/raw/photos", "birds"), ("data/mine", "mine")])
def test_images_elsewhere_are_allowed(check, path, name):
    images(Path(path))
    check(path, name)


@pytest.mark.parametrize("kept", ["notes.txt", "images/a.png"])
def test_an_output_that_holds_what_no_stage_wrote_is_refused(check, kept):
    images(Path("mine"))
    for name in ("meta.json", "train_images.npy", ".snakemake_timestamp"):
        Path("data/raw/birds").mkdir(parents=True, exist_ok=True)
        Path("data/raw/birds", name).touch()
    check("mine")
    Path("data/raw/birds", kept).parent.mkdir(exist_ok=True)
    Path("data/raw/birds", kept).touch()
    with pytest.raises(UserError, match=r'data\.target\.name: "birds": data/raw/birds holds .*; allowed: another name'):
        check("mine")


@pytest.mark.parametrize("link", ["data", "data/raw", "results"])
def test_a_link_out_of_the_repository_is_refused_by_its_name(check, tmp_path_factory, link):
    images(Path("mine"))
    Path(link).parent.mkdir(exist_ok=True)
    Path(link).symlink_to(disk := tmp_path_factory.mktemp("disk"))
    check("mine")  # without Git, DVC has nothing against it
    Path(".git").mkdir()
    with pytest.raises(UserError, match=rf"^{link}: a link to {disk}, outside of the repository; allowed: a folder "):
        check("mine")


def test_every_output_is_known_a_users_own_stages_included(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = """
  own:
    cmd: [python a.py, python b.py]
    outs: [mine/table.csv, {"mine/${study.seeds}/x": {cache: false}}]
    metrics: [{mine/numbers.json: {cache: false}}]
  each:
    foreach: [a, b]
    do: {cmd: x, outs: ["more/${item}"]}
"""
    text = (REPOSITORY / "dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("\nmetrics:", f"{own}\nmetrics:", 1))
    found = set(outputs(read_yaml(REPOSITORY / "presets" / "default.yaml")))
    assert {
        ("fetch", "data/raw/digits"),
        ("fetch", "data/raw/glyphs"),
        ("adapt", "results/runs/*/adapt"),
        ("own", "mine/table.csv"),
        ("own", "mine/*/x"),
        ("own", "mine/numbers.json"),
        ("each", "more/a"),
        ("each", "more/b"),
    } <= found
    assert overlap(Path("mine"), "mine/table.csv") and not overlap(Path("mine2"), "mine/table.csv")
