"""Values that a rule gives, and that have no effect or that nothing trains."""

import re

import pytest
import torch
import torch.nn as nn
from mmengine.registry import WEIGHT_INITIALIZERS
from toy import build_runner, hooks, report_of

from mmpartinit import init_modules, plan_init
from mmpartinit.checks.values import is_filled

OPEN = dict(type='Constant', val=0, bias=4.0)
KAIMING = dict(type='Kaiming', bias=0.1)


def gate(bias=False):
    """An SE block's layers, and what has no bias by its nature."""
    return nn.ModuleDict(
        dict(
            conv=nn.Conv2d(4, 4, 3, bias=False),
            norm=nn.BatchNorm2d(4),
            plain=nn.InstanceNorm2d(4),
            act=nn.PReLU(),
            words=nn.Embedding(5, 4),
            fc1=nn.Linear(4, 2),
            fc2=nn.Linear(2, 4, bias=bias),
            factor=nn.ParameterDict({'gamma': nn.Parameter(torch.ones(4))}),
        )
    )


def unused(path, init_cfg, model=None, loaded=()):
    """The findings `unused-bias` of a plan with one rule, and what each says
    in place of names."""
    model = model or nn.ModuleDict(dict(se=gate()))
    plan = plan_init(
        model, [dict(path=path, init_cfg=init_cfg)], loaded=loaded
    )
    found = [f for f in plan.findings if f.code == 'unused-bias']
    assert all((f.level, f.rule) == ('warning', 0) for f in found)
    assert [f for f in plan.preview().findings if f in found] == found
    return found


def called(value):
    """Without addresses, for processes name tests alike."""
    return re.sub(' at 0x[0-9a-f]+', '', str(value))


@pytest.mark.parametrize(
    'path, init_cfg, names',
    [
        ('se.fc2', OPEN, ['se.fc2']),
        ('se.fc2', KAIMING, ['se.fc2']),
        ('se.fc2', dict(type='Normal', bias_prob=0.01), ['se.fc2']),
        ('se.fc2', dict(type='Caffe2Xavier', bias=1), ['se.fc2']),
        ('se.fc2', dict(type='Orthogonal', bias=1), ['se.fc2']),
        # Some of several lack it, by `layer` and without.
        ('se', dict(OPEN, layer='Linear'), ['se.fc2']),
        ('se', dict(KAIMING, layer=['Conv2d', 'Linear']), None),
        ('se', OPEN, None),
        (['se.conv', 'se.fc2', 'se.norm'], OPEN, None),
        # None of those that are reached can have one.
        ('se.words', OPEN, ['se.words']),
        ('se', dict(OPEN, layer='Embedding'), ['se.words']),
        ('se.factor.gamma', OPEN, ['se.factor.gamma']),
        # A norm without anything to write, among others and named.
        ('se', dict(OPEN, layer=['BatchNorm2d', 'InstanceNorm2d']), 'plain'),
    ],
    ids=str,
)
def test_a_bias_for_layers_without_one_names_them(path, init_cfg, names):
    found = unused(path, init_cfg)
    if names == 'plain':  # which has no weight either
        bias, weight = found
        assert bias.names == weight.names == ['se.plain']
        assert 'gives a weight of 0 to 1 layers' in weight.message
        assert 'build them with affine=True' in weight.message
    else:
        (bias,) = found
        assert bias.names == (names or ['se.conv', 'se.fc2'])
    could = names not in (['se.words'], ['se.factor.gamma'])
    assert ('build them with bias=True' in bias.message) is could
    assert ('leave it out' in bias.message) is not could


def test_it_says_which_value_and_whose():
    (found,) = unused('se', [dict(type='Kaiming', layer='Conv2d'), OPEN])
    assert found.message.startswith(
        "rule 0 (path 'se'): init_cfg[1] Constant(val=0, bias=4.0) gives a "
        'bias of 4 to 2 layers that have none'
    )


