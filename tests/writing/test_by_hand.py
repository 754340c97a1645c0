"""Rules give what `initialize` gives by hand, bit for bit."""

import copy

import numpy as np
import pytest
import torch
import torch.nn as nn
from mmengine.model import BaseModule, initialize
from toy import same, snapshot

from mmpartinit import init_modules, module_seed

DENSE = ['Conv2d', 'Linear']
ALL = [*DENSE, 'LayerNorm', '_BatchNorm']
# Of some layers all, of some the weight, of some the bias.
LOADED = ('conv.weight', 'norm.bias', 'head.weight', 'head.bias', 'bn.weight')


class Block(BaseModule):
    """Layers of all kinds, small ones and one of many elements."""

    def __init__(self) -> None:
        super().__init__(init_cfg=dict(type='Normal', layer=ALL, std=0.5))
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.norm = nn.LayerNorm(8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 8)
        self.wide = nn.Linear(100, 100)
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Linear(8, 8))


def draw(module):
    """As a user may: from torch and from NumPy."""
    if isinstance(module, nn.Linear):
        nn.init.sparse_(module.weight, 0.5)
        module.bias.fill_(np.random.rand())


# The eight of MMEngine, and ours. Files are in a folder of the test's.
MMENGINES = [
    dict(type='Constant', layer=ALL, val=0.3, bias=-1.0),
    dict(type='Xavier', layer=DENSE, gain=2, distribution='uniform'),
    dict(type='Xavier', layer=DENSE, bias=0.1),
    dict(type='Normal', layer=ALL, mean=1.0, std=0.3),
    dict(type='TruncNormal', layer=ALL, std=0.02, a=-0.04, b=0.04),
    dict(type='Uniform', layer=ALL, a=-1.0, b=2.0),
    dict(type='Kaiming', layer=DENSE, mode='fan_in', bias=0.1),
    dict(type='Kaiming', layer='Linear', distribution='uniform', a=0.2),
    dict(type='Caffe2Xavier', layer=DENSE),
    dict(type='Pretrained', checkpoint='block.pth'),
    [
        dict(type='Kaiming', layer='Conv2d'),
        dict(type='TruncNormal', layer='Linear', std=0.02),
        dict(type='Constant', layer=['LayerNorm', '_BatchNorm'], val=1.0),
    ],
    dict(
        type='Normal',
        layer='Conv2d',
        override=dict(type='Uniform', name='inner', a=1.0, b=2.0),
    ),
]
OURS = [
    dict(type='Orthogonal', layer=DENSE, gain=2, bias=0.5),
    dict(type='Identity', layer=DENSE),
    dict(type='ResetParameters', layer=ALL),
    dict(type='AdaptedPretrained', checkpoint='block.pth'),
    dict(type='Apply', fn=draw),
    dict(type='InitWeights'),
]
IN_ANY_DTYPE = [
    cfg
    for cfg in MMENGINES
    if isinstance(cfg, list) or cfg['type'] != 'Pretrained'
]


def name_of(cfg):
    return cfg['type'] if isinstance(cfg, dict) else None


def check(cfg, dtype=torch.float32):
    """A rule on a block that is loaded in part, against the same by hand."""
    torch.manual_seed(11)
    model = nn.ModuleDict({'old': Block(), 'new': Block()}).to(dtype)
    expected = copy.deepcopy(model)
    start = snapshot(model)
    seed = module_seed(5, 'new')
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    with torch.no_grad():
        initialize(expected['new'], cfg)
        for name in LOADED:
            value = expected['new'].get_parameter(name)
            value.copy_(start[f'new.{name}'])
    loaded = {name for name in start if name.startswith('old.')}
    loaded.update(f'new.{name}' for name in LOADED)
    rules = [dict(path='new', init_cfg=cfg)]
    report = init_modules(model, rules, loaded=loaded, seed=5)
    assert report.rules[0].wrote
    after = model.state_dict()
    for name, value in expected.state_dict().items():
        # NumPy has no bfloat16; nothing is lost in more bits.
        assert after[name].dtype == value.dtype
        assert same(after[name].double(), value.double()), name
    written = {t.name for t in report.tensors if t.origin == 'rule'}
    for name in start.keys() - written:
        assert same(after[name].double(), start[name].double()), name


@pytest.mark.parametrize('cfg', [*MMENGINES, *OURS], ids=name_of)
def test_a_rule_gives_what_initialize_gives_by_hand(cfg, tmp_path):
    torch.save(Block().state_dict(), tmp_path / 'block.pth')
    if 'checkpoint' in cfg:
        cfg = dict(cfg, checkpoint=str(tmp_path / 'block.pth'))
    check(cfg)


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize('cfg', IN_ANY_DTYPE, ids=name_of)
def test_and_so_in_other_dtypes(cfg, dtype):
    check(cfg, dtype)
