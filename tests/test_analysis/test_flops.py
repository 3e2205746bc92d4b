"""Multiply-adds and tokens, worked by hand where they can be."""

import pytest
import torch
from helpers import ROOT, build, tiny_model_cfg
from mmcv.ops import MultiScaleDeformableAttention
from mmengine.config import Config
from tiny_detectors import tiny_dino_cfg, whole_config
from torch import nn

from mmdet_salience.analysis.detectors import ImageBatch, build_detector, make_image
from mmdet_salience.analysis.flops import (
    PARTS,
    ForwardWork,
    count_work,
    part_of,
    sampling_multiply_adds,
)

SHAPE = (60, 90)
# ceil(64 / s) x ceil(96 / s) cells at the strides 8, 16, 32 and 64.
NUM_TOKENS = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2


class Drawing(nn.Module):
    """What a detector looks like to the counter; ``forward`` calls parts as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, padding=1)
        self.memory_trans_fc = nn.Linear(4, 4)
        self.bbox_head = nn.ModuleDict(dict(cls=nn.Linear(4, 2)))
        self.encoder = Ranker(self.bbox_head['cls'])
        self.extra = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, inputs: torch.Tensor, samples: list, mode: str) -> torch.Tensor:
        """Work in every part; the arguments are a detector's."""
        tokens = self.backbone(inputs).flatten(2).transpose(1, 2)
        tokens = self.encoder(self.memory_trans_fc(tokens))
        tokens = self.memory_trans_fc(tokens)
        tokens = self.extra(tokens, tokens, tokens, need_weights=False)[0]
        return tokens @ tokens.transpose(1, 2)


class Ranker(nn.Module):
    """An encoder that asks the head."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.ask = [head]  # in a list, it is no child
        self.project = nn.Linear(4, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Ask the head about five tokens and project all."""
        self.ask[0](tokens[:, :5])
        return self.project(tokens)


