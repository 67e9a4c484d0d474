"""Cutout, mixup, CutMix and RandAugment: each image by its own draws, by hand; and where a run goes on."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest
from torchvision.transforms import RandAugment as TorchvisionRandAugment

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.imbalance.samplers import make_sampler
from tailnas.retrain.augmented import AugmentedBatches
from tailnas.retrain.cutout import Cutout
from tailnas.retrain.image_mixing import IMAGE_MIXINGS, CutMix, Mixup
from tailnas.retrain.rand_augment import RandAugment

SIZE = (16, 20)
KINDS = ("rand_augment", "cutout", "image_mixing")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("side", [1, 4, 5, 16])
def test_cutout_by_hand(side):
    cutout = Cutout(side)
    draws = cutout.draw(3, 7, SIZE, generator())
    assert draws.shape == (3, 2, 7)
    images = torch.randn(7, 3, *SIZE, generator=generator(1)) + 10
    for step in draws:
        expected = images.clone()
        for image, row, column in zip(expected, *step.tolist(), strict=True):
            top, left = row - side // 2, column - side // 2
            image[:, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0
        assert torch.equal(cutout(images, step), expected)


def test_cutout_centres_are_uniform():
    draws = Cutout(4).draw(200, 50, SIZE, generator(3))
    for coordinate, length in enumerate(SIZE):
        assert chisquare(torch.bincount(draws[:, coordinate].flatten(), minlength=length).numpy()).pvalue > 1e-4
    assert len(draws[0].T.unique(dim=0)) > 40, "one place for a whole batch"


def test_mixup_by_hand():
    mixup = Mixup(1.0)
    draws = mixup.draw(2, 6, SIZE, generator())
    images = torch.randn(6, 1, *SIZE, generator=generator(1))
    for step in draws:
        partners, shares = step[0].long().tolist(), step[1].tolist()
        assert sorted(partners) == list(range(6)) and len(set(shares)) == 6
        expected = [s * images[i] + (1 - s) * images[j] for i, (j, s) in enumerate(zip(partners, shares, strict=True))]
        torch.testing.assert_close(mixup(images, step), torch.stack(expected))


def test_cutmix_by_hand():
    cutmix = CutMix(1.0)
    draws = cutmix.draw(4, 9, SIZE, generator())
    images = torch.arange(9.0)[:, None, None, None].expand(9, 2, *SIZE)
    for step in draws:
        mixed = cutmix(images, step)
        boxes = set()
        for i, (partner, share, *box) in enumerate(step.T.tolist()):
            top, bottom, left, right = map(int, box)
            boxes.add((top, bottom, left, right))
            expected = images[i].clone()
            expected[:, top:bottom, left:right] = partner
            assert torch.equal(mixed[i], expected)
            own = float((mixed[i] == i).double().mean())
            assert partner == i or own == pytest.approx(share, abs=1e-6), "the share is what is left of the image"
        assert len(boxes) > 4, "one box for a whole batch"


def test_cutmix_box_before_the_border_has_the_drawn_area():
    cutmix = CutMix(1.0)
    draws = cutmix.draw(50, 20, (64, 64), generator())
    _, share, top, bottom, left, right = draws.transpose(0, 1).reshape(6, -1)
    inside = (top > 0) & (left > 0) & (bottom < 64) & (right < 64)
    assert int(inside.sum()) > 100
    assert torch.equal(bottom[inside] - top[inside], right[inside] - left[inside]), "a square image's box is square"
    np.testing.assert_allclose(share, 1 - (bottom - top) * (right - left) / 64**2, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_mixup_shares_follow_the_beta_distribution(alpha):
    shares = Mixup(alpha).draw(20, 50, SIZE, generator(5))[:, 1].flatten()
    assert kstest(shares.numpy(), "beta", args=(alpha, alpha)).pvalue > 1e-4


def test_rand_augment_draws_every_operation_alike_and_for_each_image():
    draws = RandAugment(2, 9).draw(100, 64, SIZE, generator(7))
    assert draws.shape == (100, 2, 64)
    assert chisquare(torch.bincount(draws.flatten(), minlength=28).numpy()).pvalue > 1e-4
    assert min(len(row.unique()) for row in draws[:, 0]) > 10


def torchvisions(pixels, magnitude, seed):
    """One image (C, H, W) changed by torchvision's own draws, and these draws as ours."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        changed = TorchvisionRandAugment(2, magnitude)(pixels)
        torch.manual_seed(seed)
        codes = []
        for _ in range(2):
            operation = int(torch.randint(14, (1,)))
            has_direction = 1 <= operation <= 9  # shears to sharpness
            codes.append(2 * operation + (int(torch.randint(2, (1,))) if has_direction else seed % 2))
    return changed, codes


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_rand_augment_is_torchvisions_image_by_image(channels, magnitude):
    ours = RandAugment(2, magnitude)
    pixels = torch.randint(256, (100, channels, 16, 16), generator=generator(), dtype=torch.uint8)
    expected, codes = zip(*(torchvisions(image, magnitude, seed) for seed, image in enumerate(pixels)), strict=True)
    draws = torch.tensor(codes).T
    assert set(draws.flatten().tolist()) == set(range(28)), "every operation in either direction"
    assert torch.equal(ours(pixels, draws), torch.stack(expected))
    assert torch.equal(ours(pixels[5:6], draws[:, 5:6]), expected[5][None]), "neighbours in the batch play no part"


