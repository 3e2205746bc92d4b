"""Detectors whose number of classes may follow a checkpoint."""

from typing import Any

from torch import nn


class ClassFollowing:
    """Mixin of DINO's kin with a :class:`ClassFollowingDINOHead`."""

    bbox_head: Any
    dn_query_generator: Any

    def resize_classes(self, num_classes: int) -> None:
        """Give everything that has a row a class new rows, to be loaded from a checkpoint.

        Args:
            num_classes: Classes.
        """
        self.bbox_head.resize_classes(num_classes)
        old = self.dn_query_generator.label_embedding
        resized = nn.Embedding(num_classes, old.embedding_dim)
        self.dn_query_generator.label_embedding = resized.to(old.weight)
        self.dn_query_generator.num_classes = num_classes
