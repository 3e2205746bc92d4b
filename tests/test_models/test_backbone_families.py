"""Every family of hierarchical backbones of transformers, and those that are refused."""

import re
from pathlib import Path
from unittest import mock

import pytest
import torch
from helpers import build as build_detector
from helpers import make_batch, tiny_model_cfg
from mmdet.registry import MODELS
from torch import nn

# 16, 32 and 64 channels at the strides 8, 16 and 32.
WIDTHS = dict(hidden_sizes=(8, 16, 32, 64), depths=(1, 1, 1, 1))
SWIN = dict(embed_dim=8, depths=(2, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4)
FAMILIES = dict(
    bit=dict(WIDTHS, embedding_size=8, num_groups=4),
    convnext=WIDTHS,
    convnextv2=WIDTHS,
    dinov3_convnext=WIDTHS,
    focalnet=dict(embed_dim=8, depths=(1, 1, 1, 1)),
    hgnet_v2=dict(
        stem_channels=(3, 8, 8),
        stage_in_channels=(8, 8, 16, 32),
        stage_mid_channels=(4, 4, 8, 16),
        stage_out_channels=(8, 16, 32, 64),
        stage_num_blocks=(1, 1, 1, 1),
        stage_numb_of_layers=(1, 1, 1, 1),
    ),
    poolformer=WIDTHS,
    pvt_v2=dict(WIDTHS, num_attention_heads=(1, 2, 4, 8)),
    regnet=dict(WIDTHS, embedding_size=8, groups_width=4),
    resnet=dict(WIDTHS, embedding_size=8, layer_type='basic'),
    rt_detr_resnet=dict(WIDTHS, embedding_size=8, layer_type='basic'),
    segformer=dict(WIDTHS, num_attention_heads=(1, 2, 4, 8)),
    swin=SWIN,
    swinv2=SWIN,
)
# Where a stage is followed by a downsampling of its own; the others reduce within their blocks.
DOWNSAMPLING = set(FAMILIES) - {'bit', 'regnet', 'resnet', 'rt_detr_resnet'}
BATCH_NORM = {'hgnet_v2', 'regnet', 'resnet', 'rt_detr_resnet'}
OUTPUT_NORM = {'convnext', 'convnextv2', 'swin', 'focalnet'}
each_family = pytest.mark.parametrize('family', FAMILIES)


def backbone_cfg(family: str, **settings: object) -> dict:
    """Config of a tiny backbone."""
    if family == 'focalnet':
        return dict(type='FocalNetBackbone', config=FAMILIES[family], **settings)
    config = dict(FAMILIES[family], model_type=family)
    return dict(type='TransformersBackbone', config=config) | settings


def build(family: str, **settings: object) -> nn.Module:
    """Build a tiny backbone."""
    torch.manual_seed(0)
    return MODELS.build(backbone_cfg(family, **settings))


def frozen(backbone: nn.Module) -> set[str]:
    """Names of the parameters that are not trained."""
    return {name for name, p in backbone.named_parameters() if not p.requires_grad}


def norms(backbone: nn.Module) -> set[str]:
    """Names of the parameters of the maps' own norms, which belong to no stage."""
    return {name for name, _ in backbone.named_parameters() if re.search('s_norms|t_norms', name)}


@each_family
def test_maps_have_the_strides_8_16_and_32(family: str) -> None:
    backbone = build(family).eval()
    outputs = backbone(torch.randn(2, 3, 100, 150))
    assert backbone.out_channels == (16, 32, 64)
    for output, channels, stride in zip(outputs, (16, 32, 64), (8, 16, 32), strict=True):
        assert output.shape[:2] == (2, channels)
        for cells, pixels in zip(output.shape[2:], (100, 150), strict=True):
            assert cells in (pixels // stride, -(-pixels // stride))  # ConvNeXt drops the rest


@each_family
def test_out_indices_choose_the_maps(family: str) -> None:
    both = build(family, out_indices=(0, 2), output_norm=None).eval()
    image = torch.randn(1, 3, 64, 96)
    shapes = [tuple(x.shape) for x in both(image)]
    assert shapes == [(1, 8, 16, 24), (1, 32, 4, 6)]
    assert both.out_channels == (8, 32)


@each_family
def test_a_smaller_image_leaves_no_trace(family: str) -> None:
    backbone = build(family).eval()
    image = torch.randn(1, 3, 160, 192)
    before = backbone(image)
    backbone(torch.randn(1, 3, 32, 32))
    for one, other in zip(before, backbone(image), strict=True):
        assert torch.equal(one, other)


@each_family
def test_frozen_stages(family: str) -> None:
    free = build(family, out_indices=(0, 1, 2, 3))
    assert free.training
    unused = frozen(free)
    used = {name: p for name, p in free.named_parameters() if p.requires_grad}
    first = free.eval()(torch.randn(1, 3, 64, 64))[0].sum()
    gradients = torch.autograd.grad(first, list(used.values()), allow_unused=True)
    below = {name for name, g in zip(used, gradients, strict=True) if g is not None}
    below -= norms(free)

    stem = frozen(build(family, frozen_stages=0, out_indices=(0, 1, 2, 3))) - unused
    assert stem and stem < below
    assert all(re.search(r'embed|stages\.0\.downsample_layers', name) for name in stem)
    stage = frozen(build(family, frozen_stages=1, out_indices=(0, 1, 2, 3))) - unused
    assert stage >= below
    downsampling = stage - below
    assert all(re.search(r'downsampl|patch_embed', name) for name in downsampling)
    assert bool(downsampling) is (family in DOWNSAMPLING)
    everything = build(family, frozen_stages=4)
    trained = {name for name, p in everything.named_parameters() if p.requires_grad}
    assert trained == norms(everything)


@each_family
def test_frozen_parts_stay_in_evaluation_mode(family: str) -> None:
    backbone = build(family, frozen_stages=1)
    backbone.train()
    for part in (backbone.stem, backbone.stages[0]):
        assert all(not leaf.training for leaf in part.modules() if not list(leaf.children()))
    assert all(leaf.training for leaf in backbone.stages[2].modules())


@pytest.mark.parametrize('family', sorted(BATCH_NORM))
@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval(family: str, norm_eval: bool) -> None:
    backbone = build(family, norm_eval=norm_eval)
    before = {key: value.clone() for key, value in backbone.named_buffers()}
    backbone.train()
    backbone(torch.randn(2, 3, 64, 64))
    still = all(torch.equal(before[key], value) for key, value in backbone.named_buffers())
    assert before and still is norm_eval


@each_family
def test_checkpointing_computes_twice_and_changes_no_gradient(family: str) -> None:
    plain = build(family)
    if not plain.model.supports_gradient_checkpointing:
        with pytest.raises(ValueError, match=r'with_cp=True.*leave with_cp out'):
            build(family, with_cp=True)
        return
    saving = build(family, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 64, 64)
    calls = []
    for backbone in (plain, saving):
        counts: list[int] = []
        leaves = [x for x in backbone.stages[2].modules() if isinstance(x, (nn.Linear, nn.Conv2d))]
        for leaf in leaves:
            leaf.register_forward_hook(lambda *_, counts=counts: counts.append(1))
        backbone.train()
        torch.manual_seed(1)  # of the drop path
        sum(x.square().sum() for x in backbone(image)).backward()
        calls.append(len(counts))
    assert calls[1] > calls[0]
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert (one.grad is None) is (other.grad is None) is (not one.requires_grad)
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad)


@each_family
def test_output_norm(family: str) -> None:
    if family not in OUTPUT_NORM:
        with pytest.raises(ValueError, match='no norms of its outputs; leave output_norm out'):
            build(family, output_norm=True)
        return
    image = torch.randn(1, 3, 64, 96)
    with_norm, without = (build(family, output_norm=x).eval()(image) for x in (True, False))
    assert all(x.mean(1).abs().max() < 1e-5 for x in with_norm)
    assert any(x.mean(1).abs().max() > 1e-3 for x in without)


@each_family
def test_detector_trains_a_step(family: str) -> None:
    cfg = tiny_model_cfg()
    cfg.backbone = backbone_cfg(family, frozen_stages=1)
    cfg.neck.in_channels = [16, 32, 64]
    detector = build_detector(cfg).train()
    batch, samples = make_batch(
        [torch.randn(3, 90, 120), torch.randn(3, 64, 64)], [[[5, 5, 40, 50]], []], [[0], []]
    )
    total, _ = detector.parse_losses(detector.loss(batch, samples))
    total.backward()
    assert torch.isfinite(total)
    # A distributed training would wait for a gradient that never comes.
    for name, parameter in detector.backbone.named_parameters():
        assert (parameter.grad is not None) is parameter.requires_grad, name


def test_stages_behind_the_last_map_are_frozen() -> None:
    names = frozen(build('resnet', out_indices=(1, 2)))
    assert names and all('stages.3' in name for name in names)


@pytest.mark.parametrize(
    'model_type', ['beit', 'bert', 'dinov2', 'dinov3_vit', 'efficientnet', 'vit', 'vitdet']
)
def test_models_without_stages_are_named(model_type: str) -> None:
    with pytest.raises(ValueError, match=rf"'{model_type}'.*no stages.*supports .*segformer"):
        MODELS.build(dict(type='TransformersBackbone', config=dict(model_type=model_type)))


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(model_type='focalnet'), r"'focalnet' have strides \(16, 32, 32\).*FocalNetBackbone"),
        (dict(model_type='hiera', embed_dim=8), "'hiera'.*no maps for images of any size"),
        (dict(WIDTHS, model_type='poolformer', strides=(4, 2, 2, 1)), r'strides \(8, 16, 16\)'),
        (dict(model_type='nothing'), r"no model_type='nothing'.*supports .*dinov3_convnext"),
        (dict(WIDTHS), 'no model_type=None'),
        (dict(model_type='convnext', depths=(1, 1), num_stages=2), 'has the stages 0 to 1'),
        (dict(model_type='convnext', hidden_sizes=(8, 16)), "cannot build 'convnext'.*settings"),
    ],
)
def test_unfit_models_are_named(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='TransformersBackbone', config=config))


