"""AdaptedPretrained, Orthogonal, Identity and ResetParameters."""

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
from mmpartinit.adapted import adapt_channels

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


def test_each_mode_is_what_one_writes_by_hand():
    weight = torch.tensor([[1.0, 2.0, 6.0], [10.0, 20.0, 60.0]])[..., None]
    by_hand = {
        'repeat': [0.6, 1.2, 3.6, 0.6, 1.2],  # times 3 / 5
        'mean': [1, 2, 6, 3, 3],
        'zero': [1, 2, 6, 0, 0],
        (2, 1, 0, 0, 2): [6, 2, 1, 1, 6],
    }
    for channels, row in by_hand.items():
        expected = torch.tensor([row, [10.0 * x for x in row]])[..., None]
        torch.testing.assert_close(
            adapt_channels(weight, 5, channels), expected
        )
    for channels, row in {'repeat': [1.5, 3], (2, 2): [6, 6]}.items():
        expected = torch.tensor([row, [10.0 * x for x in row]])[..., None]
        torch.testing.assert_close(
            adapt_channels(weight, 2, channels), expected
        )
    assert weight[:, :, 0].tolist() == [[1, 2, 6], [10, 20, 60]]


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
    assert origins[name] == ('checkpoint' if through == 'init_cfg' else 'rule')
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


# Orthogonal, Identity, ResetParameters.


def layers():
    return nn.Sequential(
        nn.Linear(4, 4), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)
    )


THREE = [
    dict(type='Orthogonal', gain=2, bias=0.5),
    dict(type='Identity', bias=0.5),
    dict(type='ResetParameters'),
]
names_of = pytest.mark.parametrize('cfg', THREE, ids=lambda cfg: cfg['type'])


@names_of
def test_layer_override_and_rules_as_with_mmengines_own(cfg):
    start = layers()
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.fill_(7)

    def written(init_cfg, by_rule=False):
        model = copy.deepcopy(start)
        if by_rule:
            init_modules(model, [dict(path='**', init_cfg=init_cfg)])
        else:
            initialize(model, init_cfg)
        return [
            not same(value, start.state_dict()[name])
            for name, value in model.state_dict().items()
        ]

    linear = [True, True, False, False, True, True]
    assert written(dict(cfg, layer='Linear')) == linear
    assert written(dict(cfg, layer=['Linear'])) == linear
    # The direct base of a class counts, and nothing without `layer`.
    assert written(dict(cfg, layer='_ConvNd')) == [not x for x in linear]
    assert written(cfg) == [False] * 6
    override = dict(cfg, name='1')
    outer = dict(type='Orthogonal', layer='none', override=override)
    assert written(outer) == [not x for x in linear]
    assert written(dict(cfg, layer='Linear'), by_rule=True) == linear
    assert written(cfg, by_rule=True) == [True] * 6


@names_of
def test_init_weights_says_who_wrote_a_parameter(cfg):
    model = BaseModule()
    model.fc = nn.Linear(4, 4)
    infos = []

    class Part(BaseModule):
        def __init__(self):
            super().__init__(dict(cfg, layer='Linear'))
            self.fc = nn.Linear(4, 4)
            nn.init.constant_(self.fc.weight, 7)

        def init_weights(self):
            super().init_weights()
            infos.append(self._params_init_info[self.fc.weight]['init_info'])

    model.part = Part()
    model.init_weights()
    assert infos[0].startswith(cfg['type'])


def test_orthogonal_is_orthonormal_rows_or_columns_times_the_gain():
    model = nn.ModuleDict(dict(wide=nn.Linear(6, 3), conv=nn.Conv2d(2, 9, 2)))
    cfg = dict(type='Orthogonal', gain=3, bias_prob=0.5)
    init_modules(model, [dict(path='**', init_cfg=cfg)])
    wide, conv = model['wide'].weight, model['conv'].weight.flatten(1)
    torch.testing.assert_close(wide @ wide.T, 9 * torch.eye(3))
    torch.testing.assert_close(conv.T @ conv, 9 * torch.eye(8))
    assert model['wide'].bias.eq(0).all()


