"""Values do not depend on how a tensor lies in memory."""

from itertools import product

import pytest
import torch
import torch.nn as nn
from toy import same

from mmpartinit import init_modules

DRAWN = [
    dict(type='Orthogonal'),
    dict(type='Orthogonal', gain=2, layer='Conv2d'),
    dict(type='Normal', std=0.1, bias=1),
    dict(type='Kaiming', distribution='uniform'),
    dict(type='Xavier'),
    dict(type='Apply', fn=lambda layer: nn.init.orthogonal_(layer.weight)),
    dict(type='ResetParameters'),
]


def channels_last(conv):
    conv.to(memory_format=torch.channels_last)


def permuted(conv):
    conv.weight.data = conv.weight.data.permute(3, 1, 2, 0).contiguous()
    conv.weight.data = conv.weight.data.permute(3, 1, 2, 0)


def strided(conv):
    conv.weight.data = torch.zeros(6, 4, 3, 6)[..., ::2]


def transposed(linear):
    linear.weight.data = linear.weight.data.t().contiguous().t()


def fits(init_cfg, lay, path):
    """Whether an initializer has something to write there."""
    if 'layer' in init_cfg:  # a Conv2d
        return path == '0' and lay is not transposed
    return path == '0' or init_cfg['type'] != 'ResetParameters'


@pytest.mark.parametrize(
    'init_cfg, lay, path',
    [
        case
        for case in product(
            DRAWN,
            (channels_last, permuted, strided, transposed),
            ('0', '0.weight'),
        )
        if fits(*case)
    ],
    ids=lambda part: part['type'] if isinstance(part, dict) else None,
)
def test_the_same_values_are_drawn_in_any_layout(init_cfg, lay, path):
    def layer():
        return nn.Linear(5, 6) if lay is transposed else nn.Conv2d(4, 6, 3)

    plain, other = nn.Sequential(layer()), nn.Sequential(layer())
    lay(other[0])
    other[0].load_state_dict(plain[0].state_dict())
    strides, place = other[0].weight.stride(), other[0].weight.data_ptr()
    assert strides != plain[0].weight.stride()
    rule = dict(path=path, init_cfg=init_cfg)
    reports = [init_modules(model, [rule], seed=3) for model in (plain, other)]
    for value, expected in zip(other.parameters(), plain.parameters()):
        assert same(value, expected)
    assert other[0].weight.stride() == strides
    assert other[0].weight.data_ptr() == place
    assert reports[0].rules[0].wrote == reports[1].rules[0].wrote


def test_a_loaded_weight_keeps_its_layout_and_its_bits():
    model = nn.Sequential(nn.Conv2d(4, 6, 3))
    model.to(memory_format=torch.channels_last)
    before, strides = model[0].weight.clone(), model[0].weight.stride()
    rule = dict(path='0', init_cfg=dict(type='Normal', bias=1))
    init_modules(model, [rule], loaded='0.weight')
    assert same(model[0].weight, before)
    assert model[0].weight.stride() == strides
    assert model[0].bias.eq(1).all()
