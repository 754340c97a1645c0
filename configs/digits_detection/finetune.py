# The pretrained detector as it is, trained on with 100 canvases of 100 digits
# that it has not seen.
_base_ = 'base.py'

custom_imports = dict(
    imports=['mmpartinit.demo.comparison'], allow_failed_imports=False
)
load_from = 'work_dirs/digits_detection/pretrain_seed0/weights.pth'
train_dataloader = dict(
    batch_size=10,
    dataset=dict(ann_file='few.json', data_prefix=dict(img='few/')),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=60, val_interval=10)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
custom_hooks = [dict(type='MetricCurve')]
