"""Average precision of a checkpoint, on data that several detectors share."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook

from ..datasets.config_data import data_files, split_datasets
from ..engine import DataFittingRunner, fit_to_data
from ..engine.data_fit import is_coco


class Accuracy(NamedTuple):
    """COCO's average precision, 0..1; None where the data has no object of the kind.

    Attributes:
        ap: Mean over IoU 0.50 to 0.95.
        ap50: At IoU 0.50.
        ap_small: Of objects below 32 x 32 pixels.
        ap_medium: Of those below 96 x 96 pixels.
        ap_large: Of larger ones.
    """

    ap: float | None
    ap50: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None


class Evaluation(NamedTuple):
    """A test that is ready to run.

    Attributes:
        cfg: Config of the test, fitted to its data.
        ann_file: Annotation file that the data was described by, before it was shortened.
        num_images: Images to test on.
        num_classes: Classes of the data.
    """

    cfg: Config
    ann_file: str
    num_images: int
    num_classes: int


METRIC_KEYS = ('mAP', 'mAP_50', 'mAP_s', 'mAP_m', 'mAP_l')


class ProgressHook(Hook):
    """Tell after each test batch how many images it had.

    Args:
        update: Takes the number of images.
    """

    def __init__(self, update: Callable[[int], Any]) -> None:
        self.update = update

    def after_test_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Count the images of a batch.

        Args:
            runner: The runner.
            batch_idx: Number of the batch.
            data_batch: The batch.
            outputs: Its predictions, one an image.
        """
        self.update(len(outputs))


def keep_first_images(dataset: ConfigDict, max_images: int, folder: Path) -> None:
    """Let a dataset read its first images only, in place.

    Args:
        dataset: Config of the dataset.
        max_images: How many to keep.
        folder: Folder for the shortened annotation file.
    """
    content = json.loads(Path(data_files(dataset).ann_file).read_text(encoding='utf-8'))
    content['images'] = content['images'][:max_images]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / 'first_images.json'
    path.write_text(json.dumps(content), encoding='utf-8')
    dataset.ann_file = str(path)


def prepare_evaluation(
    cfg: Config, data_cfg: Config, split: str, work_dir: Path, max_images: int | None = None
) -> Evaluation:
    """Prepare the test of one config's model on another one's data.

    The data comes with its pipeline, so that all models see the same images; each model normalises
    and pads them itself.

    Args:
        cfg: Config of the model; it stays as it is.
        data_cfg: Config with the data; it stays as it is.
        split: Split to test on, ``'val'`` or ``'test'``.
        work_dir: Folder for logs.
        max_images: Only so many images, the first of the annotation file; None for all.

    Returns:
        The test; it needs no training data.

    Raises:
        FileNotFoundError: The annotation file is missing.
        ValueError: The data is no single dataset in COCO format, or contradicts the model.
    """
    datasets = split_datasets(data_cfg, split)
    if len(datasets) != 1 or not is_coco(datasets[0]):
        raise ValueError(
            f'AP needs one CocoDataset in {split}_dataloader of {data_cfg.filename}; choose '
            'another --split, or put a config with such data first'
        )
    settings = dict(
        default_scope='mmdet',
        work_dir=str(work_dir),
        log_level='ERROR',
        model=copy.deepcopy(cfg.model),
        custom_imports=copy.deepcopy(data_cfg.get('custom_imports') or cfg.get('custom_imports')),
        test_dataloader=copy.deepcopy(data_cfg[f'{split}_dataloader']),
        test_evaluator=dict(type='CocoMetric', metric='bbox'),
        test_cfg=dict(type='TestLoop'),
    )
    result = Config(settings)
    if max_images is not None and Path(data_files(datasets[0]).ann_file).is_file():
        keep_first_images(split_datasets(result, 'test')[0], max_images, work_dir)
    fit = fit_to_data(result, ['test'])
    ann_file = data_files(datasets[0]).ann_file
    return Evaluation(result, ann_file, len(fit.splits[0].table.file_names), len(fit.classes))


def measure_accuracy(
    evaluation: Evaluation, checkpoint: str, update: Callable[[int], Any] | None = None
) -> Accuracy:
    """Test a checkpoint.

    Args:
        evaluation: The test; it stays as it is.
        checkpoint: Path or address of the weights.
        update: Takes the number of images of each batch.

    Returns:
        Average precision; 0 if the detector finds nothing at all.

    Raises:
        ValueError: The checkpoint was trained for other classes.
    """
    cfg = copy.deepcopy(evaluation.cfg)
    cfg.load_from = checkpoint
    cfg.fit_splits = ['test']
    runner = DataFittingRunner.from_cfg(cfg)
    if update is not None:
        runner.register_hook(ProgressHook(update))
    metrics = runner.test()
    values = [metrics.get(f'coco/bbox_{key}', 0.0) for key in METRIC_KEYS]
    return Accuracy(*(value if value >= 0 else None for value in values))
