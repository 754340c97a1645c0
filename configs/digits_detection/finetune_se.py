# The same with new SE blocks at the end of every residual branch of the
# backbone. Nobody initialises them: they start with PyTorch's defaults.
_base_ = 'finetune.py'

# `se_plugin.py` is beside this file: its folder must be on the Python path.
custom_imports = dict(
    imports=['mmpartinit.demo.comparison', 'se_plugin'],
    allow_failed_imports=False,
)
model = dict(
    backbone=dict(plugins=[dict(cfg=dict(type='SE'), position='after_conv3')])
)
