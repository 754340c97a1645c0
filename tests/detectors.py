"""Six small detectors of mmdet's, on canvases of real digits."""

import json
import os.path as osp
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from pages import ROOT

BASE = ROOT / 'configs' / 'digits_detection' / 'base.py'
FOCAL = dict(type='FocalLoss', use_sigmoid=True, loss_weight=1.0)
L1 = dict(type='L1Loss', loss_weight=1.0)
ANCHORS = dict(
    type='AnchorGenerator', scales=[2], ratios=[1.0], strides=[8, 16]
)
CODER = dict(type='DeltaXYWHBBoxCoder')
MAX_IOU = dict(
    type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0.3
)
RANDOM = dict(
    type='RandomSampler', num=64, pos_fraction=0.5, add_gt_as_proposals=True
)
NMS = dict(type='nms', iou_threshold=0.5)
TEST = dict(nms_pre=200, score_thr=0.05, nms=NMS, max_per_img=20)


def _of_one_stage(kind, head, **others):
    return dict(type=kind, bbox_head=head, test_cfg=TEST, **others)


def _of_two_stages(kind, **mask):
    return dict(
        type=kind,
        rpn_head=dict(
            type='RPNHead',
            in_channels=64,
            feat_channels=64,
            anchor_generator=ANCHORS,
            bbox_coder=CODER,
        ),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=_rois(4),
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=64,
                fc_out_channels=128,
                roi_feat_size=4,
                bbox_coder=dict(CODER, target_stds=[0.1, 0.1, 0.2, 0.2]),
            ),
            **mask,
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=dict(MAX_IOU, match_low_quality=True),
                sampler=dict(RANDOM, add_gt_as_proposals=False),
                pos_weight=-1,
                allowed_border=-1,
            ),
            rpn_proposal=dict(nms_pre=200, max_per_img=60, nms=NMS),
            rcnn=dict(
                assigner=dict(MAX_IOU, neg_iou_thr=0.5),
                sampler=RANDOM,
                pos_weight=-1,
                mask_size=8,
            ),
        ),
        test_cfg=dict(
            rpn=dict(nms_pre=200, max_per_img=60, nms=NMS),
            rcnn=dict(
                score_thr=0.05, nms=NMS, max_per_img=20, mask_thr_binary=0.5
            ),
        ),
    )


def _rois(size):
    return dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=0),
        out_channels=64,
        featmap_strides=[8, 16],
        finest_scale=32,
    )


# As wide as mmdet's code of a place is.
_ATTENTION = dict(embed_dims=256, num_heads=4, dropout=0.0)
_DEFORMABLE = dict(embed_dims=256, num_levels=2, num_heads=4, dropout=0.0)
_FFN = dict(embed_dims=256, feedforward_channels=128, ffn_drop=0.0)
_SIZES = dict(in_channels=64, feat_channels=64)

MODELS = {
    'Faster R-CNN': _of_two_stages('FasterRCNN'),
    'Mask R-CNN': _of_two_stages(
        'MaskRCNN',
        mask_roi_extractor=_rois(4),
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=1,
            in_channels=64,
            conv_out_channels=32,
        ),
    ),
    'RetinaNet': _of_one_stage(
        'RetinaNet',
        dict(
            _SIZES,
            type='RetinaHead',
            stacked_convs=1,
            anchor_generator=dict(
                ANCHORS, scales=[2, 3], ratios=[0.7, 1.0, 1.4]
            ),
            bbox_coder=CODER,
        ),
        train_cfg=dict(assigner=MAX_IOU, allowed_border=-1, pos_weight=-1),
    ),
    'FCOS': dict(),  # as the configs have it
    'RTMDet': _of_one_stage(
        'RTMDet',
        dict(
            _SIZES,
            type='RTMDetSepBNHead',
            stacked_convs=1,
            share_conv=True,
            pred_kernel_size=1,
            anchor_generator=dict(
                type='MlvlPointGenerator', offset=0, strides=[8, 16]
            ),
            bbox_coder=dict(type='DistancePointBBoxCoder'),
            loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0),
            loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        ),
        train_cfg=dict(
            assigner=dict(type='DynamicSoftLabelAssigner', topk=9),
            allowed_border=-1,
            pos_weight=-1,
        ),
    ),
    'DINO': dict(
        type='DINO',
        num_queries=30,
        with_box_refine=True,
        as_two_stage=True,
        num_feature_levels=2,
        encoder=dict(
            num_layers=1,
            layer_cfg=dict(self_attn_cfg=_DEFORMABLE, ffn_cfg=_FFN),
        ),
        decoder=dict(
            num_layers=2,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=_ATTENTION,
                cross_attn_cfg=_DEFORMABLE,
                ffn_cfg=_FFN,
            ),
            post_norm_cfg=None,
        ),
        positional_encoding=dict(num_feats=128, normalize=True),
        bbox_head=dict(
            type='DINOHead',
            embed_dims=256,
            sync_cls_avg_factor=True,
            loss_cls=FOCAL,
            loss_bbox=dict(L1, loss_weight=5.0),
            loss_iou=dict(type='GIoULoss', loss_weight=2.0),
        ),
        dn_cfg=dict(
            label_noise_scale=0.5,
            box_noise_scale=1.0,
            group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=20),
        ),
        train_cfg=dict(
            assigner=dict(
                type='HungarianAssigner',
                match_costs=[
                    dict(type='FocalLossCost', weight=2.0),
                    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                    dict(type='IoUCost', iou_mode='giou', weight=2.0),
                ],
            )
        ),
        test_cfg=dict(max_per_img=30),
    ),
}