@pytest.mark.parametrize(
    'layer, shape',
    [
        (nn.Linear(4, 4), (2, 4)),
        (nn.Conv1d(4, 4, 5, padding=2), (2, 4, 7)),
        (nn.Conv2d(4, 4, (3, 1), padding=(1, 0)), (2, 4, 5, 6)),
        (nn.Conv2d(4, 4, 3, padding='same', dilation=2), (2, 4, 5, 6)),
        (nn.Conv2d(4, 4, 1, padding='valid', groups=4), (2, 4, 5, 6)),
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2), (2, 4, 5, 6)),
        (nn.Conv3d(4, 4, 3, padding=1, bias=False), (2, 4, 3, 4, 5)),
    ],
    ids=str,
)
def test_identity_gives_what_it_is_given(layer, shape):
    initialize(layer, dict(type='Identity', layer=type(layer).__name__))
    x = torch.randn(shape)
    torch.testing.assert_close(layer(x), x)


@pytest.mark.parametrize(
    'layer, shape',
    [
        (nn.Linear(4, 3), (3, 4)),
        (nn.Conv2d(4, 3, 1), (3, 4, 1, 1)),
        (nn.Conv2d(4, 4, 2, padding='same'), (4, 4, 2, 2)),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2), (4, 4, 3, 3)),
        (nn.Conv2d(4, 4, 3), (4, 4, 3, 3)),
        (nn.Conv2d(4, 4, 3, padding='valid'), (4, 4, 3, 3)),
        (nn.ConvTranspose2d(4, 4, 1), (4, 4, 1, 1)),
        (nn.LayerNorm(4), (4,)),
        (nn.LayerNorm((4, 3)), (4, 3)),
    ],
    ids=str,
)
def test_what_cannot_be_the_identity_says_so(layer, shape):
    kind, start = type(layer).__name__, snapshot(layer)
    text = f'{kind} with a weight of shape {shape}'
    with pytest.raises(ValueError) as info:
        initialize(layer, dict(type='Identity', layer=kind))
    assert text in str(info.value)
    rule = dict(path='**.0', init_cfg=dict(type='Identity'))
    with pytest.raises(RuleError) as info:
        plan_init(nn.ModuleDict(dict(a=nn.Sequential(layer))), [rule])
    assert f'a.0.weight: {text}' in str(info.value)
    for name, value in layer.state_dict().items():
        assert same(value, start[name])


def build_defaults():
    return nn.Sequential(
        nn.Conv2d(4, 4, 3),
        nn.Sequential(nn.BatchNorm2d(4), nn.LayerNorm(4)),
        nn.GRU(4, 4),
        nn.Embedding(4, 4),
        nn.MultiheadAttention(4, 2),
    )


def test_reset_parameters_is_what_a_new_layer_has():
    model = build_defaults()
    start = {
        name: torch.full_like(v, 7) for name, v in snapshot(model).items()
    }
    model.load_state_dict(start)
    for index, layer in enumerate(model):
        cfg = dict(type='ResetParameters')
        report = init_modules(model, [dict(path=str(index), init_cfg=cfg)])
        names = {f'{index}.{name}' for name in layer.state_dict()}
        assert set(report.rules[0].wrote) == names
    fresh = build_defaults().state_dict()
    for name, value in model.state_dict().items():
        spread = fresh[name].float().std(unbiased=False)
        if spread == 0:  # a constant
            assert same(value, fresh[name]), name
        else:
            assert value.std() > 0 and value.abs().max() < 5, name


def test_reset_parameters_draws_as_the_constructor_does():
    for build in [
        lambda: nn.Conv2d(4, 4, 3),
        lambda: nn.MultiheadAttention(4, 2),
        lambda: nn.GRU(4, 4),
    ]:
        torch.manual_seed(3)
        fresh = build().state_dict()
        model = nn.Module()
        model.part = build()
        torch.manual_seed(3)
        override = dict(type='ResetParameters', name='part')
        initialize(model, dict(type='ResetParameters', override=override))
        for name, value in model.part.state_dict().items():
            assert same(value, fresh[name]), name


