"""AdaptedPretrained: checkpoints with another number of input channels."""

import copy
import pickle

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.model import BaseModule, initialize
from mmengine.registry import MODELS
from toy import (
    ToyBackbone,
    ToyModel,
    build_runner,
    hooks,
    report_of,
    same,
    snapshot,
    start_of,
)

from mmpartinit import (
    AdaptedPretrained,
    RuleError,
    init_modules,
    plan_init,
    record_loads,
)

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def net(layer, **others):
    return nn.ModuleDict(dict(stem=layer, **others))


def save(path, state):
    torch.save(dict(state_dict=state), str(path))
    return str(path)


def adapted(file, **others):
    return dict(type='AdaptedPretrained', checkpoint=file, **others)


def loaded(tmp_path, old, new, channels):
    """Load the weights of one layer into another."""
    file = save(tmp_path / 'old.pth', net(old).state_dict())
    initialize(net(new), adapted(file, channels=channels))
    return old.weight, new.weight


# AdaptedPretrained: the arithmetic.


def test_each_mode_is_what_one_writes_by_hand(tmp_path):
    weight = torch.tensor([[1.0, 2.0, 6.0], [10.0, 20.0, 60.0]])[..., None]
    file = save(tmp_path / 'old.pth', {'weight': weight})
    by_hand = {
        'repeat': [0.6, 1.2, 3.6, 0.6, 1.2],  # times 3 / 5
        'mean': [1, 2, 6, 3, 3],
        'zero': [1, 2, 6, 0, 0],
        (2, 1, 0, 0, 2): [6, 2, 1, 1, 6],
    }
    fewer = {'repeat': [1.5, 3], (2, 2): [6, 6]}
    for channels, row in [*by_hand.items(), *fewer.items()]:
        layer = nn.Conv1d(len(row), 2, 1, bias=False)
        initialize(layer, adapted(file, channels=channels))
        expected = torch.tensor([row, [10.0 * x for x in row]])[..., None]
        torch.testing.assert_close(layer.weight.detach(), expected)


@pytest.mark.parametrize('dims', [1, 2, 3])
@pytest.mark.parametrize('channels', ['repeat', 'mean', 'zero', [2, 0, 1, 1]])
def test_convolutions_of_any_dimension_are_adapted(tmp_path, dims, channels):
    layers = CONV[dims](3, 4, 3), CONV[dims](4, 4, 3)
    old, new = loaded(tmp_path, *layers, channels)
    if isinstance(channels, list):
        expected = [old[:, c] for c in channels]
    elif channels == 'repeat':
        expected = [old[:, c] * 0.75 for c in (0, 1, 2, 0)]
    else:
        mean = (old[:, 0] + old[:, 1] + old[:, 2]) / 3
        last = mean if channels == 'mean' else torch.zeros_like(mean)
        expected = [old[:, 0], old[:, 1], old[:, 2], last]
    torch.testing.assert_close(new, torch.stack(expected, 1))
    assert same(layers[1].bias, layers[0].bias)


def test_each_group_is_adapted_by_itself(tmp_path):
    """Two RGB images side by side become two with depth."""
    layers = [nn.Conv2d(c, 4, 3, groups=2).double() for c in (6, 8)]
    loaded(tmp_path, *layers, 'zero')
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    old, new = layers
    torch.testing.assert_close(new(x), old(x[:, [0, 1, 2, 4, 5, 6]]))


def test_repeat_keeps_the_size_of_activations(tmp_path):
    layers = nn.Conv2d(3, 4, 3), nn.Conv2d(6, 4, 3)
    loaded(tmp_path, *layers, 'repeat')
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(layers[1](torch.cat([x, x], 1)), layers[0](x))


def test_a_patch_embedding_by_unfold_takes_a_list_of_in_features(tmp_path):
    layers = nn.Linear(3 * 4, 8), nn.Linear(5 * 4, 8)
    channels = [4 * c + i for c in [0, 1, 2, 0, 0] for i in range(4)]
    loaded(tmp_path, *layers, channels)
    images = torch.randn(1, 5, 6, 6)
    rgb = images[:, :3].clone()
    rgb[:, 0] += images[:, 3] + images[:, 4]
    old, new = (
        layer(nn.functional.unfold(x, 2, stride=2).transpose(1, 2))
        for layer, x in zip(layers, (rgb, images))
    )
    torch.testing.assert_close(new, old)


@pytest.mark.parametrize(
    'channels',
    ['mode', [], [0, -1], [0, True], [0, 1.0], '', None, 3, ['repeat']],
    ids=str,
)
def test_channels_are_checked_when_it_is_built(channels):
    with pytest.raises(ValueError, match='`channels` is'):
        AdaptedPretrained('any.pth', channels=channels)
    rule = dict(path='head', init_cfg=adapted('any.pth', channels=channels))
    with pytest.raises(RuleError, match='`channels` is'):
        plan_init(ToyModel(), [rule])


