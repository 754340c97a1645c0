# Faster R-CNN R50 with global context blocks (GCNet) in the stages 3 to 5.
# The backbone's weights come from ImageNet; the blocks are new, and start so
# that they add nothing to the features that they are put behind.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['mmpartinit'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='ContextBlock', ratio=1.0 / 16),
                stages=(False, True, True, True),
                position='after_conv3',
            )
        ]
    )
)

custom_hooks = [
    dict(
        type='CustomModuleInitHook',
        modules=[
            dict(
                path='backbone.layer{2,3,4}.*.context_block',
                init_cfg=[
                    dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
                    dict(type='Constant', layer='LayerNorm', val=1),
                ],
            ),
            # The last convolution of each block, so that it starts at zero.
            dict(
                path='backbone.layer{2,3,4}.*.context_block.channel_add_conv.3',
                init_cfg=dict(type='Constant', val=0),
            ),
        ],
    )
]
