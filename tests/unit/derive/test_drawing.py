import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tailnas.derive.drawing import CELL_HEIGHT, CELL_WIDTH, cell_svg, genotype_svg
from tailnas.genotype.genotype import DARTS_V1, DARTS_V2, Genotype
from tailnas.genotype.primitives import PRIMITIVES

SVG = "{http://www.w3.org/2000/svg}"


def boxes(svg):
    """(x, y, width, height) of every operation."""
    rects = ElementTree.fromstring(svg).iter(f"{SVG}rect")
    return [
        tuple(float(rect.get(key)) for key in ("x", "y", "width", "height")) for rect in rects if rect.get("rx") == "5"
    ]


def random_edges(draw):
    edges = []
    for node in range(4):
        for source in sorted(draw.choice(node + 2, size=2, replace=False)):
            edges.append((PRIMITIVES[draw.integers(1, len(PRIMITIVES))], int(source)))
    return tuple(edges)


def test_every_cell_has_its_heading_and_its_eight_operations():
    genotype = Genotype(DARTS_V1.normal, DARTS_V1.reduce, DARTS_V2.normal, DARTS_V2.reduce)
    svg = genotype_svg(genotype)
    text = [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    for heading in ("Normal cell", "Reduction cell", "Instance head", "Class head"):
        assert text.count(heading) == 1
    assert text.count("sep conv 3×3") == 5 + 5
    assert text.count("skip") == 3 + 3 + 2 + 3
    assert text.count("dil conv 3×3") == 1
    assert len(boxes(svg)) == 4 * 8


def test_absent_heads_are_not_drawn():
    svg = genotype_svg(DARTS_V1)
    assert "head" not in svg
    assert f'height="{CELL_HEIGHT}"' in svg


@pytest.mark.parametrize("seed", range(20))
def test_operations_never_overlap_and_stay_inside(seed):
    found = boxes(cell_svg("normal", random_edges(np.random.default_rng(seed))))
    assert len(found) == 8
    for index, (x, y, width, height) in enumerate(found):
        assert x >= 0 and y >= 0 and x + width <= CELL_WIDTH and y + height <= CELL_HEIGHT
        for other_x, other_y, other_width, other_height in found[:index]:
            apart_across = x + width <= other_x or other_x + other_width <= x
            apart_down = y + height <= other_y or other_y + other_height <= y
            assert apart_across or apart_down


def test_an_input_that_nothing_reads_still_has_its_label():
    edges = (("skip_connect", 1), ("sep_conv_3x3", 0)) + (("skip_connect", 1), ("sep_conv_3x3", 2)) * 3
    spans = [element.text for element in ElementTree.fromstring(cell_svg("normal", edges)).iter(f"{SVG}tspan")]
    assert spans == ["k−2", "k−1", "k"]


def test_the_same_genotype_gives_the_same_bytes_without_ids_or_dates():
    assert genotype_svg(DARTS_V2) == genotype_svg(Genotype.from_json(DARTS_V2.to_json()))
    assert genotype_svg(DARTS_V2) != genotype_svg(DARTS_V1)
    assert not re.search(r"\bid=|20\d\d-", genotype_svg(DARTS_V2))
    assert genotype_svg(DARTS_V2).isascii()