def runner_of(name, work_dir, classes, iterations, known, **changes):
    """A Runner of a detector with its own classes, that is judged by what it
    has learnt by heart.

    The data are in ``work_dir``; ``known`` are all of their classes.
    """
    init_default_scope('mmdet')
    data = osp.join(str(work_dir), 'data', '')
    file = _renumbered(data, classes, known)
    cfg = Config.fromfile(BASE)
    if MODELS[name]:
        kept = {key: cfg.model[key] for key in ('backbone', 'neck')}
        kept['data_preprocessor'] = cfg.model.data_preprocessor
        if name == 'DINO':
            kept['neck']['out_channels'] = 256
        if name == 'Mask R-CNN':
            kept['data_preprocessor']['pad_mask'] = True
        cfg.model = dict(kept, **MODELS[name])
    cfg.model.backbone.norm_eval = False
    for part in (cfg.model, cfg.model.get('roi_head', {})):
        for key in ('bbox_head', 'mask_head'):
            if key in part:
                part[key].num_classes = len(classes)
    cfg.merge_from_dict(
        {
            'work_dir': osp.join(str(work_dir), f'of_{len(classes)}'),
            'experiment_name': f'of_{len(classes)}_{id(changes)}',
            'train_cfg': dict(
                type='IterBasedTrainLoop',
                max_iters=iterations,
                val_interval=iterations + 1,
            ),
            'val_evaluator.ann_file': file,
            'val_evaluator.outfile_prefix': f'{data}of_{len(classes)}',
            **changes,
        }
    )
    for part in ('train', 'val'):
        loader = cfg[f'{part}_dataloader']
        loader.dataset.update(
            data_root=data,
            data_prefix=dict(img='train/'),
            ann_file=file,
            metainfo=dict(classes=tuple(classes)),
        )
        for step in loader.dataset.pipeline:
            if step['type'] == 'LoadAnnotations':
                step['with_mask'] = name == 'Mask R-CNN'
    return Runner.from_cfg(cfg)


def _renumbered(data, classes, known):
    """Number the classes in their order, as mmdet takes that of the file and
    not of ``classes``; and give boxes a mask each.
    """
    whole = json.loads(Path(f'{data}train.json').read_text())
    order = [*classes, *(name for name in known if name not in classes)]
    for entry in whole['categories']:
        entry['id'] = order.index(entry['name'])
    whole['categories'].sort(key=lambda entry: entry['id'])
    for entry in whole['annotations']:
        entry['category_id'] = order.index(str(entry['category_id']))
        x, y, width, height = entry['bbox']
        right, low = x + width, y + height
        entry['segmentation'] = [[x, y, right, y, right, low, x, low]]
    file = f'{data}train{len(classes)}.json'
    Path(file).write_text(json.dumps(whole))
    return file


def average_precisions(runner, names):
    """Of some of the classes, by their names; -1 where there are none."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    runner.val_loop.run()
    evaluator = runner.cfg.val_evaluator
    truth = COCO(evaluator.ann_file)
    found = truth.loadRes(f'{evaluator.outfile_prefix}.bbox.json')
    evaluation = COCOeval(truth, found, 'bbox')
    evaluation.params.catIds = [
        truth.getCatIds(catNms=[name])[0] for name in names
    ]
    evaluation.evaluate()
    evaluation.accumulate()
    # By overlap, recall, class, area (all) and number of boxes (the most).
    return evaluation.eval['precision'][:, :, :, 0, -1].mean((0, 1))