@pytest.mark.parametrize(
    'path, init_cfg',
    [
        ('se', dict(OPEN, bias=0.0)),
        ('se', dict(type='Kaiming', layer=['Conv2d', 'Linear'], bias=0.0)),
        ('se', dict(type='Normal', bias_prob=0.5)),  # which is a bias of 0
        ('se.fc1', OPEN),
        ('se', dict(OPEN, layer='BatchNorm2d')),
        # What has none by its nature, beside what takes it.
        (['se.fc1', 'se.words', 'se.act', 'se.factor.gamma'], OPEN),
        # A norm without affine is as one of weight 1 and bias 0.
        (['se.norm', 'se.plain'], dict(type='Constant', val=1.0)),
        ('se', dict(type='Constant', layer='InstanceNorm2d', val=1.0)),
        # Of others it is not known what they write.
        ('se.fc2', dict(type='Apply', fn=lambda module: None)),
        ('se.fc2', dict(type='ResetParameters')),
    ],
    ids=called,
)
def test_a_value_that_has_its_effect_or_changes_nothing_is_not_said(
    path, init_cfg
):
    model = nn.ModuleDict(dict(se=gate()))
    if init_cfg.get('layer') == 'InstanceNorm2d':
        init_cfg = [init_cfg, dict(type='Normal', layer='Linear')]
    assert unused(path, init_cfg, model) == []


class MaybeInit:
    """Has a bias, and says nothing of what it writes."""

    bias = 3.0

    def __call__(self, module):
        nn.init.ones_(module.weight)


def test_initializers_of_others_are_not_judged():
    WEIGHT_INITIALIZERS.register_module(module=MaybeInit, force=True)
    assert unused('se.fc2', dict(type='MaybeInit')) == []


def test_override_is_looked_into():
    cfg = dict(type='Kaiming', layer='Conv2d', override=dict(OPEN, name='fc2'))
    (found,) = unused('se', cfg)
    assert found.names == ['se.fc2']
    # With the item's own arguments; and beside its own layers.
    cfg = dict(KAIMING, layer='Conv2d', override=[dict(name='fc2')])
    assert [f.names for f in unused('se', cfg)] == [['se.conv'], ['se.fc2']]
    cfg = dict(OPEN, override=dict(name='fc1'))
    assert unused('se', cfg) == []


def test_what_was_loaded_is_not_what_a_value_was_meant_for():
    model = nn.ModuleDict(dict(se=gate()))
    loaded = {'se.conv.weight'}
    (found,) = unused('se', OPEN, model, loaded)
    assert found.names == ['se.fc2']
    loaded.add('se.fc2.weight')
    assert unused('se', OPEN, model, loaded) == []


def test_layers_in_two_places_are_named_once():
    layer = nn.Linear(2, 2, bias=False)
    (found,) = unused('**', OPEN, nn.Sequential(layer, nn.ReLU(), layer))
    assert found.names == ['0']


def test_it_is_said_at_the_start(work_dir):
    rule = dict(path='head', init_cfg=dict(type='Constant', val=0, bias=1))
    runner = build_runner(work_dir, custom_hooks=hooks(rule))
    runner.model.head = nn.Linear(8, 3, bias=False)
    runner.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
    runner.train()
    told = [f for f in report_of(runner).findings if f.code == 'unused-bias']
    assert [f.names for f in told] == [['head']]


# --- padding rows


def texts(**more):
    """A decoder's embeddings, of which some have a row of padding."""
    return nn.ModuleDict(
        dict(
            words=nn.Embedding(5, 4, padding_idx=-1),
            bag=nn.EmbeddingBag(5, 4, padding_idx=1),
            places=nn.Embedding(5, 4),
            old=nn.Linear(4, 4),
            **more,
        )
    )


def filled(rules, model=None, **how):
    report = init_modules(model or texts(), rules, **how)
    return [f for f in report.findings if f.code == 'padding-filled']


SMALL = dict(type='TruncNormal', layer='Embedding', std=0.02)
RESET = dict(type='ResetParameters', layer='Embedding')
ZERO = dict(type='Constant', val=0)


def fill(module):
    nn.init.ones_(module.weight)


