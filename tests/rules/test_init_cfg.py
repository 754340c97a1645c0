"""Values: each rule gives what `initialize` gives by hand."""

import pytest
import torch
import torch.nn as nn
from mmengine.model import ConstantInit, initialize
from mmengine.registry import WEIGHT_INITIALIZERS
from toy import Adapter, ToyModel, pretrained, same, snapshot

from mmpartinit import RuleError, init_modules, module_seed, plan_init

SE = 'backbone.layer1.0.se'
ZERO = dict(type='Constant', val=0)
EIGHT = [
    dict(type='Constant', val=0.3, bias=0.1),
    dict(type='Xavier', gain=2, distribution='uniform'),
    dict(type='Normal', mean=1, std=0.2, bias_prob=0.01),
    dict(type='TruncNormal', std=0.02, a=-0.03, b=0.03),
    dict(type='Uniform', a=-0.1, b=0.1),
    dict(type='Kaiming', mode='fan_in', nonlinearity='relu'),
    dict(type='Caffe2Xavier', bias=0.2),
]


def names_of(parametrized):
    return parametrized['type']


def by_hand(path, init_cfg, seed=5):
    model = ToyModel()
    start = snapshot(model)
    torch.manual_seed(module_seed(seed, path))
    initialize(model.get_submodule(path), init_cfg)
    return start, model.state_dict()


@pytest.mark.parametrize('cfg', EIGHT, ids=names_of)
@pytest.mark.parametrize('listed', [False, True], ids=['dict', 'list'])
def test_a_rule_equals_initialize_by_hand(cfg, listed):
    cfg = dict(cfg, layer='Linear')
    cfg = (
        [cfg, dict(type='Constant', layer='LayerNorm', val=2)]
        if listed
        else cfg
    )
    model = ToyModel()
    start, expected = by_hand(SE, cfg)
    model.load_state_dict(start)
    report = init_modules(model, [dict(path=SE, init_cfg=cfg)], seed=5)
    for name, value in model.state_dict().items():
        assert same(value, expected[name]), name
    written = 6 if listed else 4
    assert report.origins() == dict(
        file=0, code=0, rule=written, built=len(expected) - written
    )


@pytest.mark.parametrize('cfg', EIGHT, ids=names_of)
def test_without_layer_the_whole_module_is_meant_as_in_override(cfg):
    path = f'{SE}.fc1'
    override = dict(cfg, name='fc1')
    by_override = dict(type='Constant', val=0, override=override)
    model, other = ToyModel(), ToyModel()
    init_modules(model, [dict(path=path, init_cfg=cfg)], seed=5)
    torch.manual_seed(module_seed(5, path))
    initialize(other.get_submodule(SE), by_override)
    for key in ('weight', 'bias'):
        assert same(
            model.get_parameter(f'{path}.{key}'),
            other.get_parameter(f'{path}.{key}'),
        )


def test_pretrained_loads_a_part_of_a_checkpoint(tmp_path):
    state = pretrained(tmp_path / 'weights.pth')
    cfg = dict(
        type='Pretrained',
        checkpoint=str(tmp_path / 'weights.pth'),
        prefix='backbone.layer1',
    )
    model = ToyModel()
    init_modules(model, [dict(path='backbone.layer2', init_cfg=cfg)])
    for key, value in model.backbone.layer2.state_dict().items():
        if '.se.' not in key:
            assert same(value, state[f'backbone.layer1.{key}'])


def test_override_keeps_mmengines_meaning():
    cfg = dict(
        type='Normal',
        layer='Linear',
        std=0.01,
        override=dict(type='Constant', name='fc2', val=0.0, bias=4.0),
    )
    start, expected = by_hand(SE, cfg)
    model = ToyModel()
    model.load_state_dict(start)
    init_modules(model, [dict(path=SE, init_cfg=cfg)], seed=5)
    for name, value in model.state_dict().items():
        assert same(value, expected[name]), name
    # Without `layer`, only the named part.
    cfg.pop('layer')
    model.load_state_dict(start)
    init_modules(model, [dict(path=SE, init_cfg=cfg)], seed=5)
    assert same(
        model.state_dict()[f'{SE}.fc1.weight'], start[f'{SE}.fc1.weight']
    )
    assert model.state_dict()[f'{SE}.fc2.bias'].eq(4).all()


@pytest.mark.parametrize('cfg', EIGHT[:1] + EIGHT[2:5], ids=names_of)
def test_a_bare_parameter_takes_the_weights_values(cfg):
    model = ToyModel()
    init_modules(model, [dict(path='backbone.gamma', init_cfg=cfg)], seed=5)
    holder = nn.Module()
    holder.weight = nn.Parameter(torch.ones(8))
    parent = nn.Module()
    parent.part = holder
    torch.manual_seed(module_seed(5, 'backbone.gamma'))
    initialize(
        parent, dict(type='Constant', val=0, override=dict(cfg, name='part'))
    )
    assert same(model.backbone.gamma, holder.weight)


