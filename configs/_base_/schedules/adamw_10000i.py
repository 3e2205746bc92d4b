# For small sets, by iterations. Twelve epochs of a thousand images are 750 steps of 16, too few
# for one-to-one matching to settle, whereas COCO gives 90,000. 10,000 steps of 8 show each of a
# thousand images 80 times, and take as long whatever the number of images; the learning rate decays
# when four fifths are done. Rates are COCO's (batch 16) times sqrt(1/2), as is usual with AdamW.
# The warm-up takes 200 steps from 1/100 and not COCO's 1000 from 1/1000: most such trainings start
# from a COCO checkpoint, and 1000 steps would be a tenth of the training.
# From a COCO checkpoint (load_from) half the steps do.
_base_ = './adamw_12e.py'

max_iters = 10000

train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 10
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type='MultiStepLR', by_epoch=False, milestones=[max_iters * 4 // 5], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=7e-5))
auto_scale_lr = dict(base_batch_size=8)
