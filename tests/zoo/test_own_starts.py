"""Configs of mmdet's whose blocks start well by themselves, and one of ours
whose blocks do not: what a plan without rules says of them.
"""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmpartinit.command.look import look, read_config
from mmpartinit.command.planning import plan_config

pytestmark = pytest.mark.needs_mmdet
CONFIGS = Path(__file__).parents[2] / 'configs'


def plan(name, folder):
    """The plan of a config without rules, with made-up weights of a backbone
    that has nothing new."""
    cfg = read_config(name)
    cfg.custom_hooks = []
    plain = dict(cfg.model.backbone, init_cfg=None)
    for key in ('plugins', 'dcn', 'stage_with_dcn'):
        plain.pop(key, None)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmdet'):
        state = MODELS.build(plain).state_dict()
    file = str(folder / 'backbone.pth')
    torch.save({k: v * 0.5 + 1 for k, v in state.items()}, file)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=file)
    report = plan_config(look(cfg))
    assert report.origins()['file'] == len(state)
    assert report.origins()['built'] > 30
    return report


@pytest.mark.parametrize(
    'name',
    [
        'gcnet/mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco',
        'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco',
        'dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco',
        'empirical_attention/faster-rcnn_r50-attn1111-dcn_fpn_1x_coco',
    ],
)
def test_blocks_that_start_at_zero_by_themselves_are_no_news(name, tmp_path):
    report = plan(f'mmdet::{name}.py', tmp_path)
    assert [found.code for found in report.findings] == ['no-hook']


def test_blocks_that_nobody_starts_are(tmp_path):
    name = str(CONFIGS / 'retinanet_r50-se_fpn_coco.py')
    (found, _) = plan(name, tmp_path).findings
    assert (found.level, found.code) == ('warning', 'uncovered')
    assert len(found.names) == 16 * 4
    assert all('.se.fc' in name for name in found.names)
