import numpy as np
import pytest
import torch

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches, sequential_batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.data.dataset import Part
from tailnas.data.npy import read_npy, write_npy
from tailnas.imbalance.samplers import make_sampler

NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_GPU)]


def pixels(n: int = 40, channels: int = 3, height: int = 12, width: int = 12) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, channels, height, width), dtype=np.uint8)


def part(n: int = 40, **shape) -> Part:
    return Part(pixels(n, **shape), np.arange(n) % 4, ("a", "b", "c", "d"))


def batches(
    data: DeviceImages, augmentation=None, batch_size: int = 8, seed: int = 0, sampler: str = "instance"
) -> Batches:
    drawing = make_sampler(sampler, data.labels, 4, torch.Generator().manual_seed(seed))
    normalisation = Normalisation((0.5,) * 3, (0.25,) * 3)
    return Batches(data, drawing, batch_size, normalisation, augmentation, torch.Generator().manual_seed(seed + 1))


def normalised(images: np.ndarray, normalisation: Normalisation) -> torch.Tensor:
    data = DeviceImages(torch.from_numpy(images), torch.zeros(len(images), dtype=torch.int64))
    return next(sequential_batches(data, len(images), normalisation))[0]


def test_normalisation_matches_numpy() -> None:
    images = pixels(channels=2)
    found = Normalisation.of(torch.from_numpy(images))
    scaled = images / 255
    np.testing.assert_allclose(found.mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.std, scaled.std((0, 2, 3)), rtol=1e-12)
    assert Normalisation.of(torch.from_numpy(images[::-1].copy())) == found
    normal = normalised(images, found)
    assert normal.dtype == torch.float32
    assert normal.mean((0, 2, 3)).abs().max() < 1e-5
    assert (normal.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_normalisation_of_a_constant_channel_is_finite() -> None:
    grey = np.full((3, 1, 4, 4), 7, np.uint8)
    found = Normalisation.of(torch.from_numpy(grey))
    assert found.std == (1 / 255,)
    assert normalised(grey, found).abs().max() < 1e-6


class File:
    """A part whose images lie in a file, as `load_train` gives it."""

    def __init__(self, folder) -> None:
        write_npy(folder / "images.npy", pixels())
        images = read_npy(folder / "images.npy", np.dtype(np.uint8), (None, 3, 12, 12), mapped=True)
        self.part = Part(images, np.arange(40) % 4, ("a", "b", "c", "d"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("augmentation", [None, Augmentation(2, True), Augmentation(0, False)])
@pytest.mark.parametrize("keep_last", [False, True])
def test_images_that_do_not_fit_make_the_same_batches(tmp_path, device, augmentation, keep_last) -> None:
    rows = np.random.default_rng(0).permutation(40)[:30]
    part = File(tmp_path).part
    fitting, stored = (DeviceImages.from_part(part, device, rows, room=room) for room in (30 * 432, 30 * 432 - 1))
    assert fitting.on_device and not stored.on_device
    assert stored.device == fitting.device and len(stored) == 30 and stored.images.shape == fitting.images.shape
    normalisation = Normalisation.of(fitting.images)
    assert Normalisation.of(stored.images) == normalisation
    for one, other in zip(
        *(list(sequential_batches(data, 7, normalisation)) for data in (fitting, stored)), strict=True
    ):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    made = []
    for data in (fitting, stored):
        drawing = make_sampler("instance", data.labels.cpu(), 4, torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        source = Batches(data, drawing, 8, normalisation, augmentation, generator, keep_last=keep_last)
        made.append([batch for _ in range(2) for batch in source.epoch()])
    assert len(made[0]) == 2 * (4 if keep_last else 3)
    for one, other in zip(*made, strict=True):
        assert all(torch.equal(*pair) and pair[0].device == pair[1].device for pair in zip(one, other, strict=True))


def test_writing_to_mapped_images_leaves_the_file(tmp_path) -> None:
    part = File(tmp_path).part
    part.images[:] = 0
    assert (np.load(tmp_path / "images.npy") == pixels()).all()


def test_device_images_of_rows() -> None:
    rows = np.array([3, 1, 30])
    data = DeviceImages.from_part(part(), "cpu", rows)
    assert len(data) == 3
    assert (data.images.numpy() == pixels()[rows]).all()
    assert data.labels.tolist() == [3, 1, 2]


@pytest.mark.parametrize("device", DEVICES)
def test_plain_batches_are_the_images(device) -> None:
    data = DeviceImages.from_part(part(), device)
    made = batches(data)
    assert made.steps_per_epoch == 5
    rows = make_sampler("instance", data.labels, 4, torch.Generator().manual_seed(0)).epoch(5, 8)
    for (images, labels), indices in zip(made.epoch(), rows, strict=True):
        expected = (pixels()[indices] / 255 - 0.5) / 0.25
        np.testing.assert_allclose(images.cpu().numpy(), expected, atol=1e-6)
        assert (labels.cpu() == indices % 4).all()
        assert labels.dtype == torch.int64
        assert images.is_contiguous()


def expected_crop(image: np.ndarray, padding: int, top: int, left: int, flip: bool) -> np.ndarray:
    wide = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    cut = wide[:, top : top + image.shape[1], left : left + image.shape[2]]
    return cut[:, :, ::-1] if flip else cut


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("padding", "flip"), [(2, True), (4, False), (0, True), (0, False)])
def test_each_image_gets_its_own_crop_and_flip(device, padding, flip) -> None:
    data = DeviceImages.from_part(part(height=8, width=12), device)
    made = batches(data, Augmentation(padding, flip))
    plan = made.plan()
    for step in plan.steps:
        images, _ = made.make(step)
        assert images.is_contiguous()
        for image, (index, top, left, flipped) in zip(images.cpu().numpy(), step.T.tolist(), strict=True):
            expected = expected_crop(pixels(height=8, width=12)[index], padding, top, left, bool(flipped))
            np.testing.assert_allclose(image, (expected / 255 - 0.5) / 0.25, atol=1e-6)
    draws = plan.steps[:, 1:].cpu()
    assert draws.shape == (5, 3, 8)
    assert {tuple(column) for column in draws.transpose(1, 2).reshape(-1, 3).tolist()} <= {
        (y, x, f) for y in range(2 * padding + 1) for x in range(2 * padding + 1) for f in range(1 + flip)
    }
    if padding and flip:
        assert len({tuple(column) for column in draws[0].T.tolist()}) > 4


def test_draws_cover_all_crops_evenly() -> None:
    from scipy.stats import chisquare

    draws = Augmentation(2, True).draw(10_000, torch.Generator().manual_seed(0))
    assert chisquare(torch.bincount(draws[0] * 10 + draws[1] * 2 + draws[2]).numpy()).pvalue > 0.001


@pytest.mark.parametrize("name", ["instance", "class_balanced", "reversed"])
def test_resumed_batches_are_the_same_to_the_bit(name) -> None:
    data = DeviceImages.from_part(part(), "cpu")
    ours = batches(data, Augmentation(2, True), sampler=name)
    list(ours.epoch(3))
    state = {key: value.clone() for key, value in ours.state_dict().items()}
    resumed = batches(data, Augmentation(2, True), sampler=name, seed=50)
    resumed.load_state_dict(state)
    for (images, labels), (again, labels_again) in zip(ours.epoch(7), resumed.epoch(7), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)


def test_an_epoch_is_drawn_before_its_first_batch() -> None:
    data = DeviceImages.from_part(part(), "cpu")
    ours, other = batches(data, Augmentation(2, True)), batches(data, Augmentation(2, True))
    ours.epoch()
    list(other.epoch())
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), other.state_dict().values(), strict=True))


