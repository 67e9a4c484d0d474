import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tailnas
from tailnas.fetch.image_file import read_image
from tailnas.foundation.errors import UserError
from tailnas.predict.__main__ import image_files, run
from tailnas.space.network import Network, save_model
from tailnas.space.supernet import seeded_initialisation

CLASSES = ("Fuß", "a, b", "1=1")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    with seeded_initialisation(0):
        network = Network(tailnas.DARTS_V1, 4, 3, len(CLASSES))
    network.classes, network.normalisation = CLASSES, ((0.5,) * 3, (0.2,) * 3)
    network.image_size, network.class_counts = 16, (50, 20, 5)
    network.prior, network.temperature = (0.5, 0.3, 0.2), 0.05  # sharp, so that images differ
    network.class_thresholds, network.miss = (0.3, 0.0, 0.3), 0.1
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, network)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, shape in {
        "a.png": (16, 16, 3),
        "b.jpg": (40, 25, 3),
        "deep/c d.png": (30, 30),
        "deep/é.webp": (9, 64, 4),
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / name)
    Image.fromarray(rng.integers(0, 65536, (20, 20)).astype(np.uint16)).save(folder / "deep" / "wide.tif")
    return folder


def test_files_are_predicted_as_their_pixels_are(model_file, images) -> None:
    model = tailnas.load_model(model_file)
    assert (model.classes, model.image_size, model.class_counts) == (CLASSES, 16, (50, 20, 5))
    files = image_files([images])
    assert [file.name for file in files] == ["a.png", "b.jpg", "c d.png", "wide.tif", "é.webp"]
    probabilities = model.predict_files(files)
    pixels = np.stack([np.broadcast_to(read_image(file, 16, 3), (3, 16, 16)) for file in files])
    np.testing.assert_array_equal(probabilities, model.predict(pixels).double().numpy())
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert model.predict_files([]).shape == (0, 3)
    assert np.ptp(probabilities, axis=0).max() > 1e-4


def test_a_batch_at_a_time_gives_the_same(model_file, images, monkeypatch) -> None:
    model, files = tailnas.load_model(model_file), image_files([images])
    whole = model.predict_files(files)
    monkeypatch.setattr("tailnas.predict.classifier.BATCH", 2)
    np.testing.assert_allclose(model.predict_files(files), whole, atol=1e-6)


@pytest.mark.parametrize("side", [8, 30, 32])
def test_arrays_of_another_size_are_refused(model_file, side) -> None:
    with pytest.raises(ValueError, match=r"allowed: uint8 of shape \(N, 3, 16, 16\)"):
        tailnas.load_model(model_file).predict(np.zeros((2, 3, side, side), np.uint8))


def test_files_that_are_no_images_are_named(model_file, images, tmp_path) -> None:
    (tmp_path / "no.png").write_text("no")
    with pytest.raises(UserError, match=r"^1 of 2 files are no whole images: '.*no\.png' \(not an image\); allowed: "):
        tailnas.load_model(model_file).predict_files([images / "a.png", tmp_path / "no.png"])


def test_a_file_without_its_size_is_refused(tmp_path) -> None:
    save_model(tmp_path / "m", Network(tailnas.DARTS_V1, 2, 3, 2))
    with pytest.raises(UserError, match=r"m: does not know the size of its images; allowed: "):
        tailnas.load_model(tmp_path / "m")


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[3])
    environment = {"PYTHONPATH": root, "PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "utf-8"}
    line = [sys.executable, "-m", "tailnas.predict", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=environment)


def test_the_command_from_anywhere(model_file, images, tmp_path) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    done = command(model_file, images, tmp_path / "broken.png", "--top", 2, "--csv", "out.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        f"{tmp_path / 'broken.png'}: 0 bytes",
        "1 of 6 files are no whole images; allowed: images that Pillow reads",
    ]
    lines = done.stdout.splitlines()
    probabilities = tailnas.load_model(model_file).predict_files(image_files([images]))
    assert len(lines) == 5
    for text, row in zip(lines, probabilities, strict=True):
        first, second = np.argsort(-row)[:2]
        assert text.endswith(f"  {CLASSES[first]} {row[first]:.3f}  {CLASSES[second]} {row[second]:.3f}")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["problem"] for row in rows] == [""] * 5 + ["0 bytes"]
    written = np.array([[float(row[name]) for name in CLASSES] for row in rows[:5]])
    np.testing.assert_allclose(written, probabilities, atol=1e-5)
    assert [row["prediction"] for row in rows[:5]] == [CLASSES[k] for k in probabilities.argmax(1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.png", "out.csv"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["{model}", "nowhere"], "nowhere: no such file or folder; allowed: image files, or folders of them"),
        (["{model}", "."], ".: no files; allowed: image files, or folders of them"),
        (["nothing", "."], "nothing: no such file; allowed: weights that an earlier stage writes"),
        (["{model}", ".", "--top", "0"], "--top: 0; allowed: 1 or more"),
        (["{model}", ".", "--abstain", "1.5"], "--abstain: 1.5; allowed: a probability, 0 to 1"),
    ],
)
def test_mistakes_are_one_line(model_file, tmp_path, monkeypatch, arguments, line) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["predict", *(text.format(model=model_file) for text in arguments)])
    with pytest.raises(UserError) as raised:
        run()
    assert str(raised.value) == line


