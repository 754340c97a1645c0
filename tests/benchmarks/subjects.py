"""The models and rules that are measured."""

import os.path as osp

import mmdet
import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

BLOCKS = 'backbone.layer{2,3,4}.*.context_block'
BLOCK_CFG = [
    dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
    dict(type='Constant', layer='LayerNorm', val=1),
]
LAST_CFG = dict(type='Constant', layer='Conv2d', val=0)
RULES = [
    dict(path=BLOCKS, init_cfg=BLOCK_CFG),
    dict(path=f'{BLOCKS}.channel_add_conv.3', init_cfg=LAST_CFG),
]


def detector_cfg() -> Config:
    """mmdet's Mask R-CNN R50 with global context blocks (GCNet, r4)."""
    root = osp.join(osp.dirname(mmdet.__file__), '.mim', 'configs')
    return Config.fromfile(
        osp.join(root, 'gcnet', 'mask-rcnn_r50-gcb-r4-c3-c5_fpn_1x_coco.py')
    )


def detector() -> nn.Module:
    """That model, with 54 M parameters, 10 M of them in 13 new blocks."""
    init_default_scope('mmdet')
    return MODELS.build(detector_cfg().model)


def pretrained(model: nn.Module) -> dict:
    """The state dict of the same model without the blocks."""
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if 'context_block' not in name
    }


class Block(nn.Module):
    """Eight modules, two of them in a new adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(1)
        self.query = nn.Linear(1, 1)
        self.value = nn.Linear(1, 1)
        self.project = nn.Linear(1, 1)
        self.adapter = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))


def tree(modules: int) -> nn.Module:
    """A model of many modules, without values worth speaking of."""
    blocks = (modules - 11) // 8
    model = nn.Module()
    model.stages = nn.ModuleList(
        nn.Sequential(*(Block() for _ in range(blocks // 10)))
        for _ in range(9)
    )
    left = blocks - 9 * (blocks // 10)
    model.stages.append(nn.Sequential(*(Block() for _ in range(left))))
    rest = modules - sum(1 for _ in model.modules())
    for number in range(rest):
        model.add_module(f'extra{number}', nn.Linear(1, 1))
    assert sum(1 for _ in model.modules()) == modules
    return model


def tree_rules(count: int, blocks: int) -> list:
    """Rules on the adapters of :func:`tree`, written in four ways."""
    forms = (
        'stages.{stage}.{block}.adapter',
        'stages.{stage}.{block}.adapter.[01]',
        'stages.*.{block}.adapter.{{0,1}}',
        'stages.{stage}.**.{block}.adap*',
    )
    return [
        dict(
            path=forms[number % 4].format(
                stage=number // 4 % 9, block=number // 4 % blocks
            ),
            init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
        )
        for number in range(count)
    ]
