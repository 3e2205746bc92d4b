"""Small detectors of both kinds, as whole configs with data."""

from pathlib import Path

from helpers import tiny_model_cfg
from mmengine.config import Config, ConfigDict

DIMS = 32
META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')


def tiny_dino_cfg(num_classes: int | None = 2) -> ConfigDict:
    """DINO of mmdet with the backbone, widths and layers of ``tiny_model_cfg``."""
    salience = tiny_model_cfg()
    attention = dict(embed_dims=DIMS, num_heads=8, dropout=0.0)
    deformable = dict(embed_dims=DIMS, num_levels=4, dropout=0.0)
    ffn = dict(embed_dims=DIMS, feedforward_channels=64, ffn_drop=0.0)
    shared = ('data_preprocessor', 'backbone', 'neck', 'dn_cfg')
    return ConfigDict(
        type='DINO',
        num_queries=30,
        with_box_refine=True,
        as_two_stage=True,
        encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
        decoder=dict(
            num_layers=2,
            return_intermediate=True,
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=deformable, ffn_cfg=ffn),
            post_norm_cfg=None,
        ),
        test_cfg=dict(max_per_img=30),
        positional_encoding=dict(num_feats=DIMS // 2, normalize=True),
        bbox_head=dict(
            type='DINOHead',
            num_classes=num_classes,
            embed_dims=DIMS,
            sync_cls_avg_factor=True,
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        ),
        **{key: salience[key] for key in shared},
    )


def whole_config(model: ConfigDict, data_root: Path | str = 'nowhere') -> Config:
    """A model with validation data in ``data_root/val.json``."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale_factor=1.0, keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=META_KEYS),
    ]
    dataset = dict(
        type='CocoDataset',
        data_root=f'{data_root}/',
        ann_file='val.json',
        data_prefix=dict(img=''),
        test_mode=True,
        pipeline=pipeline,
    )
    loader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dataset,
    )
    return Config(
        dict(
            default_scope='mmdet',
            data_root=f'{data_root}/',
            custom_imports=dict(imports=['mmdet_salience'], allow_failed_imports=False),
            model=model,
            val_dataloader=loader,
        )
    )
