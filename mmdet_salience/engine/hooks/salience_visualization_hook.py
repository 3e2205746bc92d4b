"""Pictures of the same validation images during training."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import mmcv
import numpy as np
from mmdet.models.detectors import BaseDetector
from mmdet.registry import HOOKS
from mmdet.visualization import get_palette
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.dist import is_main_process
from mmengine.fileio import get
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.amp import autocast
from torch.nn.parallel import DistributedDataParallel

from ...datasets.image_choice import ORDERS, choose_images
from ...utils.undisturbed import undisturbed
from ...visualization.salience import Color
from ...visualization.validation_picture import BoxArrays, validation_picture


class Detected(NamedTuple):
    """What the detector makes of an image.

    Attributes:
        objects: Boxes (N, 4) in pixels of the image, class indices (N,) and scores (N,).
        heat: Largest salience of all levels at each pixel, (H, W) in 0..1; None if not asked for
            or unknown.
    """

    objects: BoxArrays
    heat: np.ndarray | None


@HOOKS.register_module()
class SalienceVisualizationHook(Hook):
    """Draw the same few validation images after validations.

    A picture shows ground truth, detections and salience; detectors without ``inspect``, such as
    DINO, get no salience. ``visualizer.add_image`` takes it to all ``vis_backends`` of the config
    under the name ``val_INDEX_FILE``, with the number of training iterations as its step. The hook
    leaves no trace in the training: modes and random states are put back.

    Args:
        num_images: Images to draw; all if there are fewer.
        interval: Draw after the first of every so many validations, counted from the start of the
            process.
        score_thr: Detections below this score are left out.
        order: What the images are spread along, see :func:`choose_images`: ``'size'`` of the
            largest object, or ``'index'``.
        draw_salience: Whether to draw salience.
        max_side: Larger images are drawn with this many pixels at their longer side.

    Raises:
        ValueError: An argument is out of its range.
    """

    # Before EMAHook (normal priority) takes the averaged weights out of the model again.
    priority = 'VERY_HIGH'

    def __init__(
        self,
        num_images: int = 4,
        interval: int = 1,
        score_thr: float = 0.3,
        order: str = 'size',
        draw_salience: bool = True,
        max_side: int = 800,
    ) -> None:
        counts = dict(num_images=num_images, interval=interval, max_side=max_side)
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f'SalienceVisualizationHook: {name}={value} must be at least 1')
        if order not in ORDERS:
            raise ValueError(f'SalienceVisualizationHook: order={order!r} must be one of {ORDERS}')
        self.num_images, self.interval, self.score_thr = num_images, interval, score_thr
        self.order, self.draw_salience, self.max_side = order, draw_salience, max_side
        self._validations = 0
        self._trains = False
        self._chosen: list[int] = []

    def before_train(self, runner: Runner) -> None:
        """Note that iterations are counted; ``runner`` is not used."""
        self._trains = True

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw, if it is time; on the main process alone, which nobody has to wait for.

        Args:
            runner: The runner.
            metrics: Not used.
        """
        due = self._validations % self.interval == 0
        self._validations += 1
        if due and is_main_process():
            model = bare_model(runner.model)
            if model is None:
                kind = type(runner.model).__name__
                runner.logger.warning(f'No pictures: {kind} cannot run on one process alone.')
                return
            with undisturbed(model), autocast(enabled=getattr(runner.val_loop, 'fp16', False)):
                self._draw_all(runner, model)

    def _draw_all(self, runner: Runner, model: BaseDetector) -> None:
        """Draw the chosen images and hand them to the visualizer.

        An image that cannot be read is named in the log. Whether it may end the run is for the
        data set to say, which loads it for the evaluation.

        Args:
            runner: The runner.
            model: The detector without wrapper, in evaluation mode.
        """
        dataset = runner.val_loop.dataloader.dataset
        classes, palette = names_and_colors(dataset)
        step = runner.iter if self._trains else 0  # outside training it would build the train loop
        for index in self._choose(dataset):
            try:
                pixels = read_pixels(dataset, index)
            except (FileNotFoundError, ValueError) as error:
                runner.logger.warning(f'No picture: {error}')
                continue
            found = detect(model, dataset[index], pixels, self.draw_salience)
            picture = validation_picture(
                pixels,
                annotated_objects(dataset, index),
                found.objects,
                found.heat,
                classes,
                palette,
                self.score_thr,
                self.max_side,
            )
            runner.visualizer.add_image(picture_name(dataset, index), picture, step)

    def _choose(self, dataset: BaseDataset) -> list[int]:
        """Choose images once, in the first call."""
        if not self._chosen:
            self._chosen = choose_images(dataset, self.num_images, self.order)
        return self._chosen


