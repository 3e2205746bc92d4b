"""Head of Salience DETR: class and box branches, and all losses (spec sections 7 and 8).

Shapes: B images, Q queries (denoising ones first, in training), K classes, N tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.layers import inverse_sigmoid
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.utils import InstanceList
from mmengine.model import xavier_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..layers.constants import constant
from ..layers.precision import full_precision, no_autocast
from .class_following_head import ClassFollowingDINOHead

# Class logit of queries that an image does not have: probability 0, yet finite in float16.
NO_QUERY_LOGIT = -1e4


def mask_queries(logits: Tensor, boxes: Tensor, query_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Blank the outputs of queries that an image does not have.

    Args:
        logits: Class logits, (..., B, Q, K).
        boxes: Boxes (cx, cy, w, h), (..., B, Q, 4).
        query_mask: True for missing queries, (B, Q); None where there are none.

    Returns:
        Logits with probability 0 and empty boxes for missing queries; they carry no gradient.
    """
    if query_mask is None:
        return logits, boxes
    missing = query_mask[..., None]
    return logits.masked_fill(missing, NO_QUERY_LOGIT), boxes.masked_fill(missing, 0)


@MODELS.register_module()
class SalienceDETRHead(ClassFollowingDINOHead):
    """DINO's head with salience supervision.

    Args:
        loss_salience: Config of the salience loss; None trains without salience supervision.
        train_cfg: ``assigner`` for the queries and ``salience_assigner`` for the tokens.
        eps: Clamp of the inverse sigmoid of the reference boxes.
        **kwargs: Arguments of :class:`ClassFollowingDINOHead`.
    """

    def __init__(
        self,
        *args: Any,
        loss_salience: dict | None = None,
        train_cfg: dict | None = None,
        eps: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, train_cfg=train_cfg, **kwargs)
        self.eps = eps
        self.loss_salience = MODELS.build(loss_salience) if loss_salience else None
        assigner = (train_cfg or {}).get('salience_assigner')
        self.salience_assigner = TASK_UTILS.build(assigner) if assigner else None

    def init_weights(self) -> None:
        """Initialise as mmdet's ``DINOHead``, and hidden box layers Xavier-uniform without bias."""
        super().init_weights()
        for branch in self.reg_branches:
            for layer in branch[:-1]:
                if isinstance(layer, nn.Linear):
                    xavier_init(layer, distribution='uniform')

    def forward(
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        query_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict classes and boxes of every decoder layer.

        Args:
            hidden_states: Normed queries of each layer, (layers, B, Q, C).
            references: Boxes (cx, cy, w, h) before each layer, and after the last, (B, Q, 4) each.
            query_mask: True for queries that an image does not have, (B, Q).

        Returns:
            Class logits (layers, B, Q, K) and boxes (cx, cy, w, h) in 0..1, (layers, B, Q, 4).
        """
        outputs = [
            self.predict_layer(layer, state, references[layer])
            for layer, state in enumerate(hidden_states)
        ]
        logits, boxes = (torch.stack(layers) for layers in zip(*outputs, strict=True))
        return mask_queries(logits, boxes, query_mask)

    def predict_layer(self, layer: int, state: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Predict classes and boxes of one decoder layer.

        Args:
            layer: Index of the layer.
            state: Its normed queries, (B, Q, C).
            reference: Boxes before the layer, (B, Q, 4).

        Returns:
            Class logits (B, Q, K) and boxes (cx, cy, w, h) in 0..1, (B, Q, 4).
        """
        offset = full_precision(self.reg_branches[layer], state)
        boxes = (offset + inverse_sigmoid(reference, eps=self.eps)).sigmoid()
        return full_precision(self.cls_branches[layer], state), boxes

    def loss(
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        batch_data_samples: SampleList,
        dn_meta: dict[str, int],
        salience: Sequence[Tensor],
        query_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute all losses, and the matching, in float32.

        Args:
            hidden_states: Normed queries of each layer, (layers, B, Q, C).
            references: Boxes before each layer, and after the last, (B, Q, 4) each.
            enc_outputs_class: Class logits of the two-stage output, (B, Q', K).
            enc_outputs_coord: Its boxes, (B, Q', 4).
            batch_data_samples: Samples with ``gt_instances``.
            dn_meta: Number of denoising queries and groups.
            salience: Salience logits (B, 1, H, W) of each level.
            query_mask: True for queries that an image does not have, (B, Q).

        Returns:
            Losses by name: mmdet's DINO names and ``loss_salience``.
        """
        gt_instances = [sample.gt_instances for sample in batch_data_samples]
        img_metas = [sample.metainfo for sample in batch_data_samples]
        outputs = self(hidden_states, references, query_mask)
        num_queries = enc_outputs_class.size(1)
        enc_mask = None if query_mask is None else query_mask[:, -num_queries:]
        enc_outputs = mask_queries(enc_outputs_class, enc_outputs_coord, enc_mask)
        predictions = [tensor.float() for tensor in (*outputs, *enc_outputs)]
        with no_autocast(enc_outputs_class):
            losses = self.loss_by_feat(*predictions, gt_instances, img_metas, dn_meta)
            if self.loss_salience is not None:
                losses['loss_salience'] = self.loss_by_salience(salience, gt_instances, img_metas)
        return losses

    def loss_by_salience(
        self, salience: Sequence[Tensor], gt_instances: InstanceList, img_metas: Sequence[dict]
    ) -> Tensor:
        """Supervise the salience maps.

        Args:
            salience: Salience logits (B, 1, H, W) of each level.
            gt_instances: Objects of each image.
            img_metas: Metainfo of each image, with ``batch_input_shape``.

        Returns:
            Scalar loss.

        Raises:
            ValueError: The head has no ``train_cfg.salience_assigner``.
        """
        if self.loss_salience is None or self.salience_assigner is None:
            raise ValueError('bbox_head.loss_salience needs model.train_cfg.salience_assigner.')
        targets = self.salience_assigner.assign(
            [instances.bboxes for instances in gt_instances],
            [(level.size(2), level.size(3)) for level in salience],
            img_metas[0]['batch_input_shape'],
        )
        logits = torch.cat([level.flatten(1) for level in salience], dim=1).float()
        return self.loss_salience(logits, targets.to(logits.device))

    def predict(
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        batch_data_samples: SampleList,
        rescale: bool = True,
        query_mask: Tensor | None = None,
    ) -> InstanceList:
        """Predict the detections of each image.

        Args:
            hidden_states: Normed queries of each layer, (layers, B, Q, C).
            references: Boxes before each layer, and after the last, (B, Q, 4) each.
            batch_data_samples: Samples with image sizes and scale factors.
            rescale: Whether boxes are in pixels of the original images.
            query_mask: True for queries that an image does not have, (B, Q).

        Returns:
            For each image ``bboxes`` (x1, y1, x2, y2), ``scores`` and ``labels``, best first.
        """
        img_metas = [sample.metainfo for sample in batch_data_samples]
        last = len(hidden_states) - 1
        outputs = self.predict_layer(last, hidden_states[last], references[last])
        logits, boxes = mask_queries(*outputs, query_mask)
        results = self.predict_by_feat(
            logits[None], boxes[None], batch_img_metas=img_metas, rescale=rescale
        )
        if query_mask is None:
            return results
        return [result[result.scores > 0] for result in results]

    def _predict_by_feat_single(
        self, cls_score: Tensor, bbox_pred: Tensor, img_meta: dict, rescale: bool = True
    ) -> InstanceData:
        """Turn one image's outputs into detections; fewer scores than ``max_per_img`` are fine.

        Args:
            cls_score: Class logits, (Q, K).
            bbox_pred: Boxes (cx, cy, w, h) in 0..1, (Q, 4).
            img_meta: Metainfo of the image.
            rescale: Whether boxes are in pixels of the original image.

        Returns:
            The detections, best first.
        """
        num_queries, num_classes = cls_score.shape
        max_per_img = min(self.test_cfg.get('max_per_img', num_queries), cls_score.numel())
        logits, order = cls_score.flatten().topk(max_per_img)
        height, width = img_meta['img_shape'][:2]
        scale = constant((width, height, width, height), bbox_pred.device, bbox_pred.dtype)
        boxes = bbox_cxcywh_to_xyxy(bbox_pred[order // num_classes]) * scale
        boxes = torch.minimum(boxes.clamp(min=0), scale)
        if rescale:
            factor = tuple(float(number) for number in img_meta['scale_factor'])
            boxes = boxes / constant(factor * 2, boxes.device, boxes.dtype)
        return InstanceData(bboxes=boxes, scores=logits.sigmoid(), labels=order % num_classes)
