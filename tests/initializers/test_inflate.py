"""AdaptedPretrained: kernels of 2-D networks in 3-D ones."""

import pytest
import torch
import torch.nn as nn
from mmengine.model import initialize
from toy import same
from videos import PAIRS, as_mmaction2, resnet50

from mmpartinit import AdaptedPretrained, RuleError, init_modules, plan_init


@pytest.fixture
def flat(tmp_path):
    """The file of a 2-D ResNet-50, and its tensors."""
    state = resnet50(2).state_dict()
    torch.save(state, tmp_path / 'r50.pth')
    return str(tmp_path / 'r50.pth'), state


def test_mean_is_bit_for_bit_what_mmaction2_makes(flat):
    file, state = flat
    model = nn.ModuleDict(dict(backbone=resnet50(3)))
    cfg = dict(type='AdaptedPretrained', checkpoint=file, revise_keys=PAIRS)
    report = init_modules(model, [dict(path='backbone', init_cfg=cfg)])
    expected = as_mmaction2(model['backbone'], state)
    assert expected.keys() == model['backbone'].state_dict().keys()
    assert len(expected) == 53 * 6
    for name, value in expected.items():
        assert same(model['backbone'].state_dict()[name], value), name
    assert len(report.rules[0].wrote) == len(expected)
    longer = [
        v for n, v in expected.items() if v.dim() == 5 and v.shape[2] > 1
    ]
    assert len(longer) > 5


@pytest.mark.parametrize('length', [1, 2, 3, 4, 5])
def test_both_ways_by_hand(tmp_path, length):
    layer = nn.Conv2d(2, 4, 3, groups=2)
    torch.save(layer.state_dict(), tmp_path / 'w.pth')
    for inflate in ('mean', 'center'):
        new = nn.Conv3d(2, 4, (length, 3, 3), groups=2)
        file = str(tmp_path / 'w.pth')
        AdaptedPretrained(file, inflate=inflate)(new)
        for time in range(length):
            expected = layer.weight / length
            if inflate == 'center':
                expected = layer.weight * (time == length // 2)
            assert new.weight[:, :, time].equal(expected)
        assert new.bias.equal(layer.bias)
        # A clip that stands still gives what the image gives.
        image = torch.randn(1, 2, 5, 5)
        clip = image.unsqueeze(2).expand(-1, -1, length, -1, -1)
        torch.testing.assert_close(new(clip)[:, :, 0], layer(image))


@pytest.mark.parametrize('channels', ['repeat', 'mean', 'zero', [2, 1, 0, 0]])
def test_other_channels_as_well(tmp_path, channels):
    old, wide = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
    torch.save(old.state_dict(), tmp_path / 'w.pth')
    file = str(tmp_path / 'w.pth')
    AdaptedPretrained(file, channels=channels)(wide)
    for inflate in ('mean', 'center'):
        new = nn.Conv3d(4, 4, 3)
        AdaptedPretrained(file, channels=channels, inflate=inflate)(new)
        expected = wide.weight.unsqueeze(2).repeat(1, 1, 3, 1, 1) / 3
        if inflate == 'center':
            expected[:] = 0
            expected[:, :, 1] = wide.weight
        torch.testing.assert_close(new.weight, expected)


@pytest.mark.parametrize(
    'old, new',
    [
        (nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, (3, 5, 5))),
        (nn.Conv2d(3, 4, 3), nn.Conv3d(3, 6, 3)),
        (nn.Conv1d(3, 4, 3), nn.Conv3d(3, 4, 3)),
        (nn.Conv1d(3, 4, 3), nn.Conv2d(3, 4, 3)),
        (nn.Conv3d(3, 4, 3), nn.Conv2d(3, 4, 3)),
        (nn.ConvTranspose2d(3, 4, 3), nn.ConvTranspose3d(3, 4, 3)),
    ],
    ids=lambda layer: str(layer)[:30],
)
def test_what_cannot_be_inflated_is_an_error(tmp_path, old, new):
    torch.save(old.state_dict(), tmp_path / 'w.pth')
    file = str(tmp_path / 'w.pth')
    with pytest.raises(
        ValueError, match='weight has the shape .* be made 3-D'
    ):
        initialize(new, dict(type='AdaptedPretrained', checkpoint=file))


@pytest.mark.parametrize('inflate', ['centre', None, 3, ['mean']])
def test_the_way_is_checked_when_the_rule_is_read(inflate):
    cfg = dict(type='AdaptedPretrained', checkpoint='x.pth', inflate=inflate)
    with pytest.raises(
        RuleError, match="`inflate` is 'mean' or 'center', not"
    ):
        plan_init(nn.Linear(1, 1), [dict(path='none', init_cfg=cfg)])
