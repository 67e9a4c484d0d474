"""The two kinds of super-network that the source is trained into."""

import copy

import pytest
import torch
import torch.nn.functional as F

from tailnas.batches.batches import sequential_batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.errors import UserError
from tailnas.pretrain.pretraining import pretrain, train_paths
from tailnas.pretrain.settings import SinglePath
from tailnas.space.settings import Space
from tailnas.training.loop import InnerLoop, Loop
from tailnas.training.settings import Cosine, NetworkTraining
from tailnas.training.single_path import single_path_loss

SETTINGS = NetworkTraining(
    epochs=3,
    batch_size=12,
    learning_rate=0.04,
    schedule=Cosine(name="cosine", minimum=0.0),
    warmup=None,
    momentum=0.9,
    nesterov=False,
    weight_decay=3e-4,
    gradient_clip=5.0,
    crop_padding=2,
    flip=False,
    precision="float32",
)


def images(count: int, seed: int) -> DeviceImages:
    """Noise in which class c of three is brighter by c."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 120, (count, 1, 16, 16), generator=generator) + 50 * labels.view(-1, 1, 1, 1)
    return DeviceImages(pixels.to(torch.uint8), labels)


def loop(folder):
    return Loop("pretrain test", folder / "a.pt", folder / "events", "none")


def free():
    """A loop that nobody interrupts: it keeps and shows nothing."""
    return InnerLoop("pretrain test", lambda: None)


DATA = images(36, 0), images(12, 1)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mixture(where, epochs=2):
    return pretrain(SETTINGS.model_copy(update={"epochs": epochs}), Space(channels=2, cells=3), *DATA, 3, 0, where)


def paths(network, where, epochs=2, learning_rate=0.03):
    single_path = SinglePath(epochs=epochs, learning_rate=learning_rate)
    return train_paths(SETTINGS, single_path, network, *DATA, 0, where)


def same(first, second):
    return all(torch.equal(values, second[name]) for name, values in first.items())


def test_no_epochs_keep_the_same_initial_weights():
    network, history = mixture(free(), 0)
    assert history == [] and same(network.state_dict(), mixture(free(), 0)[0].state_dict())


def test_paths_start_from_the_weights_of_the_mixture_and_leave_those_alone():
    start = mixture(free())[0]
    untouched = {name: values.clone() for name, values in start.state_dict().items()}
    standing, _ = paths(start, free(), epochs=1, learning_rate=1e-30)
    assert same(dict(standing.named_parameters()), untouched)
    network, history = paths(start, free(), epochs=1)
    assert len(history) == 1 and not same(dict(network.named_parameters()), untouched)
    assert same(start.state_dict(), untouched)


def test_mixture_and_paths_have_learning_rates_of_their_own():
    start, history = mixture(free())
    assert [row["learning_rate"] for row in history] == pytest.approx([0.04, 0.02])
    assert [row["learning_rate"] for row in paths(start, free())[1]] == pytest.approx([0.03, 0.015])


def path_losses(network):
    """Cross-entropy of 24 fixed random paths on the training images."""
    train, generator = DATA[0], torch.Generator().manual_seed(1)
    loss = single_path_loss(copy.deepcopy(network).train(), generator, F.cross_entropy, "float32")
    whole, labels = next(iter(sequential_batches(train, 36, Normalisation.of(train.images))))
    with torch.no_grad():
        return torch.stack([loss(whole, labels)[0] for _ in range(24)])


def test_single_paths_are_learnt():
    start = mixture(free())[0]
    network, history = paths(start, free(), epochs=16)
    assert [row["epoch"] for row in history] == list(range(1, 17))
    assert path_losses(network).mean() < 0.8 * path_losses(start).mean()  # 0.5 to 0.65 of it with most seeds


def test_an_interruption_of_single_paths_leaves_no_trace(tmp_path, dying):
    start = mixture(free(), 0)[0]
    network, history = paths(start, free(), epochs=2)
    for moment in (6, 3):  # in the second epoch, of three steps, and before the end of that
        with pytest.raises(KeyboardInterrupt):
            paths(start, dying(loop(tmp_path / "cut"), moment), epochs=2)
    resumed, rows = paths(start, loop(tmp_path / "cut"), epochs=2)
    assert rows == history and same(resumed.state_dict(), network.state_dict())


@pytest.mark.parametrize("fault", ["learning_rate", "weight_decay"])
def test_a_pretraining_whose_only_step_diverges_names_the_key(fault, tmp_path):
    """Of the mixture, and of the single paths: one step, after which no loss would tell."""
    wrong = SETTINGS.model_copy(update={"epochs": 1, "batch_size": 36, fault: 1e30, "gradient_clip": None})
    with pytest.raises(UserError, match=rf"^pretrain\.training\.{fault}: 1e\+30: .* became .*; allowed: "):
        pretrain(wrong, Space(channels=2, cells=3), *DATA, 3, 0, loop(tmp_path))
    network, _ = mixture(loop(tmp_path), epochs=0)
    part = loop(tmp_path).part("single-path", "pretrain.single_path")
    rate = 1e30 if fault == "learning_rate" else 0.03
    key = {"learning_rate": "single_path", "weight_decay": "training"}[fault]
    with pytest.raises(UserError, match=rf"^pretrain\.{key}\.{fault}: 1e\+30: .* became .*; allowed: "):
        train_paths(wrong, SinglePath(epochs=1, learning_rate=rate), network, *DATA, 0, part)
