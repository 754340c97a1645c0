"""`copy_from`: a second branch gets the values of the first."""

import copy

import pytest
import torch
import torch.nn as nn
from toy import (
    ToyModel,
    build_runner,
    hooks,
    pretrained,
    report_of,
    same,
    snapshot,
    start_of,
)

from mmpartinit import RuleError, init_modules, plan_init
from mmpartinit.model.tree import ModelTree
from mmpartinit.rules.patterns import (
    filled_in,
    parse_pattern,
    stand_for,
    wildcards,
)
from mmpartinit.rules.selection import Selector

ZERO = dict(type='Constant', val=0)


def two_branches():
    """A pretrained branch, and a new one with something more in it."""
    model = ToyModel()
    model.backbone.layer2 = copy.deepcopy(model.backbone.layer2)
    for value in model.backbone.layer2.state_dict().values():
        value.add_(1)
    model.backbone.layer2[0].extra = nn.Linear(2, 2)
    return model


LAYER2 = dict(path='backbone.layer2', copy_from='backbone.layer1')


def test_every_tensor_of_the_same_name_is_copied_by_value():
    model = two_branches()
    before = snapshot(model)
    report = init_modules(model, [LAYER2], seed=1)
    first, second = model.backbone.layer1, model.backbone.layer2
    for name, value in first.state_dict().items():
        assert same(value, before[f'backbone.layer1.{name}']), name
        assert same(value, second.state_dict()[name]), name
        assert value.data_ptr() != second.state_dict()[name].data_ptr()
    buffers = {n for n, _ in first.named_buffers()}
    assert '0.bn.running_var' in buffers  # copied with the rest
    left = ['backbone.layer2.0.extra.weight', 'backbone.layer2.0.extra.bias']
    for name in left:
        assert same(model.state_dict()[name], before[name])
    (found,) = [f for f in report.findings if f.code == 'not-copied']
    assert (found.level, found.names) == ('note', left)
    by_name = {t.name: t for t in report.tensors}
    record = by_name['backbone.layer2.1.linear.weight']
    assert (record.origin, record.rule) == ('rule', 0)
    assert record.source == 'backbone.layer1.1.linear.weight'
    assert by_name['backbone.layer1.1.linear.weight'].source is None
    assert report.rules[0].copy_from == 'backbone.layer1'
    assert 'copy of backbone.layer1' in str(report)


def test_a_parameter_and_several_matches():
    model = ToyModel()
    nn.init.normal_(model.backbone.gamma)
    rules = [
        dict(path='**.se.norm.weight', copy_from='backbone.gamma'),
        dict(
            path='backbone.layer*.1.linear',
            copy_from='backbone.layer1.0.linear',
        ),
    ]
    report = init_modules(model, rules)
    for layer in (model.backbone.layer1, model.backbone.layer2):
        assert same(layer[1].se.norm.weight, model.backbone.gamma)
        linear = model.backbone.layer1[0].linear
        assert same(layer[1].linear.weight, linear.weight)
        assert layer[1].linear.weight is not linear.weight
    assert [len(rule.wrote) for rule in report.rules] == [4, 4]


def test_the_source_is_what_earlier_rules_made_of_it():
    model = two_branches()
    init_modules(
        model,
        [
            dict(path='backbone.layer1.0.linear', init_cfg=ZERO),
            LAYER2,
            dict(path='backbone.layer2.1.linear', init_cfg=ZERO),
        ],
    )
    assert model.backbone.layer2[0].linear.weight.eq(0).all()
    assert model.backbone.layer2[1].linear.weight.eq(0).all()
    assert model.backbone.layer1[1].linear.weight.ne(0).any()


def test_loaded_tensors_stay_unless_overwrite_is_set():
    name = 'backbone.layer2.0.linear.weight'
    for overwrite in (False, True):
        model = two_branches()
        before = snapshot(model)
        rule = dict(LAYER2, overwrite=overwrite)
        init_modules(model, [rule], loaded={name})
        assert same(model.state_dict()[name], before[name]) is not overwrite
        bias = 'backbone.layer2.0.linear.bias'
        assert not same(model.state_dict()[bias], before[bias])


def test_tied_tensors_are_no_matter():
    model = nn.ModuleDict({'a': nn.Linear(2, 2), 'b': nn.Linear(2, 2)})
    model['b'].weight = model['a'].weight
    report = init_modules(model, [dict(path='b', copy_from='a')])
    assert same(model['a'].bias, model['b'].bias)
    assert [tensor.origin for tensor in report.tensors].count('rule') == 1
    assert not report.findings
    assert model['b'].bias is not model['a'].bias
    assert model['b'].weight is model['a'].weight
    model['b'].bias = None
    with pytest.raises(RuleError, match='b would be copied from itself'):
        init_modules(model, [dict(path='b', copy_from='a')])


