"""A metric that writes a report of a test instead of single numbers."""

import os.path as osp
from collections.abc import Sequence
from functools import partial
from typing import Any

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..analysis.coco_scores import MAX_DETECTIONS
from ..analysis.detection_table import EvaluatedImage, keep_best
from ..datasets.checks.annotation_table import read_annotation_table
from ..reports.evaluation_report import NUM_PICTURES, prepare_folder, write_evaluation_report
from .coco_objects import ImageObjects, objects_by_image


@METRICS.register_module()
class EvaluationReport(BaseMetric):
    """Write ``index.html`` and ``report.json`` after a test on data in COCO format.

    ``tools/test.py --report`` adds it. In a config it joins the metric that is there::

        test_evaluator = [test_evaluator, dict(type='EvaluationReport', ann_file=..., folder=...)]

    Objects come from the annotation file and not from the data pipeline, as for mmdet's
    CocoMetric. Only boxes, labels and scores are kept during the test.

    Args:
        folder: Folder of the report; made if needed. Its older report is replaced after the test.
        ann_file: Annotation file of the test data.
        image_root: Folder of the images, where the samples of the data do not say ``img_path``.
        title: Heading of the page.
        notes: Lines under the heading.
        score_thr: Score threshold that the page starts with; None for the one with the best F1.
        num_pictures: Images to show, the worst ones.
        max_detections: Detections of a class that count in an image, 100 in COCO.
        backend_args: Arguments of MMEngine's file backend.
        **kwargs: Further arguments of :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        FileNotFoundError: There is no such annotation file.
        ValueError: The annotation file cannot be read, or the folder cannot be written to.
    """

    default_prefix = 'report'

    def __init__(
        self,
        folder: str,
        ann_file: str,
        image_root: str = '',
        title: str = 'Evaluation',
        notes: Sequence[str] = (),
        score_thr: float | None = None,
        num_pictures: int = NUM_PICTURES,
        max_detections: int = MAX_DETECTIONS,
        backend_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.folder = prepare_folder(folder)
        self.annotations = read_annotation_table(ann_file, backend_args)
        self.image_root = image_root
        self.notes = tuple(notes)
        self.max_detections = max_detections
        self.write = partial(
            write_evaluation_report,
            self.folder,
            title=title,
            score_thr=score_thr,
            num_pictures=num_pictures,
            max_detections=max_detections,
            backend_args=backend_args,
        )

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the best boxes of a batch.

        Args:
            data_batch: Not used.
            data_samples: Samples with ``pred_instances`` and ``img_id``.
        """
        for sample in data_samples:
            instances = sample['pred_instances']
            names = ('bboxes', 'labels', 'scores')
            columns = [instances[name].detach().cpu().numpy() for name in names]
            kept = keep_best(columns[1], columns[2], self.max_detections)
            found = {name: column[kept] for name, column in zip(names, columns, strict=True)}
            self.results.append((sample['img_id'], sample.get('img_path'), found))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Write the report.

        Args:
            results: What :meth:`process` kept of all images.

        Returns:
            Nothing; the numbers are in the report.

        Raises:
            ValueError: The annotation file lacks an image or a class of the test.
        """
        known = (self.dataset_meta or {}).get('classes') or self.annotations.category_names
        classes = [name for name in self.annotations.category_names if name in known]
        objects = objects_by_image(self.annotations, known)
        images: dict[Any, EvaluatedImage] = {}
        for image_id, path, found in results:
            if image_id not in objects:
                raise ValueError(f'{self.annotations.path} has no image with the id {image_id}')
            if image_id not in images:  # a sampler may repeat some to fill the last batch
                images[image_id] = self._join(objects[image_id], path, found)
        notes = [*self.notes]
        left_out = len(objects) - len(images)
        if left_out:
            notes.append(f'Images of the annotation file that were not tested: {left_out}')
        # pycocotools sorts the ids too; where scores are equal, the order counts.
        order = sorted(images, key=lambda image_id: (isinstance(image_id, str), image_id))
        page = self.write([images[image_id] for image_id in order], classes, notes=notes)
        print_log(f'The report is in {page}', logger='current')
        return {}

    def _join(
        self, objects: ImageObjects, path: str | None, found: dict[str, Any]
    ) -> EvaluatedImage:
        """Put objects and detections of an image together; the path is that of its sample."""
        return EvaluatedImage(
            name=objects.name,
            path=path or osp.join(self.image_root, objects.name),
            **found,
            gt_bboxes=objects.bboxes,
            gt_labels=objects.labels,
            gt_areas=objects.areas,
            gt_crowd=objects.crowd,
        )
