# The plain network on all training images: the "pretrained weights".
_base_ = 'digits_base.py'

train_cfg = dict(by_epoch=False, max_iters=300, val_interval=300)
param_scheduler = dict(
    type='CosineAnnealingLR', by_epoch=False, T_max=300, eta_min=1e-5
)
