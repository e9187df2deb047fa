"""Geometry and drawing of the heat map."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clients import heatmap


def encode(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def grey(width: int, height: int, level: int = 200) -> bytes:
    return encode(Image.new("RGB", (width, height), (level,) * 3))


@given(
    rows=st.integers(1, 24),
    cols=st.integers(1, 24),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
)
def test_cells_tile_the_picture(rows: int, cols: int, width: int, height: int) -> None:
    covered = np.zeros((height, width), int)
    for index in range(rows * cols):
        left, top, right, bottom = heatmap.cell_box(index, rows, cols, width, height)
        covered[top:bottom, left:right] += 1
    assert (covered == 1).all()


@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    scale=st.tuples(st.floats(1, 60), st.floats(1, 60)),
    data=st.data(),
)
def test_a_cell_lies_where_the_server_s_resize_put_it(
    rows: int, cols: int, scale: tuple[float, float], data: st.DataObject
) -> None:
    width, height = int(cols * scale[0]), int(rows * scale[1])
    index = data.draw(st.integers(0, rows * cols - 1))
    left, top, right, bottom = heatmap.cell_box(index, rows, cols, width, height)
    row, col = index // cols, index % cols
    # Same fraction of the picture, to within the pixel that an edge is rounded down to.
    for edge, exact in (
        (left, col * width / cols),
        (right, (col + 1) * width / cols),
        (top, row * height / rows),
        (bottom, (row + 1) * height / rows),
    ):
        assert exact - 1 < edge <= exact
    assert right > left
    assert bottom > top


@given(rows=st.integers(1, 9), cols=st.integers(1, 9), beyond=st.integers(0, 9))
def test_a_cell_outside_the_grid_is_refused(rows: int, cols: int, beyond: int) -> None:
    for index in (rows * cols + beyond, -1 - beyond):
        with pytest.raises(ValueError, match=f"{rows} x {cols}"):
            heatmap.cell_box(index, rows, cols, 100, 100)


def test_kept_cells_stay_bright_and_are_outlined() -> None:
    drawn = np.asarray(heatmap.draw(grey(80, 40), [1], np.zeros((2, 4))))
    assert drawn.shape == (40, 80, 3)
    kept, other = drawn[2:18, 22:38].astype(int), drawn[22:38, 22:38].astype(int)
    assert (kept > other).all()
    for row, col in ((0, 20), (0, 39), (19, 20), (19, 39), (10, 20), (0, 30)):
        assert drawn[row, col].tolist() == [255, 255, 255]
    # The outline stays inside its cell.
    assert (drawn[20:, :] < 255).all()
    assert (drawn[:, :20] < 255).all()
    assert (drawn[:, 40:] < 255).all()


def test_the_tint_follows_the_relevance() -> None:
    relevance = np.array([[-3.0, 0.0], [1.0, 5.0]])
    drawn = np.asarray(heatmap.draw(grey(64, 64, 128), range(4), relevance)).astype(int)
    least, most = drawn[16, 16], drawn[48, 48]
    assert most[0] > least[0]  # amber has more red
    assert most[1] > least[1]  # and more green
    assert (drawn[4:28, 4:28] == least).all()  # one colour a cell


@given(offset=st.floats(-1e3, 1e3), factor=st.floats(1e-3, 1e3))
def test_scale_and_offset_of_the_map_do_not_matter(offset: float, factor: float) -> None:
    relevance = np.arange(6.0).reshape(2, 3)
    plain = heatmap.draw(grey(24, 16), [0], relevance)
    moved = heatmap.draw(grey(24, 16), [0], relevance * factor + offset)
    difference = np.abs(np.asarray(plain).astype(int) - np.asarray(moved).astype(int))
    assert difference.max() <= 2  # rounding of a grey level


def test_a_tiny_picture_is_enlarged_so_that_cells_show() -> None:
    drawn = heatmap.draw(grey(4, 2), [0], np.zeros((2, 2)))
    assert drawn.size == (32, 16)
    assert drawn.width / drawn.height == 2


def test_a_thin_strip_is_drawn_without_eating_the_memory() -> None:
    drawn = heatmap.draw(grey(3000, 1), [0, 1023], np.zeros((32, 32)))
    assert drawn.width <= 4096
    assert drawn.height >= 32


def test_the_camera_s_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    image = encode(Image.new("RGB", (80, 40)), exif=exif)
    assert heatmap.draw(image, [], np.zeros((2, 2))).size == (40, 80)


@pytest.mark.parametrize(
    "relevance", [np.zeros((0, 0)), np.zeros(4), np.zeros((1, 2, 2)), np.array([[0.0, np.nan]])]
)
def test_a_map_without_meaning_is_refused(relevance: np.ndarray) -> None:
    with pytest.raises(ValueError, match="relevance map"):
        heatmap.draw(grey(8, 8), [], relevance)


def test_a_kept_cell_outside_the_map_is_refused() -> None:
    with pytest.raises(ValueError, match="Token cell 4"):
        heatmap.draw(grey(8, 8), [4], np.zeros((2, 2)))


def test_each_picture_has_its_own_cells_and_one_scale_for_all() -> None:
    images = [grey(40, 40), grey(80, 40)]
    relevance = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 4.0], [4.0, 4.0]])
    first, second = heatmap.draw_each(images, [5, 2], relevance)
    assert (first.size, second.size) == ((40, 40), (80, 40))

    def middle(picture: Image.Image, cell: int) -> np.ndarray:
        left, top, right, bottom = heatmap.cell_box(cell, 2, 2, *picture.size)
        return np.asarray(picture)[(top + bottom) // 2, (left + right) // 2].astype(int)

    for picture, kept in ((first, 2), (second, 1)):
        levels = [middle(picture, cell).sum() for cell in range(4)]
        assert levels.index(max(levels)) == kept
    # The second picture's cells are the most relevant of both: all amber, more red than blue.
    assert middle(second, 1)[0] > middle(second, 1)[2]
    assert middle(second, 0).tolist() == middle(second, 3).tolist()


@pytest.mark.parametrize(("pictures", "kept"), [(3, [0]), (2, [8]), (2, [-1]), (0, [0])])
def test_a_map_of_other_pictures_is_refused(pictures: int, kept: list[int]) -> None:
    with pytest.raises(ValueError, match="picture"):
        heatmap.draw_each([grey(40, 40)] * pictures, kept, np.zeros((4, 2)))
