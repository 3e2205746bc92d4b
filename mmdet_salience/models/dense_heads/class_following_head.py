"""A head whose number of classes may follow the data or the checkpoint.

Shapes: Q queries, K classes.
"""

from typing import Any

from mmdet.models.dense_heads import DINOHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

# Classes of COCO, and of a head that is told neither by its config nor by data or checkpoint.
NUM_COCO_CLASSES = 80
# Stands for an infinite class logit in the matching: probability 0 or 1, yet finite in float16.
LARGEST_LOGIT = 1e4


@MODELS.register_module()
class ClassFollowingDINOHead(DINOHead):
    """mmdet's ``DINOHead``, which need not be told its number of classes.

    Args:
        num_classes: Classes; None: those of the weights that are loaded, COCO's 80 until then. The
            tools and the runner set it from the data.
        *args: Arguments of mmdet's ``DINOHead``.
        **kwargs: The same.
    """

    def __init__(self, num_classes: int | None = None, *args: Any, **kwargs: Any) -> None:
        self.follows_checkpoint = num_classes is None
        if num_classes is None:
            num_classes = NUM_COCO_CLASSES
        super().__init__(num_classes, *args, **kwargs)

    def resize_classes(self, num_classes: int) -> None:
        """Give the class branches new rows in place, to be loaded from a checkpoint.

        Args:
            num_classes: Classes.
        """
        for branch in self.cls_branches:
            resized = nn.Linear(branch.in_features, num_classes).to(branch.weight)
            branch.weight.data, branch.bias.data = resized.weight.data, resized.bias.data
            branch.out_features = num_classes
        self.num_classes = self.cls_out_channels = num_classes

    def _get_targets_single(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        gt_instances: InstanceData,
        img_meta: dict,
    ) -> tuple:
        """Match one image's predictions to its objects, even where they are no numbers.

        The matching would fail with an error that names neither image nor cause. With any match the
        loss is no number, and whoever watches it can tell.

        Args:
            cls_score: Class logits, (Q, K).
            bbox_pred: Boxes (cx, cy, w, h) in 0..1, (Q, 4).
            gt_instances: The image's objects.
            img_meta: Metainfo of the image.

        Returns:
            Targets as of mmdet's ``DETRHead``.

        Raises:
            ValueError: Objects have boxes that are not finite; names the image.
        """
        logits = cls_score.nan_to_num(0.0, LARGEST_LOGIT, -LARGEST_LOGIT)
        boxes = bbox_pred.nan_to_num(0.0)
        try:
            return super()._get_targets_single(logits, boxes, gt_instances, img_meta)
        except ValueError as error:  # of SciPy, which has waited for the device already
            if gt_instances.bboxes.isfinite().all():
                raise
            raise ValueError(
                f'{img_meta.get("img_path", "an image")} has objects whose boxes are not finite '
                'numbers; mend the annotations, or drop them with '
                'tools/analysis_tools/check_dataset.py --repair'
            ) from error
