# Salience DETR with ResNet-50 on C3..C5. Sections refer to the paper (arXiv 2403.16131).
num_levels = 4

model = dict(
    type='SalienceDETR',
    num_queries=900,
    with_box_refine=True,
    as_two_stage=True,
    feature_strides=(8, 16, 32, 64),
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        # torchvision's V1 weights, the paper's. The release's better figures come from its V2
        # weights: --cfg-options model.backbone.init_cfg.checkpoint=\
        #     https://download.pytorch.org/models/resnet50-11ad3fa6.pth
        # By address, since 'torchvision://resnet50' needs torchvision.
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth',
        ),
    ),
    neck=dict(
        type='ChannelMapper',
        in_channels=[512, 1024, 2048],
        kernel_size=1,
        out_channels=256,
        act_cfg=None,
        norm_cfg=dict(type='GN', num_groups=32),
        num_outs=num_levels,
    ),
    positional_encoding=dict(
        type='SinePositionalEncoding',
        num_feats=128,
        temperature=10000,
        normalize=True,
        offset=-0.5,
        eps=1e-6,
    ),
    salience_predictor=dict(type='SaliencePredictor', embed_dims=256, num_levels=num_levels),
    encoder=dict(
        type='HierarchicalFilteringEncoder',
        num_layers=6,
        layer_cfg=dict(
            num_dual_tokens=300,
            dual_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0),
            self_attn_cfg=dict(embed_dims=256, num_levels=num_levels, dropout=0.0),
            ffn_cfg=dict(embed_dims=256, feedforward_channels=2048, ffn_drop=0.0),
        ),
        # Section 3.2: shares of each level's tokens, and of those for each encoder layer.
        token_filter=dict(
            type='HierarchicalTokenFilter',
            level_ratios=(0.4, 0.8, 1.0, 1.0),
            layer_ratios=(1.0, 0.8, 0.6, 0.6, 0.4, 0.2),
        ),
        background_embedding=dict(
            type='AbsoluteBackgroundEmbedding', embed_dims=256, num_embeddings=200
        ),
    ),
    token_fusion=dict(type='CrossLevelTokenFusion', in_channels=256, num_levels=num_levels),
    query_selection=dict(type='QueryRedundancyNMS', iou_threshold=0.3, candidate_factor=4),
    decoder=dict(
        type='SalienceDecoder',
        num_layers=6,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0),
            cross_attn_cfg=dict(embed_dims=256, num_levels=num_levels, dropout=0.0),
            ffn_cfg=dict(embed_dims=256, feedforward_channels=2048, ffn_drop=0.0),
        ),
        post_norm_cfg=None,
    ),
    bbox_head=dict(
        type='SalienceDETRHead',
        num_classes=None,  # from the annotation files; loading takes it from the checkpoint
        embed_dims=256,
        sync_cls_avg_factor=True,
        loss_cls=dict(type='IoUAwareClassificationLoss', alpha=0.75, gamma=2.0, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
        loss_salience=dict(type='SalienceLoss', alpha=0.25, gamma=2.0, loss_weight=2.0),
    ),
    dn_cfg=dict(
        label_noise_scale=0.5,
        box_noise_scale=1.0,
        group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=100),
    ),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ],
        ),
        salience_assigner=dict(
            type='SalienceAssigner',
            # Without an end, in fact; a dumped config cannot hold an infinity.
            level_ranges=((-1, 64), (64, 128), (128, 256), (256, 1e8)),
        ),
    ),
    test_cfg=dict(max_per_img=300),
)
