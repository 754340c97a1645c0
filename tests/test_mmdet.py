"""Real mmdet models, from configs and through its own pipeline."""

import json

import cv2
import numpy as np
import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import (
    DATASETS,
    MODELS,
    DefaultScope,
    init_default_scope,
)
from mmengine.runner import Runner
from test_hook import hooks, report_of, start_of
from torch.utils.data import Dataset
from toy import build_runner, same

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


@MODELS.register_module()
class BackboneModel(BaseModel):
    """A real backbone of mmdet's, trained to make its features small."""

    def __init__(self, backbone) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.extra = nn.Linear(1, 1)

    def forward(self, inputs, labels=None, mode='tensor'):
        features = self.backbone(inputs)
        loss = sum(feature.square().mean() for feature in features)
        return dict(loss=self.extra(loss.view(1, 1)).square().mean())


@DATASETS.register_module()
class Noise(Dataset):
    metainfo = {}

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return dict(inputs=torch.randn(3, 64, 64))


RESNET = dict(type='mmdet.ResNet', depth=18)
SWIN = dict(
    type='mmdet.SwinTransformer',
    embed_dims=8,
    depths=(1, 1),
    num_heads=(1, 2),
    strides=(4, 2),
    out_indices=(0, 1),
)
PVT = dict(
    type='mmdet.PyramidVisionTransformer',
    embed_dims=8,
    num_stages=2,
    num_layers=(1, 1),
    num_heads=(1, 2),
    patch_sizes=(4, 2),
    strides=(4, 2),
    paddings=(0, 0),
    sr_ratios=(4, 2),
    out_indices=(0, 1),
    pretrain_img_size=64,
)


def build_alone(backbone):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(backbone)


@pytest.mark.parametrize('ema', [False, True], ids=['plain', 'EMAHook'])
@pytest.mark.parametrize('through', ['Pretrained', 'load_from'])
@pytest.mark.parametrize(
    'backbone', [RESNET, SWIN, PVT], ids=['ResNet', 'Swin', 'PVT']
)
def test_what_mmdets_backbones_load_is_known_and_kept(
    backbone, through, ema, work_dir, tmp_path
):
    """Swin and PVT load by themselves, in ways of their own."""
    init_default_scope('mmdet')
    torch.manual_seed(1)
    state = build_alone(backbone).state_dict()
    # Something is missing, and something has another shape.
    names = [n for n, v in state.items() if n.endswith('.weight')]
    missing, mismatched = names[-1], names[-2]
    file = {k: v for k, v in state.items() if k != missing}
    if backbone is SWIN and through == 'Pretrained':
        mismatched = missing  # its own loader stops at another shape
    else:
        file[mismatched] = torch.zeros(5, 4)
    path = str(tmp_path / 'backbone.pth')
    cfg = dict(backbone)
    if through == 'Pretrained':
        cfg['init_cfg'] = dict(type='Pretrained', checkpoint=path)
    if through == 'load_from' or backbone is SWIN:  # which takes such keys
        file = {f'backbone.{k}': v for k, v in file.items()}
    torch.save(dict(state_dict=file), path)
    rule = dict(path='backbone', init_cfg=dict(type='Constant', val=0.25))
    custom_hooks = hooks(rule)
    if ema:
        custom_hooks.insert(0, dict(type='EMAHook'))
    runner = build_runner(
        work_dir,
        model=dict(type='BackboneModel', backbone=cfg),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='Noise'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
        default_scope='mmdet',
        custom_hooks=custom_hooks,
        load_from=path if through == 'load_from' else None,
    )
    runner.train()
    start = start_of(runner)
    origins = {t.name: t.origin for t in report_of(runner).tensors}
    for name, value in state.items():
        if name in (missing, mismatched):
            assert origins[f'backbone.{name}'] == 'rule', name
            assert start[f'backbone.{name}'].eq(0.25).all(), name
        else:
            assert origins[f'backbone.{name}'] == 'checkpoint', name
            assert same(start[f'backbone.{name}'], value), name