def test_the_source_is_told_under_each_name_of_a_tied_tensor():
    model = nn.ModuleDict({key: nn.Linear(2, 2) for key in 'abc'})
    model['b'].weight = model['a'].weight
    report = init_modules(model, [dict(path='b', copy_from='c')])
    sources = {tensor.name: tensor.source for tensor in report.tensors}
    assert sources['a.weight'] == sources['b.weight'] == 'c.weight'
    assert sources['a.bias'] is None


def test_through_a_runner_after_loading(work_dir, tmp_path):
    state = pretrained(tmp_path / 'weights.pth')
    part = {k: v for k, v in state.items() if 'layer2' not in k}
    torch.save(dict(state_dict=part), tmp_path / 'part.pth')
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(LAYER2),
        load_from=str(tmp_path / 'part.pth'),
    )
    runner.train()
    start = start_of(runner)
    for name in start:
        if name.startswith('backbone.layer2') and '.se.' not in name:
            source = name.replace('layer2', 'layer1')
            assert same(start[name], state[source]), name
    assert report_of(runner).rules[0].copy_from == 'backbone.layer1'


@pytest.mark.parametrize(
    'rule, words',
    [
        (dict(LAYER2, init_cfg=ZERO), 'to combine them'),
        (dict(path='head'), 'a rule needs `init_cfg` or `copy_from`'),
        (dict(path='head', copy_from=3), 'must be the path of one module'),
        (dict(path='head', copy_from=''), 'must be the path of one module'),
        (dict(path='head', copy_from='a.?'), r'with no wildcards but `\*`'),
        (dict(path='head', copy_from='{a,b}'), 'with no wildcards but'),
        (dict(path='head', copy_from='a.b**'), 'stands for whole segments'),
        (dict(path='head', copy_from='a..*'), 'has an empty segment'),
        (
            dict(path='head', copy_from='neck.*'),
            r"`copy_from` 'neck.\*' has the wildcards \*, .* 'head' has none",
        ),
        (
            dict(path=['h*', '{nec*,neck}.*'], copy_from='*.*'),
            r"`copy_from` '\*.\*' has the wildcards \* \*, .* 'h\*' has \*$",
        ),
        (
            dict(path='{nec*,neck}.*', copy_from='*.*'),
            r"and '{nec\*,neck}.\*' has \*$",
        ),
        (dict(path='**.head', copy_from='*'), r"and '\*\*.head' has \*\*$"),
        (dict(path='hea[*d]', copy_from='*'), r"and 'hea\[\*d\]' has none$"),
        (
            dict(path='backbone.layer*.0', copy_from='backbone.layr*.1'),
            r'rule 1 .* at backbone.layer1.0, to copy from: no module .* '
            r"'backbone.layr1.1'; the nearest .*backbone.layer1.1",
        ),
        (
            dict(path='**.linear', copy_from='**.line'),
            r"'backbone.layer1.0.line'; .*linear.* \(likewise at 3 more",
        ),
        (
            dict(path='head', copy_from='backbone.layer3'),
            "matches 'backbone.layer3'; the nearest .*backbone.layer[12]",
        ),
        (dict(path='hed', copy_from='backbone'), "matches 'hed'"),
        (
            dict(path='head', copy_from='backbone.stem'),
            r'head.weight \(3, 8\) and backbone.stem.weight \(8, 4\)',
        ),
        (
            dict(path='neck', copy_from='head'),
            'head has none of the new tensors of neck .neck.adapter.down',
        ),
        (dict(path='head', copy_from='head'), 'copied from itself'),
    ],
)
def test_a_copy_that_cannot_be_made_is_an_error(rule, words):
    model = ToyModel()
    before = snapshot(model)
    first = dict(path='head', init_cfg=ZERO)
    with pytest.raises(RuleError, match=words) as info:
        init_modules(model, [first, rule])
    assert 'rule 1' in str(info.value)
    for name, value in model.state_dict().items():
        assert same(value, before[name]), name


def test_all_shapes_that_differ_are_listed():
    model = ToyModel()
    model.backbone.layer2[0].linear = nn.Linear(4, 8)
    model.backbone.layer2[1].linear = nn.Linear(8, 5)
    with pytest.raises(RuleError) as info:
        plan_init(model, [LAYER2])
    for name in ('0.linear.weight', '1.linear.weight', '1.linear.bias'):
        assert f'backbone.layer2.{name} (' in str(info.value)


