"""Masking of missing queries and the selection of detections."""

import pytest
import torch
from helpers import build, make_batch, sample, tiny_model_cfg

from mmdet_salience.models.dense_heads.salience_detr_head import mask_queries
from mmdet_salience.models.losses.iou_aware_classification_loss import iou_aware_loss
from mmdet_salience.models.losses.salience_loss import soft_focal_loss


def test_missing_queries_have_no_score_box_or_gradient() -> None:
    logits = torch.zeros(2, 1, 3, 4, requires_grad=True)
    boxes = torch.full((2, 1, 3, 4), 0.5, requires_grad=True)
    missing = torch.tensor([[False, False, True]])
    masked_logits, masked_boxes = mask_queries(logits, boxes, missing)
    assert masked_logits.sigmoid()[:, :, 2].eq(0).all()
    assert masked_boxes[:, :, 2].eq(0).all()
    (masked_logits.sum() + masked_boxes.sum()).backward()
    assert logits.grad[:, :, 2].eq(0).all() and logits.grad[:, :, :2].eq(1).all()
    assert boxes.grad[:, :, 2].eq(0).all() and boxes.grad[:, :, :2].eq(1).all()


def test_detections_are_the_best_query_class_pairs() -> None:
    head = build(tiny_model_cfg(num_classes=2)).bbox_head
    head.test_cfg = dict(max_per_img=3)
    logits = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.9, 0.5, 0.4, 0.2]])
    meta = dict(img_shape=(50, 100), scale_factor=(2.0, 2.0))
    found = head._predict_by_feat_single(logits, boxes, meta, rescale=True)
    assert found.labels.tolist() == [1, 0, 0]
    torch.testing.assert_close(found.scores, torch.tensor([3.0, 2.0, 0.0]).sigmoid())
    # The second box reaches over the right border (110 px) and is cut at 100; then the scale of 2.
    expected = [[35.0, 10.0, 50.0, 15.0], [20.0, 7.5, 30.0, 17.5], [35.0, 10.0, 50.0, 15.0]]
    torch.testing.assert_close(found.bboxes, torch.tensor(expected))


def test_fewer_scores_than_asked_for() -> None:
    head = build(tiny_model_cfg(num_classes=1)).bbox_head
    assert head.test_cfg.max_per_img == 300
    meta = dict(img_shape=(32, 32), scale_factor=(1.0, 1.0))
    assert len(head._predict_by_feat_single(torch.zeros(5, 1), torch.zeros(5, 4), meta)) == 5


def test_salience_loss_needs_an_assigner() -> None:
    cfg = tiny_model_cfg()
    cfg.train_cfg.pop('salience_assigner')
    head = build(cfg).bbox_head
    with pytest.raises(ValueError, match='salience_assigner'):
        head.loss_by_salience([], [sample((32, 32)).gt_instances], [{}])


@pytest.mark.parametrize('value', [float('inf'), float('nan')])
def test_boxes_that_are_no_numbers_are_named(value: float) -> None:
    """A data set may be read without the check before training."""
    model = build(tiny_model_cfg()).train()
    batch, samples = make_batch([torch.zeros(3, 64, 64)], [[[4.0, 4, 20, value]]], [[0]])
    samples[0].set_metainfo(dict(img_path='train/7.png'))
    with pytest.raises(ValueError, match=r'train/7\.png has objects whose boxes are not finite'):
        model.loss(batch, samples)


def test_soft_focal_loss_by_hand() -> None:
    # p = 1/2, y = 1/2: [0.75 / 4 / 2 + 0.25 / 4 / 2] * ln 2 = ln 2 / 8.
    loss = soft_focal_loss(torch.zeros(1), torch.tensor([0.5]), alpha=0.25, gamma=2.0)
    assert loss.item() == pytest.approx(0.6931472 / 8)


def test_iou_aware_loss_by_hand() -> None:
    # Logit 0 everywhere: BCE is ln 2. Matched class of IoU 0.6: 0.6 ln 2; another class:
    # 0.75 / 4 ln 2; background row: 0.75 / 4 ln 2 twice.
    loss = iou_aware_loss(torch.zeros(2, 2), torch.tensor([1, 2]), torch.tensor([0.6, 0.0]))
    negative = 0.75 / 4
    expected = torch.tensor([[negative, 0.6], [negative, negative]]) * 0.6931472
    torch.testing.assert_close(loss, expected)