def predicted(monkeypatch, capsys, folder, *arguments):
    """The rows of the table that the command writes, and what it prints."""
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments), "--csv", str(folder / "out.csv")])
    run()
    with (folder / "out.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream)), capsys.readouterr()


def numbers(rows):
    return np.array([[float(row[name]) for name in CLASSES] for row in rows])


def test_sets_are_columns_at_the_models_own_prior(model_file, images, tmp_path, monkeypatch, capsys) -> None:
    rows, _ = predicted(monkeypatch, capsys, tmp_path, model_file, images)
    own = numbers(rows)
    expected = [
        "; ".join(name for name, p, t in zip(CLASSES, row, (0.3, 0, 0.3), strict=True) if p >= t) for row in own
    ]
    assert [row["set"] for row in rows] == expected and "decision" not in rows[0]
    assert [int(row["set_size"]) for row in rows] == (own >= [0.3, 0, 0.3]).sum(1).tolist()
    again, _ = predicted(monkeypatch, capsys, tmp_path, model_file, images, "--prior", "uniform")
    assert [row["set"] for row in again] == expected


@pytest.mark.parametrize("prior", ["uniform", "training", "file", "em"])
def test_priors(model_file, images, tmp_path, monkeypatch, capsys, prior) -> None:
    own = numbers(predicted(monkeypatch, capsys, tmp_path, model_file, images)[0])
    wanted = {"uniform": np.ones(3), "training": np.array([50, 20, 5]), "file": np.array([1, 0, 3.5])}
    (tmp_path / "prior.csv").write_text('class,frequency\n1=1,3.5\nFuß,1\n"a, b",0\n', encoding="utf-8")
    given = tmp_path / "prior.csv" if prior == "file" else prior
    rows, said = predicted(monkeypatch, capsys, tmp_path, model_file, images, "--prior", given)
    if prior == "em":
        frequencies = tailnas.load_model(model_file).estimated_prior(own)
        assert f"a, b {frequencies[1]:.3f}" in said.err
    else:
        frequencies = wanted[prior]
    expected = own * frequencies / [0.5, 0.3, 0.2]
    np.testing.assert_allclose(numbers(rows), expected / expected.sum(1, keepdims=True), atol=1e-4)


def test_costs_and_abstaining(model_file, images, tmp_path, monkeypatch, capsys) -> None:
    costs = tmp_path / "costs.csv"
    costs.write_text('class,keep,"ask, then"\n"a, b",0,1\n1=1,5,1\nFuß,2,1\n', encoding="utf-8")
    rows, said = predicted(monkeypatch, capsys, tmp_path, model_file, images, "--cost", costs)
    own = numbers(rows)
    expected = np.where(own @ [2, 0, 5] <= own.sum(1), "keep", "ask, then")
    assert [row["decision"] for row in rows] == expected.tolist()
    assert [text.split("  ")[1] for text in said.out.splitlines()] == [f"{name}:" for name in expected]
    least = float(np.sort(own.max(1))[2])
    rows, _ = predicted(monkeypatch, capsys, tmp_path, model_file, images, "--abstain", least - 1e-6)
    decided = [row["decision"] for row in rows]
    assert decided.count("?") == 2
    assert [row["prediction"] for row in rows if row["decision"] != "?"] == [name for name in decided if name != "?"]


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--prior", "class,frequency\nFuß,1\n1=1,2\n", '"a, b": 0 lines; allowed: 1 for each class'),
        ("--prior", "class,frequency\nFuß,1\n1=1,2\ngull,3\n", '"gull"; allowed: the classes of the model'),
        ("--prior", 'class,f\nFuß,1\n1=1,-2\n"a, b",3\n', '"1=1": "-2"; allowed: a finite number from 0'),
        ("--prior", 'class,f\nFuß,0\n1=1,0\n"a, b",0\n', "no class has a frequency above 0"),
        ("--prior", 'class,f\nFuß,1\n1=1\n"a, b",3\n', '"1=1": 1 values; allowed: 2, as in the first line'),
        ("--prior", "", "empty; allowed: a header and a line for each class"),
        ("--cost", 'class,keep\nFuß,1\n1=1,2\n"a, b",3\n', 'columns "class, keep"; allowed: class and two or more'),
        ("--cost", None, "No such file or directory; allowed: a CSV file"),
    ],
)
def test_mistakes_in_tables_are_one_line(model_file, images, tmp_path, monkeypatch, capsys, option, text, said) -> None:
    table = tmp_path / "table.csv"
    if text is not None:
        table.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        predicted(monkeypatch, capsys, tmp_path, model_file, images, option, table)
    assert str(raised.value).startswith(f"{table}: {said}") and "\n" not in str(raised.value)
    assert not (tmp_path / "out.csv").exists()


def test_the_mode_of_the_network_does_not_matter(model_file, images) -> None:
    model = tailnas.load_model(model_file)
    expected = model.predict_files([images / "a.png"])
    model.network.train()
    np.testing.assert_array_equal(model.predict_files([images / "a.png"]), expected)
    assert torch.is_grad_enabled()


def test_a_table_replaces_nothing_that_is_read(model_file, images, monkeypatch) -> None:
    for own in (model_file, images / "a.png"):
        before = own.read_bytes()
        monkeypatch.setattr(sys, "argv", ["predict", str(model_file), str(images), "--csv", str(own)])
        with pytest.raises(UserError, match=r"^--csv: .* is one of the files that are read; allowed: another file$"):
            run()
        assert own.read_bytes() == before


def test_names_of_any_bytes_are_printed_and_are_no_formulas(model_file, images, tmp_path, monkeypatch, capsys) -> None:
    for name in (b"=1+1.png", b"\x1b[31m.png", b"\xff.png", "é.png".encode()):
        (tmp_path / os.fsdecode(name)).write_bytes((images / "a.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["predict", str(model_file), "=1+1.png", ".", "--csv", "table.csv"])
    run()
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 5 and all(map(str.isprintable, said.splitlines()))
    rows = (tmp_path / "table.csv").read_bytes().splitlines()
    assert len(rows) == 6 and rows[1].startswith(b"./=1+1.png,")