@pytest.mark.parametrize(
    'old, new, channels, shapes, reason',
    [
        ([3, 4, 3], [5, 4, 3], [0, 1, 2], (3, 5), '5 entries .* has 3'),
        ([3, 4, 3], [2, 4, 3], [0, 3], (3, 2), 'from 0 to 2; .* from 0 to 3'),
        ([3, 4, 3], [1, 4, 3], 'mean', (3, 1), 'nothing to fill'),
        ([3, 4, 3], [1, 4, 3], 'zero', (3, 1), 'nothing to fill'),
    ],
)
def test_channels_that_do_not_fit_are_an_error(
    tmp_path, old, new, channels, shapes, reason
):
    with pytest.raises(ValueError, match=reason) as info:
        loaded(tmp_path, nn.Conv2d(*old), nn.Conv2d(*new), channels)
    for inputs in shapes:
        assert str((4, inputs, 3, 3)) in str(info.value)
    assert 'stem.weight' in str(info.value)


@pytest.mark.parametrize(
    'old, new',
    [
        (nn.Conv2d(3, 4, 3), nn.Conv2d(5, 6, 3)),
        (nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 5)),
        (nn.Conv1d(3, 4, 3), nn.Conv2d(5, 4, 3)),
        (nn.ConvTranspose2d(4, 3, 3), nn.ConvTranspose2d(4, 5, 3)),
        (nn.BatchNorm2d(3), nn.BatchNorm2d(5)),
        (nn.Embedding(4, 3), nn.Embedding(4, 5)),
        (nn.Linear(3, 4), nn.Linear(3, 5)),
        (nn.Linear(12, 4), nn.Linear(20, 4)),
    ],
    ids=lambda layer: str(layer)[:30],
)
def test_any_other_mismatch_is_an_error_with_name_and_shapes(
    tmp_path, old, new
):
    with pytest.raises(ValueError) as info:
        loaded(tmp_path, old, new, 'repeat')
    for name, value in old.state_dict().items():
        now = new.state_dict()[name]
        named = f'stem.{name} has the shape {tuple(value.shape)}'
        assert (named in str(info.value)) is (value.shape != now.shape)
        if value.shape != now.shape:
            assert f'{tuple(now.shape)} in the model' in str(info.value)
    assert not new._load_state_dict_pre_hooks


def test_the_same_values_as_pretrained_where_all_shapes_fit(tmp_path):
    torch.manual_seed(1)
    backbone = ToyBackbone(new=False).state_dict()
    backbone['layer1.0.bn.num_batches_tracked'] = torch.tensor([7])
    whole = {f'module.backbone.{k}': v for k, v in backbone.items()}
    whole['module.extra'] = torch.ones(3)
    for file, prefix in [
        (save(tmp_path / 'a.pth', backbone), None),
        (save(tmp_path / 'b.pth', whole), 'module.backbone'),
    ]:
        one = ToyBackbone()
        other = copy.deepcopy(one)
        initialize(one, adapted(file, prefix=prefix))
        cfg = dict(type='Pretrained', checkpoint=file, prefix=prefix)
        initialize(other, cfg)
        for name, value in one.state_dict().items():
            assert same(value, other.state_dict()[name]), name
        assert same(one.stem.weight, backbone['stem.weight'])


class Renaming(nn.Module):
    """Had another name for its stem once."""

    def __init__(self, channels):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3)
        self.register_buffer('mask', torch.ones(2), persistent=False)
        self._register_load_state_dict_pre_hook(self.rename)

    @staticmethod
    def rename(state, prefix, *args):
        for key in ('weight', 'bias'):
            value = state.pop(f'{prefix}conv0.{key}')
            state[f'{prefix}stem.{key}'] = value


def test_keys_that_a_hook_renames_are_adapted(tmp_path):
    old = Renaming(3)
    state = {k.replace('stem', 'conv0'): v for k, v in snapshot(old).items()}
    state['mask'] = torch.zeros(3)  # which the model does not take
    file = save(tmp_path / 'old.pth', state)
    new = Renaming(5)
    with record_loads(new) as names:
        initialize(new, adapted(file, channels='zero'))
    assert same(new.stem.weight[:, :3], old.stem.weight)
    assert new.stem.weight[:, 3:].eq(0).all()
    assert names == {'stem.weight', 'stem.bias'}
    # Nothing stays at the model.
    assert len(new._load_state_dict_pre_hooks) == 1
    pickle.dumps(new.stem)


