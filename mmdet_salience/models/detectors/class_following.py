"""Detectors whose number of classes may follow a checkpoint."""

from typing import Any

from mmengine.dist import get_world_size
from torch import nn


class ClassFollowing:
    """Mixin of DINO's kin with a :class:`ClassFollowingDINOHead`."""

    bbox_head: Any
    dn_query_generator: Any

    def resize_classes(self, num_classes: int) -> None:
        """Give all classifier weights new rows, to be loaded from a checkpoint.

        The parameters stay the same objects, so an optimizer that was built before trains them.

        Args:
            num_classes: Classes.

        Raises:
            ValueError: There are several processes, which exchange gradients of the old sizes.
        """
        if get_world_size() > 1:
            raise ValueError(
                f'The checkpoint has {num_classes} classes and model.bbox_head.num_classes=None '
                f'stands for {self.bbox_head.num_classes} here. With several processes the number '
                'has to be known before: set model.bbox_head.num_classes, or use the runner of '
                'this package (runner_type), which takes it from the data.'
            )
        self.bbox_head.resize_classes(num_classes)
        embedding = self.dn_query_generator.label_embedding
        resized = nn.Embedding(num_classes, embedding.embedding_dim).to(embedding.weight)
        embedding.weight.data = resized.weight.data
        embedding.num_embeddings = self.dn_query_generator.num_classes = num_classes