# --- a source for each match


def layered(*keys, count=3):
    """Layers, each with the parts that are named."""
    layer = {key: nn.Linear(2, 2) for key in keys}
    layers = [nn.ModuleDict(copy.deepcopy(layer)) for _ in range(count)]
    model = nn.ModuleDict(dict(layers=nn.ModuleList(layers)))
    for value in model.parameters():
        nn.init.normal_(value)
    return model


def sources_of(rule, model):
    """What each tensor that a rule writes has the values of."""
    before = snapshot(model)
    report = init_modules(model, [rule])
    sources = {t.name: t.source for t in report.tensors if t.rule == 0}
    for name, source in sources.items():
        assert same(model.state_dict()[name], before[source]), name
    return sources, report


def test_each_match_takes_what_its_wildcards_stand_for():
    model = layered('mlp', 'up', 'down')
    for layer in model['layers']:
        layer['experts'] = nn.ModuleList(nn.Linear(2, 2) for _ in range(4))
    rule = dict(path='layers.*.experts.*', copy_from='layers.*.mlp')
    sources, report = sources_of(rule, model)
    assert sources == {
        f'layers.{i}.experts.{j}.{key}': f'layers.{i}.mlp.{key}'
        for i in range(3)
        for j in range(4)
        for key in ('weight', 'bias')
    }
    assert report.rules[0].copy_from == 'layers.*.mlp'
    assert 'copy of layers.*.mlp' in str(report)


@pytest.mark.parametrize(
    'path, copy_from, expected',
    [
        ('layers.*.b_*', 'layers.*.a_*', {'0.b_x': '0.a_x', '1.b_x': '1.a_x'}),
        ('layers.1.b*x', 'layers.1.a*x', {'1.b_x': '1.a_x'}),
        ('layers.[!1].b_?', 'layers.1.a_x', {'0.b_x': '1.a_x'}),
        ('layers.*.[*b]_*', 'layers.*.a_*', {'0.b_x': '0.a_x'}),
        ('**.b_x', '**.a_x', {'0.b_x': '0.a_x', '1.b_x': '1.a_x'}),
        ('**.layers.*.b_x', '**.layers.*.a_x', {'0.b_x': '0.a_x'}),
        ('layers.*.b_x.**', 'layers.*.a_x.**', {'0.b_x': '0.a_x'}),
        # Each path of a list, and each word, has wildcards of its own.
        (
            ['layers.0.b_*', '{layers.1.b_*,none.*}'],
            'layers.1.a_*',
            {'0.b_x': '1.a_x', '1.b_x': '1.a_x'},
        ),
        # What several name takes the first one's.
        (
            ['layers.*.b_x', 'layers.0.b_*'],
            'layers.*.a_x',
            {'0.b_x': '0.a_x', '1.b_x': '1.a_x'},
        ),
    ],
)
def test_wildcards_of_a_source(path, copy_from, expected):
    model = layered('a_x', 'b_x', count=2)
    rule = dict(path=path, copy_from=copy_from)
    sources, _ = sources_of(rule, model)
    assert sources.items() >= {
        (f'layers.{a}.weight', f'layers.{b}.weight')
        for a, b in expected.items()
    }


def test_a_pattern_filled_in_with_what_it_stands_for_is_the_path():
    tree = ModelTree(ToyModel())
    tried = 0
    for pattern in (
        *('**', '*', '**.se', '**.**', 'backbone.*.*.se', '*.layer?.*.[!x]e'),
        *('*b*n*.**.fc*', '**.layer*.**.l*r', '**.*', '*.**.*.*', '**.1.**'),
    ):
        (segments,) = parse_pattern(pattern)
        for number, path in Selector(tree).named(segments):
            words = stand_for(segments, path)
            assert len(words) == len(wildcards(segments))
            assert tree.nodes[number].path == path
            if '?' not in pattern:
                assert filled_in(pattern, words) == path
            tried += 1
    assert tried > 100


def test_a_module_in_two_places_copies_by_the_name_that_matched():
    model = layered('a', 'b')
    model['again'] = nn.ModuleList(layer['b'] for layer in model['layers'])
    rule = dict(path='again.*', copy_from='layers.*.a')
    sources, _ = sources_of(rule, model)
    assert sources['layers.1.b.weight'] == 'layers.1.a.weight'
    assert sources['again.1.weight'] == 'layers.1.a.weight'
