"""What the detector looks at in one image, as arrays in the image's own coordinates.

Shapes: (H, W) the image as it is on disk, N detections, M annotated objects, L levels, T encoder
layers, K_t tokens of layer t, Q queries; (H_l, W_l) the cells of a level.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mmcv
import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmengine.dataset import BaseDataset, pseudo_collate

from ..analysis.query_stats import locate_tokens
from ..models.detectors.outputs import SalienceInspection
from ..models.task_modules import SalienceAssigner
from ..visualization.salience import map_to_image, sigmoid
from .image_pipeline import ImagePipeline


class Objects(NamedTuple):
    """Detected or annotated objects.

    Attributes:
        bboxes: Boxes (x1, y1, x2, y2) in pixels of the image, (N, 4).
        labels: Class indices, (N,).
        scores: Scores in 0..1, best first, (N,); ones for annotated objects.
    """

    bboxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class QueryPoints(NamedTuple):
    """Tokens that queries start from.

    Attributes:
        tokens: Numbers of the tokens, level after level, row after row, (Q,).
        levels: Level of each, 0 the finest, (Q,).
        points: Centres (x, y) of their cells in pixels of the image, (Q, 2).
    """

    tokens: np.ndarray
    levels: np.ndarray
    points: np.ndarray


class ImageInspection(NamedTuple):
    """Everything that led to the detections of one image.

    Attributes:
        image: The image, RGB, (H, W, 3), uint8.
        path: Its file; empty for an array.
        detections: The detected objects.
        ground_truth: The annotated objects; None where they are unknown.
        salience: For each level the predicted salience, (H, W), float32 in 0..1.
        salience_targets: For each level what salience is supervised with, (H, W), float32 in 0..1;
            None without ground truth.
        layer_tokens: For each encoder layer the tokens that it updates, (K_t,), most salient first.
        candidates: The Q best tokens by class, best first, before redundancy removal.
        queries: The tokens that became queries, in their order.
        level_shapes: (H_l, W_l) of each level over the padded image.
        canvas_shape: (height, width) of the padded image in pixels of the resized image.
        content_shape: (height, width) of the resized image, which fills the canvas's top left.
    """

    image: np.ndarray
    path: str
    detections: Objects
    ground_truth: Objects | None
    salience: tuple[np.ndarray, ...]
    salience_targets: tuple[np.ndarray, ...] | None
    layer_tokens: tuple[np.ndarray, ...]
    candidates: QueryPoints
    queries: QueryPoints
    level_shapes: tuple[tuple[int, int], ...]
    canvas_shape: tuple[int, int]
    content_shape: tuple[int, int]

    def layer_masks(self, layer: int) -> tuple[np.ndarray, ...]:
        """Cells that an encoder layer updates.

        Args:
            layer: Index of the encoder layer, 0 the first.

        Returns:
            For each level a mask over the padded image, (H_l, W_l), bool.
        """
        sizes = [height * width for height, width in self.level_shapes]
        mask = np.zeros(sum(sizes), dtype=bool)
        mask[self.layer_tokens[layer]] = True
        parts = np.split(mask, np.cumsum(sizes)[:-1])
        return tuple(
            part.reshape(shape) for part, shape in zip(parts, self.level_shapes, strict=True)
        )

    def cell_boxes(self, level: int) -> np.ndarray:
        """Places of a level's cells.

        Args:
            level: Index of the level, 0 the finest.

        Returns:
            Boxes (x1, y1, x2, y2) in pixels of the image, row after row, (H_l * W_l, 4); cells of
            the padding lie outside the image.
        """
        rows, columns = self.level_shapes[level]
        scale = np.array(self.image.shape[:2]) / self.content_shape
        height, width = np.array(self.canvas_shape) / (rows, columns) * scale
        y, x = np.divmod(np.arange(rows * columns), columns)
        return np.stack([x * width, y * height, (x + 1) * width, (y + 1) * height], axis=1)


def inspect_image(
    model: BaseDetector, image: str | Path | np.ndarray, ground_truth: Objects | None = None
) -> ImageInspection:
    """Detect objects in an image and return the arrays behind every step.

    Args:
        model: A detector from ``mmdet.apis.init_detector``, with ``inspect`` (SalienceDETR,
            FocusDETR).
        image: Path of the image, or a BGR array (H, W, 3), uint8, as MMDetection takes it.
        ground_truth: Annotated objects in pixels of the image, for the supervision targets.

    Returns:
        The arrays.

    Raises:
        FileNotFoundError: There is no such image.
        ValueError: The model cannot be inspected, or the file is no image or a damaged one.
    """
    check_model(model)
    if isinstance(image, np.ndarray):
        path, pixels = '', image[..., ::-1]
    else:
        path = str(image)
        pixels = read_image(path)
    packed = ImagePipeline(model.cfg)(image)
    return inspect_packed(model, packed, np.ascontiguousarray(pixels), path, ground_truth)


def inspect_dataset_image(model: BaseDetector, dataset: BaseDataset, index: int) -> ImageInspection:
    """Detect objects in an image of a data set, and compare with its annotations.

    Args:
        model: A detector with ``inspect``, in evaluation mode.
        dataset: The data, in test mode.
        index: Number of the image.

    Returns:
        The arrays, with the ground truth; objects to be ignored (crowds) are not in it.

    Raises:
        FileNotFoundError: The image is missing.
        ValueError: The model cannot be inspected, or the file is no image.
    """
    check_model(model)
    info = dataset.get_data_info(index)
    objects = [item for item in info['instances'] if not item['ignore_flag']]
    truth = Objects(
        np.array([item['bbox'] for item in objects], dtype=float).reshape(-1, 4),
        np.array([item['bbox_label'] for item in objects], dtype=int),
        np.ones(len(objects)),
    )
    pixels = read_image(info['img_path'])
    return inspect_packed(model, dataset[index], pixels, info['img_path'], truth)


def inspect_packed(
    model: BaseDetector,
    packed: dict,
    pixels: np.ndarray,
    path: str = '',
    ground_truth: Objects | None = None,
) -> ImageInspection:
    """Inspect an image that has passed the test pipeline.

    Args:
        model: A detector with ``inspect``, in evaluation mode.
        packed: What the pipeline returned.
        pixels: The image, RGB, (H, W, 3), uint8.
        path: Its file.
        ground_truth: Annotated objects in pixels of the image.

    Returns:
        The arrays.
    """
    batch = model.data_preprocessor(pseudo_collate([packed]), training=False)
    found = model.inspect(batch['inputs'], batch['data_samples'])
    canvas = (batch['inputs'].size(2), batch['inputs'].size(3))
    assigner = getattr(model.bbox_head, 'salience_assigner', None) or SalienceAssigner()
    return to_arrays(found, canvas, pixels, path, ground_truth, assigner)


def to_arrays(
    found: SalienceInspection,
    canvas_shape: tuple[int, int],
    pixels: np.ndarray,
    path: str = '',
    ground_truth: Objects | None = None,
    assigner: SalienceAssigner | None = None,
) -> ImageInspection:
    """Bring what the model found in a batch of one image into the image's coordinates.

    Args:
        found: What ``SalienceDETR.inspect`` returned.
        canvas_shape: (height, width) of the padded image in pixels.
        pixels: The image before resizing, RGB, (H, W, 3), uint8.
        path: Its file.
        ground_truth: Annotated objects in pixels of the image.
        assigner: Makes the supervision targets; a :class:`SalienceAssigner` by default.

    Returns:
        The arrays.
    """
    sample = found.detections[0]
    instances = sample.pred_instances.cpu()
    levels, num_tokens = found.geometry.level_shapes, found.geometry.num_tokens
    selection = found.two_stage.selection
    view = ImageView(pixels.shape[:2], sample.img_shape[:2], canvas_shape, levels)
    targets = None
    if ground_truth is not None:
        boxes = ground_truth.bboxes / np.tile(view.scale, 2)
        maps = supervision(assigner or SalienceAssigner(), boxes, levels, canvas_shape)
        targets = tuple(view.resize(values) for values in maps)
    logits = (level[0].cpu().float().numpy() for level in found.salience)
    return ImageInspection(
        image=pixels,
        path=path,
        detections=Objects(*(instances[key].numpy() for key in ('bboxes', 'labels', 'scores'))),
        ground_truth=ground_truth,
        salience=tuple(view.resize(sigmoid(level)) for level in logits),
        salience_targets=targets,
        layer_tokens=tuple(
            found.token_selection.layer_indices(layer, num_tokens)[0].cpu().numpy()
            for layer in range(len(found.token_selection.layer_counts))
        ),
        candidates=view.locate(selection.candidates[0, : selection.indices.size(1)]),
        queries=view.locate(selection.indices[0]),
        level_shapes=levels,
        canvas_shape=canvas_shape,
        content_shape=view.content_shape,
    )


class ImageView:
    """From the cells of the padded image to pixels of the image.

    Args:
        image_shape: (height, width) of the image.
        content_shape: (height, width) of the resized image.
        canvas_shape: (height, width) of the padded image.
        level_shapes: (H_l, W_l) of each level.

    Attributes:
        content_shape: As above.
        scale: (x, y), pixels of the image a pixel of the resized image.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        content_shape: Sequence[int],
        canvas_shape: tuple[int, int],
        level_shapes: tuple[tuple[int, int], ...],
    ) -> None:
        self.image_shape = (int(image_shape[0]), int(image_shape[1]))
        self.content_shape = (int(content_shape[0]), int(content_shape[1]))
        self.canvas_shape = canvas_shape
        self.level_shapes = level_shapes
        self.scale = np.array(self.image_shape[::-1]) / self.content_shape[::-1]

    def resize(self, values: np.ndarray) -> np.ndarray:
        """Resize a map over the canvas to the image, (H, W)."""
        return map_to_image(values, self.image_shape, self.content_shape, self.canvas_shape)

    def locate(self, tokens: torch.Tensor) -> QueryPoints:
        """Find the centres of tokens, (Q,), in the image."""
        numbers = tokens.cpu().numpy()
        places = locate_tokens(numbers, self.level_shapes, self.canvas_shape)
        return QueryPoints(numbers, places.cells[:, 0], places.points * self.scale)


