# Focus-DETR with ResNet-50 on C3..C5, from the modules of Salience DETR.
_base_ = './salience_detr_r50.py'

model = dict(
    type='FocusDETR',
    encoder=dict(
        # One budget for all levels.
        token_filter=dict(
            _delete_=True,
            type='GlobalTokenFilter',
            ratio=0.5,
            extra=1,
            layer_ratios=(1.0, 0.8, 0.6, 0.6, 0.4, 0.2),
        ),
        background_embedding=None,
    ),
    token_fusion=None,
    query_selection=dict(_delete_=True, type='TopQuerySelection'),
    bbox_head=dict(
        loss_cls=dict(
            _delete_=True,
            type='FocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            alpha=0.25,
            loss_weight=1.0,
        ),
        loss_salience=dict(type='ForegroundLoss', alpha=0.25, gamma=2.0, loss_weight=1.5),
    ),
    train_cfg=dict(salience_assigner=dict(type='ForegroundAssigner')),
)
