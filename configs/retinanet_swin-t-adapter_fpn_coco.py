# RetinaNet on Swin-T with an adapter in every block. mmdet's Swin loads its
# checkpoint by itself and never visits its children, so a module in there
# cannot initialise itself, and a list as `init_cfg` is refused.
_base_ = 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py'

custom_imports = dict(
    imports=['mmpartinit.demo.blocks', 'mmpartinit'],
    allow_failed_imports=False,
)

model = dict(backbone=dict(type='SwinWithAdapters', adapter_dims=16))

custom_hooks = [
    dict(
        type='CustomModuleInitHook',
        modules=[
            dict(
                path='backbone.stages.*.blocks.*.ffn.adapter',
                init_cfg=[
                    dict(type='TruncNormal', layer='Linear', std=0.02),
                    dict(type='Constant', layer='LayerNorm', val=1.0),
                ],
            ),
            # The adapter adds nothing at first.
            dict(
                path='backbone.**.adapter.up',
                init_cfg=dict(type='Constant', val=0.0),
            ),
        ],
    )
]