def supervision(
    assigner: SalienceAssigner,
    bboxes: np.ndarray,
    level_shapes: Sequence[tuple[int, int]],
    canvas_shape: tuple[int, int],
) -> list[np.ndarray]:
    """Compute the targets that training would supervise the salience of an image with.

    Args:
        assigner: Makes the targets.
        bboxes: Annotated boxes in pixels of the resized image, (M, 4).
        level_shapes: (H_l, W_l) of each level.
        canvas_shape: (height, width) of the padded image.

    Returns:
        For each level the targets, (H_l, W_l), in 0..1.
    """
    boxes = torch.as_tensor(bboxes, dtype=torch.float32)
    targets = assigner.assign([boxes], level_shapes, canvas_shape)[0].numpy()
    parts = np.split(targets, np.cumsum([height * width for height, width in level_shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, level_shapes, strict=True)]


def check_model(model: BaseDetector) -> None:
    """Stop where a detector has no ``inspect``; ValueError that names those that have."""
    if not hasattr(model, 'inspect'):
        raise ValueError(
            f'{type(model).__name__} cannot be inspected; SalienceDETR and FocusDETR can'
        )


def read_image(path: str) -> np.ndarray:
    """Read an image as RGB (H, W, 3); FileNotFoundError or ValueError names the file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no image {path}; check the path')
    pixels = mmcv.imread(path)
    if pixels is None:
        raise ValueError(f'{path} cannot be read as an image')
    return np.ascontiguousarray(pixels[..., ::-1])
