"""A head whose number of classes may follow the data or the checkpoint."""

from typing import Any

from mmdet.models.dense_heads import DINOHead
from mmdet.registry import MODELS
from torch import nn

# Classes of COCO, and of a head that is told neither by its config nor by data or checkpoint.
NUM_COCO_CLASSES = 80


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
        """Give the class branches new rows, to be loaded from a checkpoint.

        Args:
            num_classes: Classes.
        """
        for index, branch in enumerate(self.cls_branches):
            resized = nn.Linear(branch.in_features, num_classes)
            self.cls_branches[index] = resized.to(branch.weight)
        self.num_classes = self.cls_out_channels = num_classes
