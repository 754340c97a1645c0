# Only the new SE blocks train: what was loaded stays bit for bit.
_base_ = 'finetune_se_hook.py'

custom_hooks = [
    dict(
        type='CustomModuleInitHook',
        modules=[
            dict(
                path='backbone.layer*.*.se.fc1',
                init_cfg=dict(type='Kaiming', layer='Linear'),
            ),
            dict(
                path='backbone.layer*.*.se.fc2',
                init_cfg=dict(type='Constant', val=0.0, bias=4.0),
            ),
        ],
        freeze='loaded',
    ),
    dict(type='MetricCurve'),
]
# There is little to train, so that larger steps do.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
find_unused_parameters = True  # of DDP