class Sampler(nn.Module):
    """Deformable attention into three levels of 2 x 2 cells."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, inputs: torch.Tensor, samples: list, mode: str) -> torch.Tensor:
        """Sample random values for the inputs, (B, N, C)."""
        batch, tokens, channels = inputs.shape
        return self.attention(
            inputs,
            value=torch.rand(batch, 12, channels),
            reference_points=torch.rand(batch, tokens, 3, 2),
            spatial_shapes=torch.tensor([[2, 2]] * 3),
            level_start_index=torch.tensor([0, 4, 8]),
        )


def count(cfg: dict) -> ForwardWork:
    """Work of a tiny detector."""
    model = build_detector(whole_config(cfg))
    return count_work(model, make_image(model, SHAPE))


def test_every_multiply_add_goes_to_the_part_that_does_it() -> None:
    """6 x 7 pixels: convolution, projection on either side of the encoder, a head called inside.

    Attention: 4 channels to three times 4, scores and weighted sum of 42 x 42 pairs, 4 to 4.
    """
    image = ImageBatch(torch.rand(1, 3, 6, 7), [])
    pixels, channels = 6 * 7, 4
    projection = pixels * channels * channels
    work = count_work(Drawing().eval(), image)
    expected = dict.fromkeys(PARTS, 0)
    expected.update(
        backbone=pixels * channels * 3 * 3 * 3,
        predictor=projection,
        encoder=projection,
        heads=projection + 5 * channels * 2,
        other=4 * projection + 2 * pixels**2 * channels + pixels**2 * channels,
    )
    assert work == ForwardWork(expected, 0, ())
    assert work.total == sum(expected.values())


def test_sampling_by_hand() -> None:
    """7 tokens of 2 images, 3 levels, 4 points, 16 channels: 5 each, whatever the heads."""
    assert sampling_multiply_adds(tokens=1, levels=1, points=1, channels=1) == 5
    attention = MultiScaleDeformableAttention(
        16, num_heads=2, num_levels=3, num_points=4, batch_first=True
    )
    model = Sampler(attention).eval()
    work = count_work(model, ImageBatch(torch.rand(2, 7, 16), []))
    assert work.sampling == 5 * 14 * 3 * 4 * 16
    # Values 16 to 16 for 12 tokens; offsets, weights and output for 7.
    per_image = 12 * 16 * 16 + 7 * 16 * (2 * 3 * 4 * 2 + 2 * 3 * 4 + 16)
    assert work.by_part['other'] == work.total == 2 * per_image


def test_salience_detr_updates_the_tokens_that_inspect_shows() -> None:
    """Tokens of the layers are those of ``token_selection``, and all its parts work."""
    model = build(tiny_model_cfg())
    image = make_image(model, SHAPE)
    counts = model.inspect(image.inputs, image.data_samples).token_selection.layer_counts
    work = count_work(model, image)
    assert work.layer_tokens == tuple(layer[0] for layer in counts)
    assert max(work.layer_tokens) < NUM_TOKENS
    assert [part for part in PARTS if not work.by_part[part]] == ['other']


def test_parts_of_dino() -> None:
    """Its encoder updates all tokens in every layer; it predicts and fuses nothing."""
    work = count(tiny_dino_cfg())
    assert work.layer_tokens == (NUM_TOKENS, NUM_TOKENS)
    assert [part for part in PARTS if not work.by_part[part]] == ['predictor', 'fusion', 'other']
    # Encoder and decoder: 2 layers, 4 levels, 4 points, 32 channels; 30 queries.
    assert work.sampling == 5 * 2 * (NUM_TOKENS + 30) * 4 * 4 * 32


def test_dino_encoder_by_hand() -> None:
    """A layer: values, offsets, weights, output, FFN (32 to 64 and back) for each token."""
    work = count(tiny_dino_cfg())
    per_token = 32 * 32 + 32 * (8 * 4 * 4 * 3) + 32 * 32 + 2 * 32 * 64
    assert work.by_part['encoder'] == 2 * NUM_TOKENS * per_token


def test_both_kinds_share_backbone_and_neck() -> None:
    """The same image through the same backbone is the same work."""
    first, second = count(tiny_model_cfg()), count(tiny_dino_cfg())
    for part in ('backbone', 'neck'):
        assert first.by_part[part] == second.by_part[part] > 0
    assert first.total < second.total


def count_hooks(model: torch.nn.Module) -> int:
    """Forward hooks of all modules; deformable attention has one of its own."""
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


def test_counting_leaves_no_hooks() -> None:
    """A second count gives the same, and nothing stays behind to slow the detector down."""
    model = build_detector(whole_config(tiny_model_cfg()))
    image = make_image(model, SHAPE)
    before = count_hooks(model)
    assert count_work(model, image) == count_work(model, image)
    assert count_hooks(model) == before


@pytest.mark.parametrize(
    ('name', 'part'),
    [
        ('encoder.layers.0.ffn', 'encoder'),
        ('salience_predictor', 'predictor'),
        ('token_fusion.lateral', 'fusion'),
        ('rpn_head.rpn_cls', 'heads'),
        ('positional_encoding', 'other'),
    ],
)
def test_part_of(name: str, part: str) -> None:
    """A module belongs to the part of the detector's child that holds it."""
    assert part_of(name) == part


def test_classes_left_to_the_data() -> None:
    """``num_classes=None`` becomes what is given; a number in the config stays."""
    left = build_detector(whole_config(tiny_dino_cfg(None)), num_classes=5)
    stated = build_detector(whole_config(tiny_dino_cfg(2)), num_classes=5)
    assert [m.bbox_head.cls_branches[0].out_features for m in (left, stated)] == [5, 2]


def test_pretrained_weights_are_not_loaded() -> None:
    """A detector is built without its pretrained backbone, which may not be there."""
    cfg = whole_config(tiny_dino_cfg())
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='/none.pth')
    build_detector(cfg)
    assert cfg.model.backbone.init_cfg.checkpoint == '/none.pth'
    config = dict(model_type='convnext', hidden_sizes=(8, 16, 32, 64), depths=(1, 1, 1, 1))
    cfg.model.backbone = dict(type='TransformersBackbone', config=config, pretrained='/none')
    cfg.model.neck.in_channels = [16, 32, 64]
    assert build_detector(cfg).backbone.pretrained is None
    assert cfg.model.backbone.pretrained == '/none'


