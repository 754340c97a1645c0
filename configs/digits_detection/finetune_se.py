# The same with new SE blocks at the end of every residual branch of the
# backbone. Nobody initialises them: they start with PyTorch's defaults.
_base_ = 'finetune.py'

custom_imports = dict(
    imports=['mmpartinit.demo.comparison', 'mmpartinit.demo.blocks'],
    allow_failed_imports=False,
)
model = dict(
    backbone=dict(plugins=[dict(cfg=dict(type='SE'), position='after_conv3')])
)
