"""The model against what the authors' release computes (see tests/data/README.md)."""

from functools import cache

import numpy as np
import pytest
import torch
from helpers import (
    DATA,
    build,
    golden_keys,
    golden_model_cfg,
    make_batch,
    release_state_dict,
    sample,
)
from mmdet.registry import MODELS, TASK_UTILS

from mmdet_salience.models.detectors import SalienceInspection

CASES = {'a': (11, (3, 480, 560)), 'b': (12, (3, 400, 530))}
SAME_TOKENS = 0.998
VALUES = 1e-3


@cache
def inspection(case: str) -> SalienceInspection:
    """What our model computes for a golden input."""
    model = build(golden_model_cfg())
    model.load_state_dict(release_state_dict(golden_keys()), strict=True)
    seed, shape = CASES[case]
    pixels = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    return model.inspect(*make_batch([torch.from_numpy(pixels.astype(np.float32))]))


@cache
def golden(case: str) -> dict[str, torch.Tensor]:
    """What the release computed for it."""
    with np.load(DATA / f'forward_r18_{case}.npz') as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def overlap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Share of the release's tokens that ours hold, sizes being equal."""
    ours, theirs = set(ours.tolist()), set(theirs.tolist())
    assert len(ours) == len(theirs)
    return len(ours & theirs) / len(theirs)


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> str:
    """One of the golden inputs; b is no multiple of 32."""
    return request.param


def test_salience_maps(case: str) -> None:
    for level, score in enumerate(inspection(case).salience):
        torch.testing.assert_close(
            score, golden(case)[f'salience_{level}'][:, 0], atol=1e-4, rtol=0
        )


def test_layer_tokens(case: str) -> None:
    selection = inspection(case).token_selection
    assert selection.layer_counts[0] == tuple(golden(case)['focus_token_nums'].tolist())
    for layer in range(6):
        tokens = selection.layer_indices(layer, num_tokens=10**6)[0]
        assert overlap(tokens, golden(case)[f'foreground_inds_{layer}'][0]) >= SAME_TOKENS


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [('encoder_memory', 'memory_encoder_every11'), ('memory', 'memory_fused_every11')],
)
def test_memories(case: str, ours: str, theirs: str) -> None:
    memory = getattr(inspection(case), ours)[:, ::11]
    torch.testing.assert_close(memory, golden(case)[theirs], atol=VALUES, rtol=0)


def test_two_stage_output(case: str) -> None:
    two_stage, gold = inspection(case).two_stage, golden(case)
    assert overlap(two_stage.selection.candidates[0], gold['topk_index_in'][0]) >= SAME_TOKENS
    assert overlap(two_stage.selection.indices[0], gold['topk_index'][0]) >= 0.99
    same = same_rank(case)
    boxes = two_stage.box_logits.sigmoid()
    torch.testing.assert_close(
        two_stage.logits[:, same], gold['enc_class'][:, same], atol=VALUES, rtol=0
    )
    torch.testing.assert_close(boxes[:, same], gold['enc_coord'][:, same], atol=VALUES, rtol=0)


def same_rank(case: str) -> torch.Tensor:
    """Queries that stand at the same rank as in the release; at least 98 % do."""
    same = inspection(case).two_stage.selection.indices[0] == golden(case)['topk_index'][0]
    assert same.float().mean() >= 0.98
    return same


def test_decoder_layers(case: str) -> None:
    result, gold, same = inspection(case), golden(case), same_rank(case)
    assert result.logits.shape == gold['out_class'].shape
    torch.testing.assert_close(
        result.logits[:, :, same], gold['out_class'][:, :, same], atol=VALUES, rtol=0
    )
    torch.testing.assert_close(
        result.boxes[:, :, same], gold['out_coord'][:, :, same], atol=VALUES, rtol=0
    )


def test_detections(case: str) -> None:
    found, gold = inspection(case).detections[0].pred_instances, golden(case)
    torch.testing.assert_close(found.scores, gold['det_scores'], atol=VALUES, rtol=0)
    height, width = CASES[case][1][1:]
    limits = torch.tensor([width, height, width, height])
    expected = torch.minimum(gold['det_boxes'].clamp(min=0), limits)  # mmdet clips to the image
    same = found.labels == gold['det_labels']
    assert same.float().mean() >= 0.98
    torch.testing.assert_close(found.bboxes[same], expected[same], atol=0.5, rtol=0)
    relative = (found.bboxes - expected)[same] / limits
    assert relative.abs().max() < VALUES


# ---------------------------------------------------------------------------------- losses

SIZES = ((256, 320), (224, 288))
BATCH = (256, 320)
LEVELS = ((32, 40), (16, 20), (8, 10), (4, 5))


def supervision(name: str, empty_first: bool = False) -> tuple[dict, list]:
    """A golden file and its two images' objects as data samples."""
    with np.load(DATA / f'{name}.npz') as arrays:
        arrays = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    samples = []
    for image, (height, width) in enumerate(SIZES):
        boxes = arrays[f'boxes_cxcywh_norm_{image}']
        corners = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
        corners = corners * torch.tensor([width, height, width, height])
        labels = arrays[f'labels_{image}']
        if empty_first and image == 0:
            corners, labels = corners[:0], labels[:0]
        samples.append(sample((height, width), BATCH, corners.tolist(), labels.tolist()))
    return arrays, samples


def salience_assigner() -> object:
    """The assigner of the COCO config."""
    return TASK_UTILS.build(golden_model_cfg().train_cfg.salience_assigner)


def test_salience_targets() -> None:
    arrays, samples = supervision('salience_supervision')
    targets = salience_assigner().assign([s.gt_instances.bboxes for s in samples], LEVELS, BATCH)
    torch.testing.assert_close(targets, arrays['targets'], atol=1e-5, rtol=0)


def test_salience_loss() -> None:
    arrays, samples = supervision('salience_supervision')
    loss = MODELS.build(dict(golden_model_cfg().bbox_head.loss_salience, loss_weight=1.0))
    logits = torch.cat([arrays[f'pred_{level}'].flatten(1) for level in range(4)], dim=1)
    targets = salience_assigner().assign([s.gt_instances.bboxes for s in samples], LEVELS, BATCH)
    torch.testing.assert_close(loss(logits, targets), arrays['loss_salience'], rtol=1e-4, atol=0)
    _, first = supervision('salience_supervision', empty_first=True)
    empty = salience_assigner().assign([first[0].gt_instances.bboxes], LEVELS, BATCH)
    assert not empty.any()
    torch.testing.assert_close(
        loss(logits[:1], empty),
        arrays['loss_salience_no_objects_first_image'],
        rtol=1e-4,
        atol=0,
    )


@pytest.mark.parametrize('layer', ['last', 'aux0', 'aux1', 'enc'])
def test_set_losses(layer: str) -> None:
    arrays, samples = supervision('set_losses')
    head = build(golden_model_cfg()).bbox_head
    losses = head.loss_by_feat_single(
        arrays[f'{layer}/pred_logits'],
        arrays[f'{layer}/pred_boxes'],
        [s.gt_instances for s in samples],
        [s.metainfo for s in samples],
    )
    suffix = {'last': '', 'aux0': '_0', 'aux1': '_1', 'enc': '_enc'}[layer]
    for name, weight, loss in zip(('class', 'bbox', 'giou'), (1.0, 5.0, 2.0), losses, strict=True):
        expected = arrays[f'loss/loss_{name}{suffix}'] * weight
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
