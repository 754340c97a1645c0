# `retinanet_r50-se_fpn_coco.py` as a pure-Python config: classes instead of
# their names, in the hook's rules too. Whole, because mmdet's packages hold
# its configs as text only.
from mmcv.ops import nms
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import AspectRatioBatchSampler, CocoDataset
from mmdet.datasets.transforms import (
    LoadAnnotations,
    PackDetInputs,
    RandomFlip,
    Resize,
)
from mmdet.evaluation import CocoMetric
from mmdet.models import (
    FPN,
    DetDataPreprocessor,
    FocalLoss,
    L1Loss,
    ResNet,
    RetinaHead,
    RetinaNet,
)
from mmdet.models.task_modules import (
    AnchorGenerator,
    DeltaXYWHBBoxCoder,
    MaxIoUAssigner,
    PseudoSampler,
)
from mmengine.dataset import DefaultSampler
from mmengine.model import ConstantInit, KaimingInit, PretrainedInit
from mmengine.optim import LinearLR, MultiStepLR
from mmengine.runner import EpochBasedTrainLoop, ValLoop
from torch.optim import SGD

from mmpartinit import CustomModuleInitHook
from mmpartinit.demo.blocks import SE

default_scope = 'mmdet'

model = dict(
    type=RetinaNet,
    data_preprocessor=dict(
        type=DetDataPreprocessor,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type=ResNet,
        depth=50,
        out_indices=(0, 1, 2, 3),
        frozen_stages=0,
        norm_eval=True,
        plugins=[
            dict(
                cfg=dict(type=SE, ratio=16),
                stages=(True, True, True, True),
                position='after_conv3',
            )
        ],
        init_cfg=dict(
            type=PretrainedInit, checkpoint='torchvision://resnet50'
        ),
    ),
    neck=dict(
        type=FPN,
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        start_level=1,
        add_extra_convs='on_input',
        num_outs=5,
    ),
    bbox_head=dict(
        type=RetinaHead,
        num_classes=80,
        in_channels=256,
        anchor_generator=dict(
            type=AnchorGenerator,
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(type=DeltaXYWHBBoxCoder),
        loss_cls=dict(type=FocalLoss, use_sigmoid=True, gamma=2.0, alpha=0.25),
        loss_bbox=dict(type=L1Loss),
    ),
    train_cfg=dict(
        assigner=dict(
            type=MaxIoUAssigner,
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
        ),
        sampler=dict(type=PseudoSampler),
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type=nms, iou_threshold=0.5),
        max_per_img=100,
    ),
)

custom_hooks = [
    dict(
        type=CustomModuleInitHook,
        modules=[
            dict(
                path='backbone.layer*.*.se.fc1',
                init_cfg=dict(type=KaimingInit, layer='Linear'),
            ),
            dict(
                path='backbone.layer*.*.se.fc2',
                init_cfg=dict(type=ConstantInit, val=0.0, bias=4.0),
            ),
        ],
    )
]

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=True),
    batch_sampler=dict(type=AspectRatioBatchSampler),
    dataset=dict(
        type=CocoDataset,
        data_root='data/coco/',
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[
            dict(type=LoadImageFromFile),
            dict(type=LoadAnnotations, with_bbox=True),
            dict(type=Resize, scale=(1333, 800), keep_ratio=True),
            dict(type=RandomFlip, prob=0.5),
            dict(type=PackDetInputs),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=CocoDataset,
        data_root='data/coco/',
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=[
            dict(type=LoadImageFromFile),
            dict(type=Resize, scale=(1333, 800), keep_ratio=True),
            dict(type=LoadAnnotations, with_bbox=True),
            dict(
                type=PackDetInputs,
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                ),
            ),
        ],
    ),
)
val_evaluator = dict(
    type=CocoMetric,
    ann_file='data/coco/annotations/instances_val2017.json',
)
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=12)
val_cfg = dict(type=ValLoop)
optim_wrapper = dict(
    optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=0.0001)
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.001, by_epoch=False, end=500),
    dict(type=MultiStepLR, end=12, milestones=[8, 11]),
]