@pytest.mark.parametrize(
    'init_cfg',
    [SMALL, dict(SMALL, type='Normal'), dict(type='Apply', fn=fill)],
    ids=called,
)
def test_a_rule_that_fills_padding_is_told_how_not_to(init_cfg):
    model = texts()
    rule = dict(path='words', init_cfg=init_cfg)
    (found,) = filled([rule], model)
    assert (found.level, found.names) == ('warning', ['words.weight'])
    assert (found.rule, found.path) == (0, 'words')
    # The remedy that it names, as it is written there.
    remedy = eval(found.message.partition('; ')[2].partition(' keeps')[0])
    assert remedy == RESET
    assert filled([dict(rule, init_cfg=remedy)], model) == []
    assert model['words'].weight[-1].eq(0).all()
    assert model['words'].weight[0].ne(0).any()


def test_padding_of_bags_and_of_all_that_a_rule_writes():
    layers = ['Embedding', 'EmbeddingBag']
    rule = dict(path='{words,bag,places}', init_cfg=dict(SMALL, layer=layers))
    (found,) = filled([rule])
    assert found.names == ['words.weight', 'bag.weight']


@pytest.mark.parametrize(
    'rules',
    [
        [dict(path='words', init_cfg=ZERO)],
        [dict(path='words', init_cfg=[SMALL, RESET])],
        [dict(path='words', init_cfg=SMALL), dict(path='**', init_cfg=RESET)],
        [dict(path='{places,old}', init_cfg=dict(type='Normal', std=1))],
        [dict(path='words', copy_from='places')],
    ],
    ids=str,
)
def test_padding_that_is_zero_or_on_purpose_is_not_said(rules):
    assert filled(rules) == []


def test_the_last_rule_to_write_it_is_named():
    rules = [
        dict(path='words', init_cfg=RESET),
        dict(path='old', init_cfg=ZERO),
        dict(path='words', init_cfg=SMALL),
    ]
    (found,) = filled(rules)
    assert found.rule == 2


def test_padding_from_a_file_is_on_purpose(tmp_path):
    path = str(tmp_path / 'words.pth')
    torch.save({'weight': torch.ones(5, 4)}, path)
    for kind in ('Pretrained', 'AdaptedPretrained'):
        model = texts()
        load = dict(type=kind, checkpoint=path)
        assert filled([dict(path='words', init_cfg=load)], model) == []
        assert model['words'].weight.eq(1).all()
        (found,) = filled([dict(path='words', init_cfg=[load, SMALL])])
        assert found.names == ['words.weight']


def test_padding_is_not_looked_for_where_nothing_was_written():
    assert filled([dict(path='**', init_cfg=ZERO)], loaded='words') == []
    rules = [dict(path='words', init_cfg=SMALL)]
    plan = plan_init(texts(), rules)
    codes = [f.code for f in plan.preview().findings]
    assert 'padding-filled' not in codes
    assert 'padding-filled' in [f.code for f in plan.apply().findings]


def test_padding_of_a_table_of_another_kind_is_let_alone():
    """Nothing that a model may hold ends in an error of ours."""
    model = texts()
    model['words'].padding_idx = 7
    assert filled([dict(path='words', init_cfg=SMALL)], model) == []
    model['words'].padding_idx = 0
    model['words'].weight = nn.Parameter(torch.zeros(()))
    assert filled([dict(path='words', init_cfg=ZERO)], model) == []


def test_padding_that_another_layer_trains_is_not_said():
    """The output layer of a language model, which has the same weight."""
    model = texts(out=nn.Linear(4, 5, bias=False))
    model['out'].weight = model['words'].weight
    assert filled([dict(path='words', init_cfg=SMALL)], model) == []
    model = texts(again=nn.Embedding(5, 4, padding_idx=4))
    model['again'].weight = model['words'].weight
    assert filled([dict(path='words', init_cfg=SMALL)], model)


def test_padding_that_lies_in_parts_is_not_guessed_at():
    """What stands for it holds no values."""
    model = texts()
    whole = nn.Parameter(torch.full((), torch.nan).expand(5, 4))
    whole.stands_for = nn.Parameter(torch.zeros(10))
    model['words'].weight = whole
    assert is_filled(model['words'], whole) is False
    whole.data = torch.ones(5, 4)
    whole.stands_for = whole
    assert is_filled(model['words'], whole) is True
