"""Real mmdet models, from configs and through its own pipeline."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from test_hook import report_of, start_of
from toy import same

mmdet = pytest.importorskip('mmdet')
CONFIG = 'configs/faster-rcnn_r50_fpn_gcb_coco.py'


@pytest.fixture(scope='session')
def coco(tmp_path_factory):
    """Four images with a box each, in COCO's format."""
    root = tmp_path_factory.mktemp('coco')
    images, boxes = [], []
    rng = np.random.default_rng(0)
    for number in range(1, 5):
        picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f'{number}.jpg'), picture)
        images.append(
            dict(id=number, file_name=f'{number}.jpg', width=64, height=64)
        )
        boxes.append(
            dict(
                id=number,
                image_id=number,
                category_id=1,
                bbox=[8, 8, 40, 40],
                area=1600,
                iscrowd=0,
            )
        )
    (root / 'train.json').write_text(
        json.dumps(
            dict(
                images=images,
                annotations=boxes,
                categories=[dict(id=1, name='person')],
            )
        )
    )
    return root


def backbone_weights(cfg, path):
    """Stands for ImageNet weights: those of the backbone without plugins."""
    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    backbone = dict(cfg.model.backbone, init_cfg=None)
    backbone.pop('plugins', None)
    torch.manual_seed(1)
    state = MODELS.build(backbone).state_dict()
    torch.save(state, path)
    return state


def tiny(cfg, coco, work_dir):
    """The config, on four small images and for two iterations."""
    loader = cfg.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    loader.dataset.update(
        data_root=str(coco),
        ann_file='train.json',
        data_prefix=dict(img=''),
        filter_cfg=None,
        metainfo=dict(classes=('person',)),
    )
    for step in loader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (64, 64)
    for part in ('val', 'test'):
        for key in ('cfg', 'dataloader', 'evaluator'):
            cfg[f'{part}_{key}'] = None
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    cfg.param_scheduler = None
    cfg.default_hooks = dict(checkpoint=None)
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='Witness')]
    return cfg


def test_the_config_trains_from_pretrained_and_initialised_weights(
    coco, work_dir, tmp_path
):
    cfg = Config.fromfile(CONFIG)
    state = backbone_weights(cfg, tmp_path / 'r50.pth')
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'r50.pth')
    runner = Runner.from_cfg(tiny(cfg, coco, work_dir))
    runner.train()
    assert runner.iter == 2
    start = start_of(runner)
    for name, value in state.items():
        assert same(start[f'backbone.{name}'], value), name
    blocks = [name for name in start if 'context_block' in name]
    assert len(blocks) == 13 * 8
    for name in blocks:
        last = 'channel_add_conv.3' in name
        zero = last or name.endswith('bias')
        assert bool(start[name].eq(0).all()) is zero, name
    assert len(report_of(runner).rules[0].matched) == 13
