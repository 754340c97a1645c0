"""Orthogonal, Identity and ResetParameters: what they write, and refuse."""

import copy

import pytest
import torch
import torch.nn as nn
from mmengine.model import BaseModule, initialize
from toy import (
    ToyModel,
    build_runner,
    hooks,
    same,
    snapshot,
    start_of,
)

from mmpartinit import (
    RuleError,
    init_modules,
    plan_init,
)


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
    text = f'with a weight of shape {shape}'
    with pytest.raises(ValueError) as info:
        initialize(layer, dict(type='Identity', layer=kind))
    assert f'{kind} {text}' in str(info.value)
    rule = dict(path='**.0', init_cfg=dict(type='Identity'))
    with pytest.raises(RuleError) as info:
        plan_init(nn.ModuleDict(dict(a=nn.Sequential(layer))), [rule])
    assert f'a.0.weight ({kind}) {text}' in str(info.value)
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
    torch.save(state, tmp_path / 'all.pth')
    rule = dict(
        path='backbone.layer2.1',
        init_cfg=dict(type='ResetParameters'),
        overwrite=True,
    )
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(rule),
        load_from=str(tmp_path / 'all.pth'),
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


def test_bare_parameters_that_make_sense(bare):
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


@pytest.mark.parametrize(
    'path, kind, text',
    [
        ('gamma', 'Orthogonal', 'gamma .Parameter. has .* two dim'),
        ('norm', 'Orthogonal', 'norm.weight .LayerNorm. has .* two'),
        ('gamma', 'Identity', r'gamma .Parameter. with .* \(4,\) cannot'),
        ('token', 'Identity', r'token .Parameter. with .* \(1, 1, 4\)'),
        ('attn.in_proj_weight', 'Identity', r'weight .Parameter. .*\(12, 4\)'),
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


@pytest.mark.parametrize('said', [('weight',), 'weight'])
def test_an_initializer_that_says_what_it_writes_may_read_it(said):
    """Unless it says that it does not, what there was is there for it."""

    class Halved:
        writes = said

        def __call__(self, module):
            module.weight.mul_(0.5)

    model = nn.ModuleDict({'old': nn.Linear(3, 3), 'new': nn.Linear(3, 3)})
    start = snapshot(model)
    rule = dict(path='new', init_cfg=dict(type=Halved))
    plan = plan_init(model, [rule])
    assert plan.preview().rules[0].wrote == ['new.weight']
    plan.apply()
    for name, value in model.state_dict().items():
        half = 0.5 if name == 'new.weight' else 1.0
        assert same(value, start[name] * half), name
