"""Detectors whose number of classes may follow a checkpoint."""

from typing import Any

from mmdet.structures import SampleList
from mmengine.dist import get_world_size
from torch import Tensor, nn


class ClassFollowing:
    """Mixin of DINO's kin with a :class:`ClassFollowingDINOHead`."""

    bbox_head: Any
    dn_query_generator: Any
    classes_resized = False

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Any]:
        """Compute the losses, as mmdet.

        Args:
            batch_inputs: Normalised images padded to one size, (B, 3, H, W).
            batch_data_samples: Samples with ``gt_instances``.

        Returns:
            Losses by name.

        Raises:
            ValueError: The classes were resized in one of several processes, which exchange
                gradients of the old sizes.
        """
        if self.classes_resized and get_world_size() > 1:
            raise ValueError(
                f'load_from has {self.bbox_head.num_classes} classes, which was not known when the '
                'model was built for several processes. Set '
                f'model.bbox_head.num_classes={self.bbox_head.num_classes}, or use the runner of '
                'this package (runner_type), which takes the number from the data.'
            )
        losses: dict[str, Any] = super().loss(batch_inputs, batch_data_samples)  # type: ignore[misc]
        return losses

    def resize_classes(self, num_classes: int) -> None:
        """Give all classifier weights new rows, to be loaded from a checkpoint.

        The parameters stay the same objects, so an optimizer that was built before trains them.

        Args:
            num_classes: Classes.
        """
        self.classes_resized = True
        self.bbox_head.resize_classes(num_classes)
        embedding = self.dn_query_generator.label_embedding
        resized = nn.Embedding(num_classes, embedding.embedding_dim).to(embedding.weight)
        embedding.weight.data = resized.weight.data
        embedding.num_embeddings = self.dn_query_generator.num_classes = num_classes
