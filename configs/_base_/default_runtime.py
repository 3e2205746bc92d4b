custom_imports = dict(imports=['mmdet_salience'], allow_failed_imports=False)
default_scope = 'mmdet'
# Takes classes from the annotation files and checks the data before training.
runner_type = 'DataFittingRunner'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, save_best='coco/bbox_mAP'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
    non_finite=dict(type='NonFiniteLossHook', max_skips=0),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)

log_level = 'INFO'
load_from = None
resume = False  # 'auto': from the last complete checkpoint of the work folder
# Whether checkpoints may hold any Python object, which runs code as it is loaded.
trust_checkpoints = False
