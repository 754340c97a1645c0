# The same SE blocks, initialised so that they start as almost the identity:
# sigmoid(4) = 0.98 for every channel.
_base_ = 'finetune_se.py'

custom_imports = dict(
    imports=[
        'mmpartinit.demo.comparison',
        'mmpartinit.demo.blocks',
        'mmpartinit',
    ],
    allow_failed_imports=False,
)
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
    ),
    dict(type='MetricCurve'),
]
