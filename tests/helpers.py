"""Shared by the tests: small models, release weights by the goldens' rule, samples."""

import copy
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

import mmdet_salience
from mmdet_salience.models.layers.geometry import BatchGeometry
from mmdet_salience.utils.checkpoints import release_to_mmdet

register_all_modules()

ROOT = Path(mmdet_salience.__file__).parents[1]
DATA = Path(__file__).parent / 'data'
COCO_CONFIG = ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_8xb2-12e_coco.py'

# The goldens' small backbones of the kinds behind the release's L models.
BACKBONES = dict(
    convnext=dict(
        type='TransformersBackbone',
        config=dict(model_type='convnext', hidden_sizes=(32, 64, 128, 256), depths=(1, 1, 2, 1)),
        output_norm=False,
    ),
    focalnet=dict(
        type='FocalNetBackbone',
        config=dict(
            embed_dim=32,
            depths=(1, 1, 2, 1),
            focal_levels=(4, 4, 4, 4),
            focal_windows=(3, 3, 3, 3),
            use_conv_embed=True,
            use_layerscale=True,
            use_post_layernorm=True,
            normalize_modulator=True,
        ),
    ),
    swin=dict(
        type='TorchvisionSwinTransformer',
        embed_dims=32,
        depths=(2, 2, 2, 2),
        num_heads=(2, 4, 8, 16),
        window_size=7,
        out_indices=(1, 2, 3),
        convert_weights=False,
    ),
)


def coco_model_cfg() -> ConfigDict:
    """Model of the COCO config, without pretrained weights."""
    cfg = Config.fromfile(COCO_CONFIG).model
    cfg.backbone.init_cfg = None
    return cfg


def golden_model_cfg() -> ConfigDict:
    """The goldens' model: ResNet-18, 6 + 3 layers, FFN 512, 7 classes, 100 queries."""
    cfg = coco_model_cfg()
    cfg.backbone.depth = 18
    cfg.neck.in_channels = [128, 256, 512]
    cfg.num_queries = 100
    cfg.bbox_head.num_classes = 7
    cfg.decoder.num_layers = 3
    for part in (cfg.encoder, cfg.decoder):
        part.layer_cfg.ffn_cfg.feedforward_channels = 512
    return cfg


def small_model_cfg(num_classes: int = 3) -> ConfigDict:
    """The model of the goldens of training: ResNet-18 from scratch, 3 + 3 layers, 50 queries."""
    cfg = Config.fromfile(ROOT / 'configs/_base_/models/salience_detr_r18_small.py').model
    cfg.bbox_head.num_classes = num_classes
    return cfg


def tiny_model_cfg(num_classes: int = 3, num_queries: int = 30) -> ConfigDict:
    """A model that trains a step in a fraction of a second: 32 channels, 2 + 2 layers."""
    cfg = golden_model_cfg()
    dims = 32
    cfg.num_queries = num_queries
    cfg.bbox_head.update(num_classes=num_classes, embed_dims=dims)
    cfg.neck.update(out_channels=dims, norm_cfg=dict(type='GN', num_groups=8))
    cfg.positional_encoding.num_feats = dims // 2
    cfg.salience_predictor.embed_dims = dims
    cfg.token_fusion.in_channels = dims
    cfg.encoder.background_embedding.embed_dims = dims
    cfg.encoder.num_layers = cfg.decoder.num_layers = 2
    cfg.encoder.token_filter.layer_ratios = (1.0, 0.5)
    cfg.encoder.layer_cfg.num_dual_tokens = 20
    for part in (cfg.encoder, cfg.decoder):
        for key in ('self_attn_cfg', 'cross_attn_cfg', 'ffn_cfg', 'dual_attn_cfg'):
            if key in part.layer_cfg:
                part.layer_cfg[key].embed_dims = dims
        part.layer_cfg.ffn_cfg.feedforward_channels = 64
    cfg.dn_cfg.group_cfg.num_dn_queries = 10
    return cfg


def build(cfg: ConfigDict, seed: int = 0) -> torch.nn.Module:
    """Build a detector with initialised weights, in evaluation mode."""
    torch.manual_seed(seed)
    model = MODELS.build(copy.deepcopy(cfg))
    model.init_weights()
    return model.eval()


