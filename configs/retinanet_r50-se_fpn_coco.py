# RetinaNet with an SE block at the end of every bottleneck's branch. Each
# block starts as almost the identity, sigmoid(4) = 0.98 for every channel, so
# that the network starts as good as its ImageNet weights are.
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'

custom_imports = dict(
    imports=['mmpartinit.demo.blocks', 'mmpartinit'],
    allow_failed_imports=False,
)

model = dict(
    backbone=dict(
        # mmdet's own 1 would freeze the new blocks of the first stage too.
        frozen_stages=0,
        plugins=[
            dict(
                cfg=dict(type='SE', ratio=16),
                stages=(True, True, True, True),
                position='after_conv3',
            )
        ],
    )
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
    )
]
