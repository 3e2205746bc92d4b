"""Drawing functions, on arrays small enough to count pixels in."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet_salience.visualization import (
    PanelRow,
    demo_panel,
    draw_detections,
    overlay_heatmap,
    salience_heatmap,
)

CLASSES = ('scratch', 'pit')
PALETTE = [(255, 0, 0), (0, 0, 255)]
NO_BOXES = np.zeros((0, 4))
NOTHING = np.zeros((0,))


def logit(probability: float, *shape: int) -> np.ndarray:
    """Constant map of the logit of a probability."""
    return np.full(shape, np.log(probability / (1 - probability)))


def gray(height: int = 128, width: int = 128) -> np.ndarray:
    """Uniform gray image."""
    return np.full((height, width, 3), 90, np.uint8)


def test_heatmap_is_the_largest_probability() -> None:
    """Two constant levels: the higher one wins everywhere."""
    heat = salience_heatmap([logit(0.2, 8, 12), logit(0.7, 4, 6)], (64, 96))
    assert heat.shape == (64, 96)
    np.testing.assert_allclose(heat, 0.7, atol=1e-6)


def test_heatmap_cells_lie_over_their_pixels() -> None:
    """The centre of cell (1, 2) at stride 8 has the cell's value, two cells away it is gone."""
    level = logit(0.01, 8, 8)
    level[1, 2] = 20.0
    heat = salience_heatmap([level], (64, 64))
    assert heat[11:13, 19:21].mean() > 0.85
    assert heat[12, 36] == pytest.approx(0.01, abs=1e-4)


def test_heatmap_crops_the_padding_and_undoes_the_resize() -> None:
    """Canvas 64 x 64, content 32 x 64 in it, image twice the content: padding is left out."""
    level = logit(0.1, 8, 8)
    level[4:] = 9.0  # rows of padding
    level[:4, 4:] = logit(0.6, 4, 4)  # right half of the content
    heat = salience_heatmap([level], (64, 128), content_shape=(32, 64), canvas_shape=(64, 64))
    assert heat.shape == (64, 128)
    np.testing.assert_allclose(heat[:50, :50], 0.1, atol=1e-5)
    np.testing.assert_allclose(heat[:50, 80:], 0.6, atol=1e-5)


def test_heatmap_stays_in_range_for_extreme_logits() -> None:
    """Logits of either sign saturate without a warning."""
    level = np.array([[-1e4, 1e4], [0.0, 0.0]], np.float32)
    with np.errstate(all='raise'):
        heat = salience_heatmap([level], (16, 16))
    assert (heat.min(), heat.max()) == (0.0, 1.0)


@pytest.mark.parametrize(
    ('levels', 'canvas', 'message'),
    [
        ([], None, 'at least one'),
        ([np.zeros((1, 8, 8))], None, 'at least one'),
        ([np.zeros((8, 8))], (32, 64), 'must fit'),
    ],
)
def test_heatmap_refuses_what_is_no_map(levels: list, canvas: tuple | None, message: str) -> None:
    """No level, a batch dimension and a canvas smaller than the content are errors."""
    with pytest.raises(ValueError, match=message):
        salience_heatmap(levels, (64, 64), canvas_shape=canvas)


def test_overlay_blends_between_image_and_colormap() -> None:
    """Alpha 0 is the image, alpha 1 the colormap, which ends dark at 0 and bright at 1."""
    heat = np.zeros((128, 128))
    heat[:, 64:] = 1.0
    np.testing.assert_array_equal(overlay_heatmap(gray(), heat, alpha=0.0), gray())
    colors = overlay_heatmap(gray(), heat, alpha=1.0, colormap='viridis')
    assert colors[0, 0].tolist() == [68, 1, 84]
    assert colors[0, 127].tolist() == [253, 231, 37]
    assert colors.dtype == np.uint8


