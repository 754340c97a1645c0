# The pretrained network as it is, trained on with 100 images.
_base_ = 'digits_base.py'

load_from = 'work_dirs/digits/pretrain_seed0/weights.pth'
train_dataloader = dict(batch_size=20, dataset=dict(split='few'))
train_cfg = dict(by_epoch=False, max_iters=60, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
custom_hooks = [dict(type='MetricCurve')]
