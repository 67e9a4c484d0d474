import numpy as np
import torch

from tailnas.search.picture import LEFT, SIDE, TOP, alphas_picture


def test_a_cell_of_the_picture_is_red_where_its_weight_is_large_and_white_where_it_is_uniform():
    alphas = torch.zeros(14, 8)
    alphas[3, 5] = 4.0
    picture = alphas_picture(alphas)
    corner = lambda row, column: picture[TOP + SIDE * row + 1, LEFT + SIDE * column + 1].tolist()  # noqa: E731
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert corner(0, 0) == [255, 255, 255]
    red, blue = corner(3, 5), corner(3, 4)
    assert red[0] == 255 > red[1] == red[2] and blue[2] == 255 > blue[0] == blue[1]
    assert (picture[:TOP] != 255).any() and (picture[TOP:, :LEFT] != 255).any()  # primitives and edges are named
