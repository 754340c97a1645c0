"""`mmpartinit check` on the project's own detectors, beside mmdet's.

With stand-ins for the checkpoints: what a network computes from any weights
is what it must still compute.
"""

import json
from pathlib import Path

import pytest
import torch
import torch.nn as nn

pytestmark = pytest.mark.needs_mmdet
ROOT = Path(__file__).parents[2]
RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
# What mmdet's detectors of many kinds can be run by, without weights.
KINDS = {
    'retinanet/retinanet_r50_fpn_1x_coco': "mode='tensor'",
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco': "mode='tensor'",
    'detr/detr_r50_8xb2-150e_coco': "mode='tensor'",
    'yolox/yolox_tiny_8xb8-300e_coco': "mode='tensor'",
    'ssd/ssd300_coco': "mode='tensor'",
    'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco': 'extract_feat',
}


def resnet(path):
    """Weights of a ResNet, with statistics as training leaves them."""
    from mmdet.models import ResNet

    torch.manual_seed(1)
    model = ResNet(50, norm_eval=False, frozen_stages=-1)
    model.train()
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of what it sees
            # Branches that are small beside what they are added to, as
            # training has them: else each layer doubles a change.
            size = 0.2 if name.endswith('bn3') else 1.0
            nn.init.uniform_(module.weight, 0.7 * size, 1.3 * size)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    with torch.no_grad():
        model(torch.randn(2, 3, 128, 128))
    torch.save(model.state_dict(), path)
    return f'model.backbone.init_cfg.checkpoint={path}'


def test_retinanet_with_se_blocks(tmp_path, command):
    weights = resnet(tmp_path / 'r50.pth')
    config = ROOT / 'configs' / 'retinanet_r50-se_fpn_coco.py'

    def check(*words, changes=()):
        done = command(
            *['check', config, '--base', RETINANET, '--json', 'drift.json'],
            *['--cfg-options', weights, *changes],
            *['--base-options', weights, *words],
            cwd=tmp_path,
        )
        assert done.returncode < 2, done.stderr
        return done, json.loads((tmp_path / 'drift.json').read_text())

    done, found = check('--tolerance', '20')
    assert done.returncode == 0, done.stdout
    parts = {part['path']: part for part in found['parts']}
    assert len(parts) == 106
    behind = [part for path, part in parts.items() if 'layer1.0' not in path]
    # Each of 15 gates takes 2 % of a branch.
    assert all(0.001 < part['drift'] < 0.2 for part in behind[2:])
    assert all(p['without_rules'] > 2 * p['drift'] for p in behind[2:])
    assert not any(part['unsteady'] for part in behind)
    assert not any(p['drift'] for p in found['parts'] if p not in behind)
    assert not found['not_loaded'] and not found['not_called']

    done, found = check(changes=['custom_hooks=[]'])
    assert done.returncode == 1
    assert found['first'] == 'backbone.layer1.1.conv1'
    assert found['behind'] == ['backbone.layer1.0.se']
    assert 'departs first' in done.stdout


@pytest.mark.parametrize('name', list(KINDS))
def test_networks_of_many_kinds_can_be_run(name):
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmpartinit.start import build_model
    from mmpartinit.trial.network import Network

    torch.manual_seed(0)
    cfg = Config.fromstring(f"_base_ = 'mmdet::{name}.py'", '.py')
    init_default_scope('mmdet')
    network = Network(build_model(cfg), cfg)
    assert network.way == KINDS[name]
    assert network.shape[0] == 2