# AdaptedPretrained: through all that takes an init_cfg.


@pytest.fixture(scope='module')
def rgb(tmp_path_factory):
    """A ResNet-50 for three channels, its class and its file."""
    from mmdet.models import ResNet

    torch.manual_seed(2)
    model = ResNet(50)
    model.eval()
    file = tmp_path_factory.mktemp('rgb') / 'r50.pth'
    return model, ResNet, save(file, model.state_dict())


@pytest.mark.needs_mmdet
@pytest.mark.parametrize('through', ['init_cfg', 'rule'])
def test_five_channels_in_a_pretrained_resnet(rgb, through):
    old, ResNet, file = rgb  # noqa: N806
    cfg = adapted(file, channels='zero')
    if through == 'init_cfg':
        config = Config(dict(init_cfg=cfg))
        model = ResNet(50, in_channels=5, init_cfg=config.init_cfg)
        model.init_weights()
    else:
        model = ResNet(50, in_channels=5)
        report = init_modules(model, [dict(path='**', init_cfg=cfg)])
        assert not report.findings
    model.eval()
    images = torch.randn(1, 5, 64, 64)
    images[:, 3:] *= 100
    with torch.no_grad():
        for new, expected in zip(model(images), old(images[:, :3])):
            torch.testing.assert_close(new, expected)


class Child(BaseModule):
    def __init__(self):
        super().__init__(dict(type='Constant', layer='Linear', val=5))
        self.known = nn.Linear(2, 2)
        self.new = nn.Linear(2, 2)


def test_children_are_initialized_before_it_loads_as_with_pretrained(
    tmp_path,
):
    state = {'0.known.weight': torch.ones(2, 2)}
    file = save(tmp_path / 'part.pth', state)
    model = BaseModule(adapted(file))
    model.add_module('0', Child())
    model.init_weights()
    child = getattr(model, '0')
    assert child.known.weight.eq(1).all() and child.new.weight.eq(5).all()
    assert child.is_init and model.is_init
    assert not hasattr(child, '_params_init_info')


@MODELS.register_module()
class WideToy(ToyModel):
    """The toy detector with a convolution in front, for some channels."""

    def __init__(self, channels, **others):
        super().__init__(**others)
        self.backbone.front = nn.Conv1d(channels, 4, 1)

    def forward(self, inputs, labels=None, mode='tensor'):
        inputs = inputs[:, None].expand(-1, 5, -1)
        inputs = self.backbone.front(inputs).mean(1)
        return super().forward(inputs, labels, mode)


@pytest.mark.parametrize('through', ['init_cfg', 'rule'])
def test_in_a_runner_what_was_adapted_counts_as_loaded(
    work_dir, tmp_path, through
):
    state = WideToy(3, new=False).state_dict()
    file = save(tmp_path / 'old.pth', state)
    cfg = adapted(file, prefix='backbone', channels='mean')
    rules = [dict(path='backbone', init_cfg=dict(type='Constant', val=0.25))]
    model = dict(type='WideToy', channels=5)
    if through == 'init_cfg':
        model['backbone'] = dict(init_cfg=cfg)
    else:
        rules = [dict(path='backbone', init_cfg=cfg)]
    runner = build_runner(work_dir, model=model, custom_hooks=hooks(*rules))
    runner.train()
    name = 'backbone.front.weight'
    start, old = start_of(runner)[name], state[name]
    assert same(start[:, :3], old)
    torch.testing.assert_close(
        start[:, 3:], old.mean(1, keepdim=True).repeat(1, 2, 1)
    )
    origins = {t.name: t.origin for t in report_of(runner).tensors}
    assert origins[name] == ('file' if through == 'init_cfg' else 'rule')
    gamma = start_of(runner)['backbone.gamma']
    assert gamma.eq(1).all()  # a bare parameter, which neither writes


def test_errors_of_a_rule_name_it(tmp_path):
    rule = dict(path='head', init_cfg=adapted(str(tmp_path / 'none.pth')))
    with pytest.raises(RuleError, match='no checkpoint file'):
        plan_init(ToyModel(), [rule])
    state = {'weight': torch.ones(2, 8)}
    rule['init_cfg'] = adapted(save(tmp_path / 'head.pth', state))
    with pytest.raises(RuleError, match='rule 0 .*weight has the shape'):
        init_modules(ToyModel(), [rule])


def test_a_flat_weight_in_the_checkpoint_is_a_mismatch(tmp_path):
    file = save(tmp_path / 'flat.pth', {'weight': torch.ones(4)})
    with pytest.raises(ValueError, match=r'weight has the shape \(4,\)'):
        initialize(nn.Linear(5, 4), adapted(file, channels=[0] * 5))