def test_small_data_gives_small_batches() -> None:
    made = batches(DeviceImages.from_part(part(6), "cpu"), batch_size=64)
    assert made.steps_per_epoch == 1
    (batch,) = made.epoch()
    assert sorted(batch[1].tolist()) == sorted(np.arange(6) % 4)
    assert len(list(made.epoch(4))) == 4


def test_epochs_longer_than_a_pass() -> None:
    made = batches(DeviceImages.from_part(part(), "cpu"), Augmentation(1, False))
    assert len(list(made.epoch(12))) == 12


def test_sequential_batches_hold_everything_in_order() -> None:
    data = DeviceImages.from_part(part(21), "cpu")
    normalisation = Normalisation((0.5,) * 3, (0.25,) * 3)
    images, labels = zip(*sequential_batches(data, 8, normalisation), strict=True)
    assert [len(batch) for batch in labels] == [8, 8, 5]
    assert torch.equal(torch.cat(labels), data.labels)
    torch.testing.assert_close(torch.cat(images), (data.images / 255 - 0.5) / 0.25)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(batches(DeviceImages.from_part(part(), "cpu"), Augmentation(2, True)).epoch())
    assert (torch.get_rng_state() == before).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_step_can_be_captured_in_a_graph() -> None:
    data = DeviceImages.from_part(part(), "cuda")
    made = batches(data, Augmentation(2, True))
    plan = made.plan()
    step = plan.steps[0].clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        made.make(step)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        images, labels = made.make(step)
    for planned in plan.steps:
        step.copy_(planned)
        graph.replay()
        expected, expected_labels = made.make(planned)
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_devices_make_the_same_batches() -> None:
    for (images, labels), (ours, our_labels) in zip(
        batches(DeviceImages.from_part(part(), "cpu"), Augmentation(2, True)).epoch(),
        batches(DeviceImages.from_part(part(), "cuda"), Augmentation(2, True)).epoch(),
        strict=True,
    ):
        torch.testing.assert_close(ours.cpu(), images, atol=1e-6, rtol=0)
        assert torch.equal(our_labels.cpu(), labels)


@pytest.mark.parametrize(("count", "last"), [(40, 0), (41, 0), (42, 2), (47, 7)])
def test_the_last_images_of_a_pass_make_a_batch_of_their_own_where_they_are_kept(count, last) -> None:
    data = DeviceImages.from_part(part(count), "cpu")
    drawing = make_sampler("instance", data.labels, 4, torch.Generator().manual_seed(0))
    arguments = Normalisation((0.5,) * 3, (0.25,) * 3), Augmentation(1, True), torch.Generator().manual_seed(1)
    made = Batches(data, drawing, 8, *arguments, keep_last=True)
    for _ in range(2):
        sizes = [len(labels) for _, labels in made.epoch()]
        assert sizes == [8] * 5 + [last] * (last > 0) and made.steps_per_epoch == len(sizes)
    assert len(made.plan(3)) == 3 and made.plan(3).last is None