@pytest.mark.parametrize('cfg', [EIGHT[1], EIGHT[5], EIGHT[6]], ids=names_of)
def test_what_needs_two_dimensions_says_so_with_the_name(cfg):
    for path, name in [
        ('backbone.gamma', 'backbone.gamma'),
        (SE, f'{SE}.norm.weight'),
    ]:
        with pytest.raises(RuleError, match='two dimensions') as info:
            init_modules(ToyModel(), [dict(path=path, init_cfg=cfg)])
        assert name in str(info.value)


def fill_with_noise(module):
    if isinstance(module, nn.Linear):
        module.weight.data.normal_()
        nn.init.constant_(module.bias, 3)


@pytest.mark.parametrize(
    'fn', [fill_with_noise, f'{__name__}.fill_with_noise'], ids=['fn', 'name']
)
def test_apply_calls_your_own_function(fn):
    model, other = ToyModel(), ToyModel()
    other.load_state_dict(snapshot(model))
    rule = dict(path=SE, init_cfg=dict(type='Apply', fn=fn))
    report = init_modules(model, [rule], seed=5)
    torch.manual_seed(module_seed(5, SE))
    other.get_submodule(SE).apply(fill_with_noise)
    for name, value in model.state_dict().items():
        assert same(value, other.state_dict()[name]), name
    assert len(report.rules[0].wrote) == 4


def test_init_weights_runs_again_although_basemodule_believes_it_has():
    model = ToyModel()
    model.neck.adapter.init_weights()
    assert model.neck.adapter.is_init
    nn.init.ones_(model.neck.adapter.down.weight)
    rule = dict(path='neck.adapter', init_cfg=dict(type='InitWeights'))
    report = init_modules(model, [rule], seed=5)
    other = Adapter()
    torch.manual_seed(module_seed(5, 'neck.adapter'))
    other.init_weights()
    for name, value in model.neck.adapter.state_dict().items():
        assert same(value, other.state_dict()[name]), name
    assert len(report.rules[0].wrote) == 4


@pytest.mark.parametrize(
    'path, kind', [('backbone.gamma', 'Parameter'), ('head', 'Linear')]
)
def test_init_weights_needs_a_module_that_has_it(path, kind):
    rule = dict(path=path, init_cfg=dict(type='InitWeights'))
    with pytest.raises(
        RuleError, match=f'{path} .{kind}. has no init_weights'
    ):
        plan_init(ToyModel(), [rule])
    with pytest.raises(TypeError, match='Linear has none'):
        initialize(nn.Linear(2, 2), dict(type='InitWeights'))


def test_our_initializers_work_in_any_init_cfg():
    net = nn.Sequential(nn.Linear(2, 2), Adapter())
    initialize(
        net,
        [
            dict(type='Apply', fn=fill_with_noise),
            dict(
                type='Constant',
                layer='Linear',
                val=7,
                override=dict(type='InitWeights', name='1'),
            ),
        ],
    )
    assert net[0].weight.eq(7).all()
    assert net[1].down.bias.eq(0.5).all() and net[1].down.weight.ne(7).all()


def test_an_initializer_of_the_users_own():
    @WEIGHT_INITIALIZERS.register_module(name='Half')
    class Half:
        def __call__(self, module):
            for parameter in module.parameters():
                parameter.data.fill_(0.5)

    try:
        model = ToyModel()
        report = init_modules(
            model, [dict(path=SE, init_cfg=dict(type='Half'))]
        )
    finally:
        WEIGHT_INITIALIZERS.module_dict.pop('Half')
    assert all(p.eq(0.5).all() for p in model.get_submodule(SE).parameters())
    assert len(report.rules[0].wrote) == 6


def test_an_initializer_with_a_layer_of_its_own_keeps_to_it():
    @WEIGHT_INITIALIZERS.register_module(name='ZeroLinear')
    class ZeroLinear(ConstantInit):
        def __init__(self):
            super().__init__(val=0, layer='Linear')

    try:
        model = ToyModel()
        rule = dict(path=SE, init_cfg=dict(type='ZeroLinear'))
        init_modules(model, [rule])
    finally:
        WEIGHT_INITIALIZERS.module_dict.pop('ZeroLinear')
    assert model.get_parameter(f'{SE}.fc1.weight').eq(0).all()
    assert model.get_parameter(f'{SE}.norm.weight').eq(1).all()