def test_reset_parameters_in_a_runner_puts_back_a_pretrained_part(
    work_dir, tmp_path
):
    state = {k: v + 1 for k, v in ToyModel().state_dict().items()}
    rule = dict(
        path='backbone.layer2.1',
        init_cfg=dict(type='ResetParameters'),
        overwrite=True,
    )
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(rule),
        load_from=save(tmp_path / 'all.pth', state),
    )
    runner.train()
    start, part = start_of(runner), 'backbone.layer2.1'
    assert start[f'{part}.bn.running_mean'].eq(0).all()
    assert start[f'{part}.bn.num_batches_tracked'].eq(0)
    assert start[f'{part}.se.norm.weight'].eq(1).all()
    assert start[f'{part}.linear.weight'].abs().max() < 8**-0.5
    for name, value in state.items():
        assert same(start[name], value) is not name.startswith(part), name


# By path, on norm layers and on bare parameters.


@pytest.fixture
def bare():
    model = nn.Module()
    model.attn = nn.MultiheadAttention(4, 2)
    model.token = nn.Parameter(torch.zeros(1, 1, 4))
    model.mix = nn.Parameter(torch.zeros(4, 4))
    model.gamma = nn.Parameter(torch.zeros(4))
    model.norm = nn.LayerNorm(4)
    return model


def test_bare_parameters_that_make_sense(bare, tmp_path):
    orthogonal = dict(type='Orthogonal')
    paths = ['attn.in_proj_weight', 'token']
    rules = [dict(path=paths, init_cfg=orthogonal)]
    rules.append(dict(path='mix', init_cfg=dict(type='Identity')))
    init_modules(bare, rules)
    weight = bare.attn.in_proj_weight
    torch.testing.assert_close(weight.T @ weight, torch.eye(4))
    torch.testing.assert_close(bare.token.norm(), torch.tensor(1.0))
    assert same(bare.mix, torch.eye(4))


@pytest.mark.parametrize('cfg', THREE[:2], ids=lambda cfg: cfg['type'])
def test_the_bias_is_what_it_says(cfg):
    model = layers()
    initialize(model, dict(cfg, layer='Linear'))
    assert model[0].bias.eq(0.5).all() and model[2].bias.eq(0.5).all()


def test_a_flat_weight_in_the_checkpoint_is_a_mismatch(tmp_path):
    file = save(tmp_path / 'flat.pth', {'weight': torch.ones(4)})
    with pytest.raises(ValueError, match=r'weight has the shape \(4,\)'):
        initialize(nn.Linear(5, 4), adapted(file, channels=[0] * 5))


@pytest.mark.parametrize(
    'path, kind, text',
    [
        ('gamma', 'Orthogonal', 'two dimensions, and gamma have'),
        ('norm', 'Orthogonal', 'two dimensions, and norm.weight have'),
        ('gamma', 'Identity', r'gamma: Parameter with .* \(4,\) cannot'),
        ('token', 'Identity', r'token: Parameter with .* \(1, 1, 4\)'),
        ('attn.in_proj_weight', 'Identity', r'weight: Parameter .*\(12, 4\)'),
        ('gamma', 'ResetParameters', r'gamma \(Parameter\) has no reset'),
    ],
)
def test_bare_parameters_that_do_not_say_so_with_the_name(
    bare, path, kind, text
):
    rule = dict(path=path, init_cfg=dict(type=kind))
    with pytest.raises(RuleError, match=text):
        plan_init(bare, [rule])


def test_what_reaches_nothing_is_said_before_anything_is_written(bare):
    for kind in ('Orthogonal', 'Identity'):
        rule = dict(path='attn', init_cfg=dict(type=kind, layer='Conv2d'))
        with pytest.raises(RuleError, match='initialises nothing: no layer'):
            plan_init(bare, [rule])