def test_parts_of_a_tiny_model() -> None:
    model = build(tiny_model_cfg())
    work = count_work(model, make_image(model, (96, 128)))
    assert set(work.by_part) == set(PARTS)
    assert work.total == sum(work.by_part.values())
    # 12x16, 6x8, 3x4 and 2x2 tokens; all of the coarse levels, 40 and 80 % of the finer ones.
    kept = int(192 * 0.4) + int(48 * 0.8) + 12 + 4
    assert work.layer_tokens == (kept, kept // 2)
    levels, points, dims, queries = 4, 4, 32, 30
    sampled = sum(work.layer_tokens) + model.decoder.num_layers * queries
    assert work.sampling == sampled * levels * points * dims * 5


def test_backbone_by_hand() -> None:
    model = build(tiny_model_cfg())
    # ResNet-18 on 32 x 32 px: the 7x7 stem on 16x16, then 8x8 maps of 64 channels and so on.
    work = count_work(model, make_image(model, (32, 32)))
    stem = 16 * 16 * 64 * 3 * 49
    first = 4 * 8 * 8 * 64 * 64 * 9
    others = 0
    for side, width in ((4, 128), (2, 256), (1, 512)):
        half = side * side * width * width // 2
        others += half * 9 + 3 * side * side * width * width * 9 + half
    assert work.by_part['backbone'] == stem + first + others


def test_more_tokens_cost_more() -> None:
    model = build(tiny_model_cfg())
    cfg = tiny_model_cfg()
    cfg.encoder.token_filter.level_ratios = (1.0, 1.0, 1.0, 1.0)
    image = make_image(model, (96, 128))
    dense, sparse = (count_work(each, image) for each in (build(cfg), model))
    assert dense.by_part['encoder'] > sparse.by_part['encoder']
    for part in ('backbone', 'neck', 'predictor', 'fusion', 'decoder'):
        assert dense.by_part[part] == sparse.by_part[part]


@pytest.fixture(scope='module')
def order() -> dict[str, ForwardWork]:
    """Work of the R50 configs on a small image."""
    names = ('salience_detr/salience-detr', 'focus_detr/focus-detr', 'dino/dino-4scale')
    names += tuple(f'ablation/{name}' for name in ('layer-only', 'level-only', 'no-filtering'))
    works = {}
    for name in (*names, 'ablation/no-fusion'):
        cfg = Config.fromfile(ROOT / f'configs/{name}_r50_8xb2-12e_coco.py')
        model = build_detector(cfg)
        works[name.split('/')[1]] = count_work(model, make_image(model, (256, 320)))
    return works


def test_order_of_the_models(order: dict[str, ForwardWork]) -> None:
    """As published: Focus-DETR does least, filtering saves most of DINO's encoder."""
    total = {name: work.total for name, work in order.items()}
    assert total['focus-detr'] < total['salience-detr'] < total['dino-4scale']
    encoder = {name: work.by_part['encoder'] for name, work in order.items()}
    assert encoder['salience-detr'] < encoder['level-only'] < encoder['no-filtering']
    assert encoder['salience-detr'] < encoder['layer-only'] < encoder['no-filtering']
    assert total['salience-detr'] - total['no-fusion'] == order['salience-detr'].by_part['fusion']


def test_release_is_not_exceeded() -> None:
    """The release takes 207.7 G at 800 x 1333; its share of DINO's work is about 70 %."""
    totals = []
    for name in ('salience_detr/salience-detr', 'dino/dino-4scale'):
        model = build_detector(Config.fromfile(ROOT / f'configs/{name}_r50_8xb2-12e_coco.py'))
        totals.append(count_work(model, make_image(model, (800, 1333))).total / 1e9)
    assert totals[0] < 207.7
    assert totals[0] / totals[1] == pytest.approx(0.70, abs=0.01)
