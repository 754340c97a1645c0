"""Small heads of mmdet's, and the form of their rows for classes."""

import copy

import torch.nn as nn
from mmengine.config import ConfigDict
from mmengine.model import BaseModule

GFL = dict(
    type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0
)
NORM = dict(type='GN', num_groups=2)
SIZES = dict(in_channels=8, feat_channels=8)
ANCHORS = dict(
    type='AnchorGenerator',
    ratios=[1.0],
    octave_base_scale=8,
    scales_per_octave=1,
    strides=[8, 16, 32, 64, 128],
)
POINTS = dict(type='MlvlPointGenerator', strides=[8, 16])
SOFTMAX = dict(type='CrossEntropyLoss', use_sigmoid=False)
DII = dict(num_ffn_fcs=2, feedforward_channels=8, in_channels=8)

SSD = dict(
    type='SSDAnchorGenerator',
    scale_major=False,
    input_size=300,
    basesize_ratio_range=(0.15, 0.9),
    strides=[8, 16, 32, 64, 100, 300],
    ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
)

# Heads by their arguments.
DENSE = {
    'RetinaHead': dict(SIZES, stacked_convs=1),
    'retina with softmax': dict(
        SIZES, type='RetinaHead', stacked_convs=1, loss_cls=SOFTMAX
    ),
    'FCOSHead': dict(SIZES, stacked_convs=1, norm_cfg=None),
    'ATSSHead': dict(
        SIZES, stacked_convs=1, norm_cfg=NORM, anchor_generator=ANCHORS
    ),
    'GFLHead': dict(
        SIZES,
        stacked_convs=1,
        norm_cfg=NORM,
        anchor_generator=ANCHORS,
        loss_cls=GFL,
    ),
    'RTMDetHead': dict(
        SIZES, stacked_convs=1, norm_cfg=NORM, anchor_generator=POINTS
    ),
    'RTMDetSepBNHead': dict(
        SIZES, stacked_convs=1, share_conv=False, anchor_generator=POINTS
    ),
    'YOLOXHead': dict(SIZES, stacked_convs=1),
    'CenterNetHead': dict(SIZES),
    'SOLOHead': dict(SIZES, stacked_convs=1, norm_cfg=NORM),
}
QUERIES = {
    'DETRHead': dict(embed_dims=8, loss_cls=SOFTMAX),
    'ConditionalDETRHead': dict(
        embed_dims=8, loss_cls=dict(type='FocalLoss', use_sigmoid=True)
    ),
    'DeformableDETRHead': dict(
        embed_dims=8,
        num_pred_layer=2,
        share_pred_layer=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
    ),
    'DINOHead': dict(
        embed_dims=8,
        num_pred_layer=2,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
    ),
}
STAGES = {
    'Shared2FCBBoxHead': dict(
        in_channels=4, fc_out_channels=8, roi_feat_size=2
    ),
    'agnostic': dict(
        type='Shared2FCBBoxHead',
        in_channels=4,
        fc_out_channels=8,
        roi_feat_size=2,
        reg_class_agnostic=True,
    ),
    'DIIHead': dict(DII, loss_cls=dict(type='FocalLoss', use_sigmoid=True)),
    'FCNMaskHead': dict(in_channels=4, conv_out_channels=4, num_convs=1),
}
ALL = {**DENSE, **QUERIES, **STAGES}


def head_of(name, count, **others):
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    cfg = copy.deepcopy(dict(ALL[name], num_classes=count, **others))
    cfg.setdefault('type', name)
    model = BaseModule()
    model.bbox_head = MODELS.build(ConfigDict(cfg))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


FORMS = {
    'RetinaHead': (9, 0, 1),
    'retina with softmax': (9, 1, 1),
    'DETRHead': (1, 1, 1),
    'fc_cls': (1, 1, 1),
    'fc_reg': (1, 0, 4),
}


def form_of(name, key):
    if name in ('Shared2FCBBoxHead', 'agnostic'):
        return FORMS[key.split('.')[1]]
    return FORMS.get(name, (1, 0, 1))
