# The same with new SE blocks, which nobody initialises.
_base_ = 'finetune.py'

model = dict(backbone=dict(with_se=True))