def batches(rand_augment=True, cutout=True, mixing="cutmix", seed=0):
    pixels = torch.randint(256, (40, 3, 16, 16), generator=generator(9), dtype=torch.uint8)
    data = DeviceImages(pixels, torch.arange(40) % 4)
    normalisation = Normalisation.of(pixels)
    plain = Batches(
        data,
        make_sampler("instance", data.labels, 4, generator(seed)),
        8,
        normalisation,
        Augmentation(2, True),
        generator(seed + 1),
    )
    return AugmentedBatches(
        plain,
        {kind: generator(seed + 2 + i) for i, kind in enumerate(KINDS)},
        RandAugment(2, 9) if rand_augment else None,
        Cutout(6) if cutout else None,
        IMAGE_MIXINGS[mixing](1.0) if mixing else None,
    )


def flat(epoch):
    """Images and targets of all steps as one list of tensors."""
    pairs = [
        (
            images,
            *((targets,) if isinstance(targets, torch.Tensor) else (targets.labels, targets.partners, targets.share)),
        )
        for images, targets in epoch
    ]
    return [tensor for pair in pairs for tensor in pair]


def same(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_without_anything_further_they_are_the_plain_batches():
    augmented = batches(False, False, None)
    assert same(flat(augmented.epoch()), flat(batches(False, False, None).batches.epoch()))


@pytest.mark.parametrize("mixing", IMAGE_MIXINGS)
def test_mixed_batches_are_mixtures_of_the_unmixed(mixing):
    plain, mixed = batches(mixing=None), batches(mixing=mixing)
    kind = IMAGE_MIXINGS[mixing](1.0)
    draws = kind.draw(5, 8, (16, 16), generator(4))
    for (images, labels), (mixtures, targets), drawn in zip(plain.epoch(), mixed.epoch(), draws, strict=True):
        assert torch.equal(mixtures, kind(images, drawn))
        assert torch.equal(targets.labels, labels) and torch.equal(targets.partners, labels[drawn[0].long()])
        assert torch.equal(targets.share, drawn[1])


def test_one_more_augmentation_shifts_no_other_draw():
    with_cutout, without = flat(batches(cutout=True).epoch()), flat(batches(cutout=False).epoch())
    assert same(with_cutout[1::4], without[1::4]) and same(with_cutout[3::4], without[3::4])


@pytest.mark.parametrize("mixing", ["mixup", "cutmix", None])
def test_restored_batches_go_on_with_the_very_same_images(mixing, tmp_path):
    whole, interrupted = batches(mixing=mixing), batches(mixing=mixing)
    for source in (whole, interrupted):
        flat(source.epoch())
    torch.save(interrupted.state_dict(), tmp_path / "state.pt")
    resumed = batches(mixing=mixing, seed=100)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    first = flat(whole.epoch())
    assert same(first, flat(resumed.epoch()))
    assert not same(first, flat(whole.epoch()))


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    flat(batches().epoch())
    assert torch.equal(before, torch.get_rng_state())
