import numpy as np
import pytest

from tailnas.fetch.spool import BUFFERED, Spool


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_many_images_go_through_a_file_without_a_name(tmp_path, monkeypatch, rows) -> None:
    """Rows of a third of what is written at once; in memory and in the file they are the same."""
    monkeypatch.chdir(tmp_path)
    side = int((BUFFERED / 3) ** 0.5)
    images = np.random.default_rng(0).integers(0, 256, (rows, 1, side, side), np.uint8)
    filled = []
    for limit in (images.nbytes, images.nbytes - 1):
        spool = Spool(images.shape, limit)
        for image in images:
            spool.append(image)
        filled.append(spool.array())
        assert list(tmp_path.iterdir()) == []
    assert not isinstance(filled[0], np.memmap) and isinstance(filled[1], np.memmap)
    assert (filled[0] == images).all() and (filled[1] == images).all()


def test_grey_fills_all_channels() -> None:
    spool = Spool((1, 3, 2, 2))
    spool.append(np.full((1, 2, 2), 7, np.uint8))
    assert (spool.array() == 7).all()