def bare_model(model: Any) -> BaseDetector | None:
    """Take the detector out of its wrapper.

    Args:
        model: The runner's model.

    Returns:
        The detector; None where a wrapper spreads its weights over processes, so that one process
        cannot use it alone.
    """
    if not is_model_wrapper(model):
        return model
    return model.module if isinstance(model, DistributedDataParallel) else None


def detect(model: BaseDetector, packed: dict, pixels: np.ndarray, with_salience: bool) -> Detected:
    """Detect objects in an image.

    Args:
        model: The detector, in evaluation mode.
        packed: The image as the test pipeline returned it.
        pixels: The image, RGB, (H, W, 3), uint8.
        with_salience: Whether to look at salience, where the detector has it.

    Returns:
        Objects and salience.
    """
    if with_salience and hasattr(model, 'inspect'):
        # Here, since it imports the analysis package, which imports this one.
        from ...apis.inspection import inspect_packed

        arrays = inspect_packed(model, packed, pixels)
        objects = arrays.detections
        return Detected(
            (objects.bboxes, objects.labels, objects.scores), np.maximum.reduce(arrays.salience)
        )
    found = model.test_step(pseudo_collate([packed]))[0].pred_instances.cpu()
    return Detected((found.bboxes.numpy(), found.labels.numpy(), found.scores.numpy()), None)


def annotated_objects(dataset: BaseDataset, index: int) -> BoxArrays:
    """Objects of an image, without those to be ignored (crowds).

    Args:
        dataset: The data.
        index: Which image.

    Returns:
        Boxes (M, 4) in pixels of the image, class indices (M,) and ones (M,).
    """
    instances = dataset.get_data_info(index)['instances']
    objects = [item for item in instances if not item.get('ignore_flag')]
    boxes = np.array([item['bbox'] for item in objects], dtype=float).reshape(-1, 4)
    labels = np.array([item['bbox_label'] for item in objects], dtype=int)
    return boxes, labels, np.ones(len(objects))


def read_pixels(dataset: BaseDataset, index: int) -> np.ndarray:
    """Read an image of a data set from where the data set has it, also from remote storage.

    Args:
        dataset: The data.
        index: Which image.

    Returns:
        The image, RGB, (H, W, 3), uint8.

    Raises:
        FileNotFoundError: The image is missing.
        ValueError: The file is no image.
    """
    path = dataset.get_data_info(index)['img_path']
    try:
        content = get(path, backend_args=getattr(dataset, 'backend_args', None))
    except FileNotFoundError as error:
        raise FileNotFoundError(f'there is no image {path}; check the validation data') from error
    pixels = mmcv.imfrombytes(content) if content else None
    if pixels is None:
        raise ValueError(f'{path} cannot be read as an image; mend it or take it out of the data')
    return np.ascontiguousarray(pixels[..., ::-1])


def names_and_colors(dataset: BaseDataset) -> tuple[tuple[str, ...], list[Color]]:
    """Class names of a data set, and a colour for each: its own, or chosen where it has too few.

    Args:
        dataset: The data.

    Returns:
        Names and RGB colours.
    """
    classes = tuple(dataset.metainfo.get('classes') or ())
    palette = dataset.metainfo.get('palette') or ()
    if len(palette) < len(classes):
        palette = get_palette('random', len(classes))
    return classes, [(int(r), int(g), int(b)) for r, g, b in palette]


def picture_name(dataset: BaseDataset, index: int) -> str:
    """Name an image for all backends: files, tags and keys; no slash, no space."""
    stem = Path(dataset.get_data_info(index)['img_path']).stem
    return f'val_{index}_{re.sub(r"[^A-Za-z0-9._-]+", "_", stem)}'
