# Faster R-CNN from COCO's 80 classes to 3 others: everything comes from the
# trained detector, and the box head starts anew, by its own `init_cfg`. Its
# last layers would do that by themselves, for their shapes do not fit; the
# shared layers below them, which do fit, would not.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['mmpartinit'], allow_failed_imports=False)

load_from = 'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r50_fpn_1x_coco/faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth'  # noqa: E501

model = dict(
    backbone=dict(init_cfg=None),
    roi_head=dict(bbox_head=dict(num_classes=3)),
)

custom_hooks = [
    dict(
        type='CustomModuleInitHook',
        modules=[
            dict(
                path='roi_head.bbox_head',
                init_cfg=dict(type='InitWeights'),
                overwrite=True,
            )
        ],
    )
]