def test_an_initializer_may_take_its_arguments_apart():
    @WEIGHT_INITIALIZERS.register_module(name='Popping')
    class Popping:
        def __init__(self, options):
            self.val = options.pop('val')

        def __call__(self, module):
            module.weight.data.fill_(self.val)

    try:
        model = ToyModel()
        cfg = dict(type='Popping', options=dict(val=2))
        init_modules(model, [dict(path='**.fc1', init_cfg=cfg)])
    finally:
        WEIGHT_INITIALIZERS.module_dict.pop('Popping')
    assert all(b.se.fc1.weight.eq(2).all() for b in model.backbone.layer2)


@pytest.mark.parametrize('override', [None, [], {}])
def test_an_empty_override_is_none(override):
    model = ToyModel()
    cfg = dict(type='Constant', val=0, override=override)
    init_modules(model, [dict(path='head', init_cfg=cfg)])
    assert model.head.weight.eq(0).all()


def test_pretrained_takes_a_home_directory(tmp_path, monkeypatch):
    state = pretrained(tmp_path / 'weights.pth')
    monkeypatch.setenv('HOME', str(tmp_path))
    cfg = dict(type='Pretrained', checkpoint='~/weights.pth', prefix='head')
    model = ToyModel()
    init_modules(model, [dict(path='head', init_cfg=cfg)])
    assert same(model.head.weight, state['head.weight'])


@pytest.mark.parametrize(
    'cfg, words',
    [
        (dict(type='Pretrained', checkpoint=None), 'a file or a URL, not Non'),
        (dict(type='AdaptedPretrained', checkpoint=5), 'file or a URL, not 5'),
        (dict(type='Pretrained', checkpoint=''), "a file or a URL, not ''"),
        (dict(type='Constant', val=0, override=dict(name=3)), 'the `name` of'),
        (dict(type='Constant', val=0, layer=['Linear', 3]), 'name classes'),
    ],
)
def test_values_of_another_type_are_errors_of_their_rule(cfg, words):
    with pytest.raises(RuleError, match=f"rule 0 .path 'head'.*{words}"):
        plan_init(ToyModel(), [dict(path='head', init_cfg=cfg)])


class Refuses:
    """An initializer of the user's that cannot be built."""

    def __init__(self, error):
        raise error


class OddError(Exception):
    def __init__(self, first, second):
        super().__init__(first, second)


@pytest.mark.parametrize(
    'cfg, words',
    [
        (dict(type='Normal', bias_prob=0.0), 'ZeroDivisionError: .*float'),
        (dict(type=Refuses, error=RuntimeError('no')), 'RuntimeError: .*no'),
        (dict(type=Refuses, error=KeyError('no')), 'KeyError: .*no'),
        # MMEngine 0.8 makes another of it, with one argument.
        (dict(type=Refuses, error=OddError(1, 2)), "OddError: |'second'"),
        (
            dict(type='Apply', fn='raises_at_import.fill'),
            'OSError: .*at import',
        ),
        (dict(type=dict), 'dict gives {}, which cannot be called'),
    ],
)
def test_what_an_initializer_raises_is_an_error_of_its_rule(
    cfg, words, tmp_path, monkeypatch
):
    (tmp_path / 'raises_at_import.py').write_text("raise OSError('at import')")
    monkeypatch.syspath_prepend(tmp_path)
    where = r"\[init-cfg\] rule 0 \(path 'head'\)"
    for init_cfg in (cfg, [cfg], dict(ZERO, override=dict(cfg, name='a'))):
        with pytest.raises(RuleError, match=f'{where}.*{words}'):
            plan_init(ToyModel(), [dict(path='head', init_cfg=init_cfg)])


def test_files_of_an_override(tmp_path):
    """A plan asks for them, and no file is said of what others wrote."""
    state = pretrained(tmp_path / 'weights.pth')
    loads = dict(type='Pretrained', prefix='head', name='head')
    cfg = dict(ZERO, override=dict(loads, checkpoint='nowhere.pth'))
    with pytest.raises(RuleError, match="no checkpoint file 'nowhere.pth'"):
        plan_init(Outer(), [dict(path='net', init_cfg=cfg)])
    cfg['override']['checkpoint'] = str(tmp_path / 'weights.pth')
    model = Outer()
    init_modules(model, [dict(path='net', init_cfg=cfg)])
    assert same(model.net.head.weight, state['head.weight'])
    whole = dict(
        type='Pretrained',
        checkpoint=str(tmp_path / 'weights.pth'),
        override=dict(ZERO, name='head'),
    )
    report = init_modules(model, [dict(path='net', init_cfg=whole)])
    assert model.net.head.weight.eq(0).all()
    assert {record.file for record in report.tensors} == {None}


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = ToyModel()