def inference_config(model: ConfigDict) -> Config:
    """A whole config for inference: the model, and a pipeline for small images."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(160, 160), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=('ori_shape', 'img_shape', 'scale_factor')),
    ]
    dataset = dict(type='CocoDataset', ann_file='none.json', pipeline=pipeline)
    return Config(
        dict(
            default_scope='mmdet',
            custom_imports=dict(imports=['mmdet_salience'], allow_failed_imports=False),
            model=model,
            test_dataloader=dict(dataset=dataset),
            visualizer=dict(type='DetLocalVisualizer'),
        )
    )


def release_tensor(name: str, shape: Sequence[int], seed: int = 0) -> Tensor:
    """A weight of the release by the goldens' rule (name decides the numbers)."""
    if name.endswith('num_batches_tracked'):
        return torch.tensor(0)
    source = np.random.Generator(np.random.PCG64([zlib.crc32(name.encode()), seed]))
    x = source.standard_normal(tuple(shape))
    if name.endswith('running_var'):
        x = 1 + 0.1 * np.abs(x)
    elif name.endswith('running_mean'):
        x = 0.05 * x
    elif name.endswith('sampling_offsets.bias'):
        x = 1.5 * x
    elif name == 'transformer.alpha':
        x = 0.3 * x
    elif len(shape) == 1:
        x = 1 + 0.1 * x if name.endswith('weight') else 0.05 * x
    elif not any(
        key in name for key in ('tgt_embed', 'label_encoder', 'embed.weight', 'level_embeds')
    ):
        x = x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


def release_state_dict(keys: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, Tensor]:
    """A release checkpoint's weights by the goldens' rule."""
    weights = {}
    for name, shape in keys.items():
        source = name.replace('encoder.enhance_mcsp', 'encoder_class_head')
        weights[name] = release_tensor(source, shape, seed)
    return weights


def golden_keys(num_classes: int = 7) -> dict[str, list[int]]:
    """Names and shapes of the release's ResNet-18 state dict, with any number of classes."""
    keys = json.loads((DATA / 'official_keys_r18.json').read_text())
    for name, shape in keys.items():
        if any(part in name for part in ('class_head.', 'enhance_mcsp.', 'label_encoder.')):
            shape[0] = num_classes
    return keys


def release_to_ours(keys: Iterable[str], num_decoder_layers: int = 3) -> dict[str, str]:
    """The release's names of a ResNet-18 model by our names."""
    names = {key.replace('encoder.enhance_mcsp', 'encoder_class_head'): key for key in keys}
    return release_to_mmdet(names, num_decoder_layers, num_neck_inputs=3)


def backbone_weights(name: str) -> dict[str, Tensor]:
    """The release's weights of a backbone, by the goldens' rule."""
    return release_state_dict(json.loads((DATA / f'backbone_{name}_keys.json').read_text()))


def image_of_the_goldens() -> Tensor:
    """The goldens' input, (1, 3, 152, 200)."""
    values = np.random.Generator(np.random.PCG64(21)).standard_normal((3, 152, 200))
    return torch.from_numpy(values.astype(np.float32))[None]


def assert_golden_features(name: str, backbone: torch.nn.Module) -> None:
    """Compare features with the recorded ones."""
    backbone.eval()
    with torch.no_grad():
        outputs = backbone(image_of_the_goldens())
    recorded = np.load(DATA / f'backbone_{name}.npz')
    assert len(outputs) == 3
    for index, output in enumerate(outputs):
        np.testing.assert_allclose(output.numpy(), recorded[f'out_{index}'], rtol=0, atol=1e-4)


def sample(
    shape: tuple[int, int],
    batch_shape: tuple[int, int] | None = None,
    boxes: Sequence[Sequence[float]] = (),
    labels: Sequence[int] = (),
) -> DetDataSample:
    """A data sample of an image that was not resized."""
    result = DetDataSample(
        metainfo=dict(
            img_shape=shape,
            ori_shape=shape,
            batch_input_shape=batch_shape or shape,
            pad_shape=batch_shape or shape,
            scale_factor=(1.0, 1.0),
        )
    )
    result.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    return result


def pad_batch(images: Sequence[Tensor], divisor: int = 32) -> Tensor:
    """Pad images (3, H, W) with zeros to one size, a multiple of the divisor."""
    height, width = (
        -(-max(image.shape[axis] for image in images) // divisor) * divisor for axis in (1, 2)
    )
    batch = torch.zeros(len(images), 3, height, width)
    for image, slot in zip(images, batch, strict=True):
        slot[:, : image.shape[1], : image.shape[2]] = image
    return batch


def make_batch(
    images: Sequence[Tensor], boxes: Sequence = (), labels: Sequence = ()
) -> tuple[Tensor, list[DetDataSample]]:
    """Padded images and their samples."""
    batch = pad_batch(images)
    boxes = boxes or [()] * len(images)
    labels = labels or [()] * len(images)
    samples = [
        sample(tuple(image.shape[1:]), tuple(batch.shape[2:]), box, label)
        for image, box, label in zip(images, boxes, labels, strict=True)
    ]
    return batch, samples


class Evil:
    """Creates a file as it is unpickled.

    Args:
        proof: The file.
    """

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        """Call something."""
        return open, (str(self.proof), 'w')


def places(tokens: Sequence[int], geometry: BatchGeometry) -> list[tuple[int, int, int]]:
    """(level, row, column) of tokens."""
    found = []
    for token in tokens:
        level = 0
        while token >= geometry.level_sizes[level]:
            token -= geometry.level_sizes[level]
            level += 1
        found.append((level, *divmod(token, geometry.level_shapes[level][1])))
    return found