def test_overlay_refuses_wrong_sizes() -> None:
    """A map of another size and an alpha out of range are errors."""
    with pytest.raises(ValueError, match='size of the image'):
        overlay_heatmap(gray(), np.zeros((64, 64)))
    with pytest.raises(ValueError, match='alpha'):
        overlay_heatmap(gray(), np.zeros((128, 128)), alpha=1.5)


def test_detections_are_drawn_on_an_enlarged_copy() -> None:
    """A 128-px image becomes 512 px, the box is in its class colour, the input is unchanged."""
    image = gray()
    picture = draw_detections(
        image,
        np.array([[20, 40, 80, 100]]),
        np.array([1]),
        np.array([0.9]),
        CLASSES,
        PALETTE,
        score_thr=0.3,
    )
    assert picture.shape == (512, 512, 3)
    assert picture[280, 80].tolist() == [0, 0, 255]
    assert picture[280, 200].tolist() == [90, 90, 90]
    np.testing.assert_array_equal(image, gray())


def test_detections_below_the_threshold_are_left_out() -> None:
    """Nothing is drawn for a low score, and a large image keeps its size."""
    image = gray(600, 400)
    picture = draw_detections(
        image,
        np.array([[20, 40, 80, 100]]),
        np.array([0]),
        np.array([0.2]),
        CLASSES,
        PALETTE,
        score_thr=0.3,
    )
    np.testing.assert_array_equal(picture, image)


def test_ground_truth_is_dashed_white() -> None:
    """The upper edge alternates between white and dark; inside stays as it was."""
    picture = draw_detections(
        gray(),
        NO_BOXES,
        NOTHING,
        NOTHING,
        CLASSES,
        PALETTE,
        0.3,
        gt_bboxes=np.array([[20, 40, 80, 100]]),
    )
    edge = picture[160, 84:316, 0]
    assert set(np.unique(edge)) == {0, 255}
    assert picture[280, 200].tolist() == [90, 90, 90]


@pytest.mark.parametrize('box', [[-5, -5, 140, 140], [0, 0, 128, 2], [126, 126, 128, 128]])
def test_labels_stay_inside_the_picture(box: list[float]) -> None:
    """Boxes at or beyond the border are drawn with a whole name plate of the class colour."""
    picture = draw_detections(
        gray(), np.array([box]), np.array([0]), np.array([1.0]), CLASSES, PALETTE, 0.3
    )
    plate = (picture == (255, 0, 0)).all(-1)
    runs = cv2.erode(plate.astype(np.uint8), np.ones((3, 1), np.uint8)).sum(axis=1)
    assert runs.max() > 60


def test_a_label_without_a_name_is_an_error() -> None:
    """The error says how many classes there are."""
    with pytest.raises(ValueError, match='only 2 classes'):
        draw_detections(
            gray(), np.array([[0, 0, 9, 9]]), np.array([2]), np.array([1.0]), CLASSES, PALETTE, 0.3
        )


def make_row(with_objects: bool) -> PanelRow:
    """A panel row with one object, or with none at all."""
    number = int(with_objects)
    boxes = np.array([[20.0, 40.0, 80.0, 100.0]])[:number]
    labels = np.zeros(number, int)
    return PanelRow(
        gray(),
        np.full((128, 128), 0.5),
        boxes,
        labels,
        np.full(number, 0.8),
        boxes,
        labels,
        'a.png',
    )


def test_panel_has_a_row_a_picture(tmp_path: Path) -> None:
    """Two rows make a higher PNG than one; pictures without objects are fine."""
    rows = [make_row(True), make_row(False)]
    one = cv2.imread(str(demo_panel(rows[:1], tmp_path / 'new' / 'one.png', CLASSES, PALETTE)))
    two = cv2.imread(str(demo_panel(rows, tmp_path / 'two.png', CLASSES, PALETTE)))
    assert one.shape[1] == two.shape[1]
    assert two.shape[0] > 1.8 * one.shape[0]
    with pytest.raises(ValueError, match='at least one row'):
        demo_panel([], tmp_path / 'none.png', CLASSES, PALETTE)
