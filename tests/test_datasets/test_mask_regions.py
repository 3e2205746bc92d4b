"""Regions of class masks, against drawings that can be checked by eye."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from mmdet_salience.datasets.conversion.mask_regions import (
    find_regions,
    group_parts,
    outline_polygons,
)


def _draw(*rows: str) -> np.ndarray:
    """Mask of a drawing: digits are classes, dots are background."""
    return np.array([[0 if cell == '.' else int(cell) for cell in row] for row in rows])


def _fill(polygons: list[list[int]], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels, bool (H, W), that pycocotools sees in polygons."""
    height, width = map(int, shape)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))) > 0


def test_two_blobs_and_a_class_beside() -> None:
    mask = _draw(
        '11..2',
        '11..2',
        '....2',
        '.111.',
    )
    regions, num_small = find_regions(mask)
    assert num_small == 0
    assert [(r.label, r.box, r.area) for r in regions] == [
        (1, (0, 0, 2, 2), 4),
        (1, (1, 3, 3, 1), 3),
        (2, (4, 0, 1, 3), 3),
    ]
    assert regions[0].polygons == [[0, 0, 0, 2, 2, 2, 2, 0]]
    assert regions[2].polygons == [[4, 0, 4, 3, 5, 3, 5, 0]]


def test_drawing_of_the_docstring() -> None:
    assert outline_polygons(_draw('.11', '.1.') > 0) == [[1, 0, 1, 2, 2, 2, 2, 1, 3, 1, 3, 0]]


def test_diagonal_touch_is_one_object() -> None:
    mask = _draw('1..', '.1.', '..1')
    (region,), _ = find_regions(mask)
    assert (region.box, region.area) == ((0, 0, 3, 3), 3)
    assert np.array_equal(_fill(region.polygons, mask.shape), mask > 0)


def test_classes_that_touch_stay_apart() -> None:
    regions, _ = find_regions(_draw('1122', '1122'))
    assert [(r.label, r.box) for r in regions] == [(1, (0, 0, 2, 2)), (2, (2, 0, 2, 2))]


@pytest.mark.parametrize('distance, boxes', [(2, 2), (3, 1), (4, 1)])
def test_merge_distance(distance: int, boxes: int) -> None:
    """Three pixels lie between the parts of the only line."""
    regions, _ = find_regions(_draw('.......', '.11...1'), merge_distance=distance)
    assert len(regions) == boxes
    if boxes == 1:
        assert (regions[0].box, regions[0].area) == ((1, 1, 6, 1), 3)
        polygons = sorted(regions[0].polygons)
        assert polygons == [[1, 1, 1, 2, 3, 2, 3, 1], [6, 1, 6, 2, 7, 2, 7, 1]]


def test_merge_keeps_classes_apart() -> None:
    regions, _ = find_regions(_draw('1.2.1'), merge_distance=3)
    assert [(r.label, r.box, r.area) for r in regions] == [
        (1, (0, 0, 5, 1), 2),
        (2, (2, 0, 1, 1), 1),
    ]


@pytest.mark.parametrize('distance', [1, 2, 3])
def test_groups_are_those_of_all_pairs_of_pixels(distance: int) -> None:
    """Parts belong together if a chain of pixels with small gaps leads from one to the other."""
    rng = np.random.default_rng(distance)
    for _ in range(20):
        mask = rng.random(rng.integers(3, 16, 2)) < 0.08
        points = np.argwhere(mask)
        if not len(points):
            continue
        near = np.abs(points[:, None] - points[None]).max(axis=2) <= distance + 1
        reach = np.linalg.matrix_power(near.astype(float), len(points)) > 0
        groups = group_parts(mask, distance)[mask]
        assert np.array_equal(groups[:, None] == groups[None], reach)


def test_ring_with_a_hole() -> None:
    """The polygon fills the hole, which COCO cannot express; the area does not count it."""
    mask = _draw('1111', '1..1', '1..1', '1111')
    (region,), _ = find_regions(mask)
    assert (region.box, region.area) == ((0, 0, 4, 4), 12)
    assert region.polygons == [[0, 0, 0, 4, 4, 4, 4, 0]]
    assert _fill(region.polygons, mask.shape).sum() == 16


def test_island_in_a_ring_has_its_own_polygon_when_merged() -> None:
    mask = _draw('11111', '1...1', '1.1.1', '1...1', '11111')
    regions, _ = find_regions(mask, merge_distance=1)
    assert [(r.area, len(r.polygons)) for r in regions] == [(17, 2)]
    assert [2, 2, 2, 3, 3, 3, 3, 2] in regions[0].polygons


@pytest.mark.parametrize(
    'rows, box, polygon',
    [
        (['...', '.1.'], (1, 1, 1, 1), [1, 1, 1, 2, 2, 2, 2, 1]),
        (['1111'], (0, 0, 4, 1), [0, 0, 0, 1, 4, 1, 4, 0]),
        (['.1', '.1', '.1'], (1, 0, 1, 3), [1, 0, 1, 3, 2, 3, 2, 0]),
    ],
)
def test_pixels_and_lines_have_valid_polygons(
    rows: list[str], box: tuple[int, ...], polygon: list[int]
) -> None:
    mask = _draw(*rows)
    (region,), _ = find_regions(mask)
    assert (region.box, region.polygons) == (box, [polygon])
    assert np.array_equal(_fill(region.polygons, mask.shape), mask > 0)


def test_full_mask_reaches_all_borders() -> None:
    (region,), _ = find_regions(np.full((3, 5), 9, np.uint8))
    assert (region.label, region.box, region.area) == (9, (0, 0, 5, 3), 15)
    assert _fill(region.polygons, (3, 5)).all()


@pytest.mark.parametrize('min_area, areas, small', [(1, [4, 1], 0), (2, [4], 1), (5, [], 2)])
def test_min_area(min_area: int, areas: list[int], small: int) -> None:
    regions, num_small = find_regions(_draw('11..', '11.1'), min_area=min_area)
    assert ([r.area for r in regions], num_small) == (areas, small)


def test_min_area_counts_what_was_merged() -> None:
    regions, num_small = find_regions(_draw('1.1.1'), min_area=3, merge_distance=1)
    assert ([r.area for r in regions], num_small) == ([3], 0)


def test_empty_mask() -> None:
    assert find_regions(np.zeros((4, 4), np.uint8)) == ([], 0)


def test_polygons_hold_the_pixels_of_random_masks() -> None:
    """Without holes, pycocotools fills the polygons with exactly the pixels of the mask."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = ndimage.binary_fill_holes(rng.random(rng.integers(1, 14, 2)) < rng.random())
        regions, _ = find_regions(mask.astype(np.int32) * 3, merge_distance=int(rng.integers(3)))
        filled = np.zeros_like(mask)
        for region in regions:
            pixels = _fill(region.polygons, mask.shape)
            assert pixels.sum() == region.area
            assert not (pixels & filled).any()
            rows, columns = np.nonzero(pixels)
            x, y, width, height = region.box
            assert (x, x + width, y, y + height) == (
                columns.min(),
                columns.max() + 1,
                rows.min(),
                rows.max() + 1,
            )
            filled |= pixels
        assert np.array_equal(filled, mask)


@pytest.mark.parametrize(
    'mask', [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), np.full((2, 2), -1)]
)
def test_wrong_mask(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match='must be \\(H, W\\) integers from 0'):
        find_regions(mask)


def test_negative_distance() -> None:
    with pytest.raises(ValueError, match='must not be negative, got -1'):
        find_regions(_draw('1'), merge_distance=-1)
