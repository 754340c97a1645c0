# The detector of the digits 3 to 9, trained on for all ten. Each of its
# classes keeps the rows that it had; 0, 1 and 2, which come first, start as
# the head starts them.
_base_ = 'finetune.py'

custom_imports = dict(
    imports=['mmpartinit.demo.comparison', 'mmpartinit'],
    allow_failed_imports=False,
)
load_from = 'work_dirs/digits_detection/pretrain_seven_seed0/weights.pth'
val_evaluator = dict(classwise=True)
custom_hooks = [
    dict(
        type='CustomModuleInitHook',
        modules=[
            dict(
                path='bbox_head',
                init_cfg=dict(
                    type='AdaptedPretrained',
                    checkpoint=load_from,
                    prefix='bbox_head',
                    # New names come from the dataset.
                    classes=dict(old=[*'3456789']),
                ),
            )
        ],
    ),
    dict(type='MetricCurve'),
]