@pytest.mark.parametrize('indices', [(), (2, 1), (1, 1), (1, 4), (-1,)])
def test_wrong_out_indices_are_named(indices: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r'out_indices=.*stages 0 to 3'):
        build('convnext', out_indices=indices)


@pytest.mark.parametrize('model_type', ['convnext', 'convnextv2', 'dinov3_convnext'])
def test_model_type_alone_is_the_tiny_model(model_type: str) -> None:
    backbone = MODELS.build(dict(type='TransformersBackbone', config=dict(model_type=model_type)))
    assert backbone.out_channels == (192, 384, 768)


@pytest.fixture(params=['dinov3_convnext', 'segformer', 'swin', 'hgnet_v2'])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, nn.Module]:
    """A family, a folder of its weights in half precision, and the backbone they are of."""
    source = build(request.param)
    for parameter in source.parameters():
        parameter.data = torch.randn_like(parameter).bfloat16().float() / 4
    source.model.bfloat16().save_pretrained(tmp_path)
    return request.param, str(tmp_path), source.float().eval()


def test_pretrained_weights_load_when_weights_are_initialised(
    saved: tuple[str, str, nn.Module],
) -> None:
    family, folder, source = saved
    image = torch.randn(1, 3, 64, 96)
    for config in (backbone_cfg(family)['config'], {}):
        backbone = build(family, config=config, pretrained=folder).eval()
        assert not torch.allclose(backbone(image)[0], source(image)[0])
        backbone.train()
        backbone.init_weights()
        assert backbone.training
        backbone.eval()
        for ours, theirs in zip(backbone(image), source(image), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_known_architecture_needs_no_weights_to_build() -> None:
    backbone = build('dinov3_convnext', pretrained='no/such/folder')
    assert backbone.out_channels == (16, 32, 64)
    with pytest.raises(FileNotFoundError, match='no/such/folder'):
        backbone.init_weights()
    with pytest.raises(FileNotFoundError, match='no/such/folder'):
        build('dinov3_convnext', config={}, pretrained='no/such/folder')


def test_gated_weights_are_explained() -> None:
    backbone = build('dinov3_convnext', pretrained='facebook/gated')
    refusal = OSError('You are trying to access a gated repo.\nMake sure to have access.')
    place = 'transformers.AutoConfig.from_pretrained'
    with mock.patch(place, side_effect=refusal), pytest.raises(FileNotFoundError) as caught:
        backbone.init_weights()
    message = str(caught.value)
    assert "'facebook/gated'" in message and '(You are trying to access a gated repo.)' in message
    assert 'accept the licence' in message and 'hf auth login' in message


@pytest.mark.parametrize(
    ('family', 'settings', 'message'),
    [
        ('dinov3_convnext', dict(layer_norm_eps=0.5), 'compute different maps'),
        ('pvt_v2', dict(hidden_act='relu'), 'compute different maps'),
        ('dinov3_convnext', dict(hidden_sizes=(8, 16, 32, 48)), 'does not fit'),
        ('dinov3_convnext', dict(depths=(1, 1, 2, 1)), 'weights too many'),
        ('swin', dict(depths=(2, 1, 2, 1)), 'weights too many'),
    ],
)
def test_weights_of_another_architecture_are_refused(
    family: str, settings: dict, message: str, tmp_path: Path
) -> None:
    config = dict(FAMILIES[family], model_type=family, **settings)
    source = build(family, config=config)
    for parameter in source.parameters():
        parameter.data = torch.randn_like(parameter) / 4
    source.model.save_pretrained(tmp_path)
    backbone = build(family, pretrained=str(tmp_path))
    with pytest.raises(ValueError, match=f'(?s){message}.*leave model_type out'):
        backbone.init_weights()


def test_weights_of_another_family_are_refused(tmp_path: Path) -> None:
    build('resnet').model.save_pretrained(tmp_path)
    backbone = build('dinov3_convnext', pretrained=str(tmp_path))
    with pytest.raises(ValueError, match="model_type='resnet'"):
        backbone.init_weights()
