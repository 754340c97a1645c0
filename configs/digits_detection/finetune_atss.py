# The weights of FCOS in the head of ATSS, whose last layers have other names.
# What is named alike, `load_from` brings; `conv_reg` says boxes in another way
# and is left out.
_base_ = 'finetune.py'

custom_imports = dict(
    imports=['mmpartinit.demo.comparison', 'mmpartinit'],
    allow_failed_imports=False,
)
load_from = 'work_dirs/digits_detection/pretrain_seed0/weights.pth'
model = dict(
    type='ATSS',
    bbox_head=dict(
        _delete_=True,
        type='ATSSHead',
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            octave_base_scale=2,
            scales_per_octave=1,
            strides=[8, 16],
        ),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]
        ),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(type='ATSSAssigner', topk=9),
        allowed_border=-1,
        pos_weight=-1,
    ),
)
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
                    revise_keys=[(r'^conv_(cls|centerness)', r'atss_\1')],
                ),
            )
        ],
    ),
    dict(type='MetricCurve'),
]
