"""What rules do to a model: matches, order, seeds, errors, nothing else."""

import operator
import random

import numpy as np
import pytest
import torch
import torch.nn as nn
from hypothesis import given
from hypothesis import strategies as st
from stacks import since_torch
from toy import SE_ZERO, ToyModel, same, snapshot

from mmpartinit import RuleError, init_modules, module_seed, plan_init

NORMAL = dict(type='Normal', layer='Linear')
SE = 'backbone.layer1.0.se'
UP = ('neck.adapter.up.weight', 'neck.adapter.up.bias')


def changed(model, before):
    after = model.state_dict()
    return {name for name in after if not same(after[name], before[name])}


# --- plan and apply are apart


def test_planning_writes_nothing():
    model = ToyModel()
    before = snapshot(model)
    plan = plan_init(model, [dict(path='backbone.**.se', init_cfg=NORMAL)])
    assert [match.path for match in plan.matches] == [
        f'backbone.layer{i}.{j}.se' for i in (1, 2) for j in (0, 1)
    ]
    assert changed(model, before) == set()
    plan.apply(seed=1)
    assert changed(model, before) == {
        f'backbone.layer{i}.{j}.se.fc{k}.{key}'
        for i in (1, 2)
        for j in (0, 1)
        for k in (1, 2)
        for key in ('weight', 'bias')
    }


def test_a_rule_acts_on_its_outermost_matches_only():
    model, other = ToyModel(), ToyModel()
    other.load_state_dict(snapshot(model))
    paths = ['backbone.layer1.0.se', 'backbone.layer1.0.**', 'backbone.layer1']
    plan = plan_init(model, [dict(path=paths, init_cfg=NORMAL)])
    assert [match.path for match in plan.matches] == ['backbone.layer1']
    plan.apply(seed=1)
    init_modules(
        other, [dict(path='backbone.layer1', init_cfg=NORMAL)], seed=1
    )
    assert changed(model, snapshot(other)) == set()


def test_a_later_rule_writes_over_an_earlier_one():
    model = ToyModel()
    every = dict(path='backbone.**.se', init_cfg=NORMAL)
    init_modules(model, [every, SE_ZERO])
    assert model.get_parameter(f'{SE}.fc2.weight').eq(0).all()
    init_modules(model, [SE_ZERO, every])
    assert model.get_parameter(f'{SE}.fc2.weight').ne(0).all()


def test_an_optional_path_may_match_nothing():
    model = ToyModel(new=False)
    before = snapshot(model)
    report = init_modules(model, [dict(SE_ZERO, optional=True)])
    assert changed(model, before) == set()
    assert [finding.code for finding in report.findings] == ['no-match']


# --- seeds


def test_values_do_not_depend_on_other_rules_or_modules():
    """An ablation that adds a block leaves the rest as it was."""
    rule = dict(path='backbone.**.se', init_cfg=NORMAL)
    gamma = dict(path='backbone.gamma', init_cfg=dict(type='Normal'))
    alone, among = ToyModel(), ToyModel()
    among.load_state_dict(snapshot(alone))
    among.backbone.layer1.append(nn.Linear(8, 8))
    init_modules(alone, [rule], seed=2)
    init_modules(
        among,
        [gamma, dict(path='backbone.layer1.2', init_cfg=NORMAL), rule],
        seed=2,
    )
    for name, value in alone.backbone.layer2.state_dict().items():
        assert same(value, among.backbone.layer2.state_dict()[name]), name


def test_modules_and_seeds_give_different_values():
    model, other = ToyModel(), ToyModel()
    rule = dict(path='backbone.**.se', init_cfg=NORMAL)
    init_modules(model, [rule], seed=2)
    init_modules(other, [rule], seed=3)
    weights = [
        net.get_parameter(f'backbone.layer{i}.0.se.fc1.weight')
        for net in (model, other)
        for i in (1, 2)
    ]
    for i, weight in enumerate(weights):
        assert not any(same(weight, w) for w in weights[i + 1 :])


def test_the_nth_rule_on_a_path_draws_its_own_numbers():
    model, other = ToyModel(), ToyModel()
    rule = dict(path=f'{SE}.fc1', init_cfg=dict(type='Normal'))
    init_modules(model, [rule, SE_ZERO, rule, rule], seed=2)
    target = other.get_submodule(f'{SE}.fc1')
    for n in (0, 1, 2):
        torch.manual_seed(module_seed(2, f'{SE}.fc1', n))
        nn.init.normal_(target.weight)
        is_last = n == 2
        assert (
            same(model.get_parameter(f'{SE}.fc1.weight'), target.weight)
            is is_last
        )


@given(st.integers(-(2**70), 2**70), st.text(), st.integers(0, 99))
def test_module_seed_is_a_seed_for_torch_and_says_its_arguments(seed, path, n):
    value = module_seed(seed, path, n)
    assert 0 <= value < 2**63
    torch.Generator().manual_seed(value)
    assert value != module_seed(seed, path, n + 1)
    assert value != module_seed(seed + 1, path, n)
    assert value != module_seed(seed, path + 'x', n)


def test_module_seed_never_changes():
    """Values of published configs depend on it."""
    assert module_seed(0, 'backbone.layer1.0.se') == 5151690869033398643


def draw_everywhere(module):
    if isinstance(module, nn.Linear):
        module.weight.data.fill_(random.random() + np.random.rand())
        module.bias.data.uniform_()


def test_the_global_random_state_is_untouched_and_not_used():
    rule = dict(path='head', init_cfg=dict(type='Apply', fn=draw_everywhere))
    drawn = []
    for start in (1, 2):
        random.seed(start)
        np.random.seed(start)
        torch.manual_seed(start)
        before = (random.getstate(), np.random.get_state()[1].tolist())
        torch_before = torch.get_rng_state()
        model = ToyModel()
        torch.set_rng_state(torch_before)
        init_modules(model, [rule], seed=9)
        assert before == (random.getstate(), np.random.get_state()[1].tolist())
        assert same(torch_before, torch.get_rng_state())
        drawn.append(model.head.weight)
    assert same(*drawn)


def test_the_global_random_state_is_untouched_by_an_error():
    def fail(module):
        torch.rand(3), np.random.rand(), random.random()
        raise KeyError('oh')

    model = ToyModel()
    before = torch.get_rng_state(), random.getstate()
    rule = dict(path='head', init_cfg=dict(type='Apply', fn=fail))
    with pytest.raises(RuleError, match='rule 0 .path .head.. at head: .*oh'):
        init_modules(model, [rule])
    assert same(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


# --- errors before anything is written


@pytest.mark.parametrize(
    'rule, words',
    [
        (dict(path='se', init_cfg=NORMAL), ['no module', SE]),
        (dict(path=[SE, 'nekc'], init_cfg=NORMAL), ["'nekc'", 'neck']),
        (
            dict(path=SE, init_cfg=dict(NORMAL, layer='Conv2d')),
            ["'Conv2d'", 'Linear (2)', 'LayerNorm (1)'],
        ),
        (
            dict(path=SE, init_cfg=dict(NORMAL, layer='Liner')),
            ["'Liner'", "did you mean 'Linear'"],
        ),
        (
            dict(
                path=SE,
                init_cfg=[
                    dict(NORMAL, layer='C'),
                    dict(NORMAL, layer=['A', 'B']),
                ],
            ),
            ['init_cfg[0]', "'C'", 'init_cfg[1]', "['A', 'B']"],
        ),
        (
            dict(path='backbone.gamma', init_cfg=NORMAL),
            ['backbone.gamma is a parameter', 'leave `layer` out'],
        ),
        (
            dict(
                path='head',
                init_cfg=dict(NORMAL, override=dict(name='fc')),
            ),
            ["names 'fc'", 'head has no such attribute'],
        ),
        (
            dict(path='data_preprocessor', init_cfg=NORMAL),
            ['data_preprocessor', 'no parameters'],
        ),
    ],
)
def test_a_rule_that_does_not_fit_the_model_is_refused(rule, words):
    model = ToyModel()
    before = snapshot(model)
    with pytest.raises(RuleError) as info:
        init_modules(model, [SE_ZERO, rule])
    for word in ['rule 1', *words]:
        assert word in str(info.value)
    assert changed(model, before) == set()


def test_all_that_does_not_fit_comes_in_one_error():
    with pytest.raises(RuleError, match='2 problems') as info:
        plan_init(
            ToyModel(),
            [
                dict(path='nekc', init_cfg=NORMAL),
                dict(path='head', init_cfg=dict(NORMAL, layer='Conv2d')),
            ],
        )
    assert 'rule 0' in str(info.value) and 'rule 1' in str(info.value)


@since_torch('2.0')
def test_parameters_without_memory_are_refused_by_name():
    with torch.device('meta'):
        model = ToyModel()
    with pytest.raises(RuleError, match=f'{SE}.fc2.weight.* meta device'):
        plan_init(model, [SE_ZERO])
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(RuleError, match='0.weight, 0.bias .*no shape yet'):
        plan_init(model, [dict(path='0', init_cfg=dict(type='Normal'))])


@pytest.mark.parametrize('kind', ['sparse', 'quantized'])
def test_what_has_no_plain_memory_is_refused_by_name(kind):
    model = nn.Sequential(nn.Linear(3, 3))
    if kind == 'sparse':
        model[0].weight = nn.Parameter(torch.eye(3).to_sparse_csr())
    else:
        values = torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.quint8)
        model[0].register_buffer('scales', values)
    rule = dict(path='0', init_cfg=dict(type='Normal'))
    name = '0.weight' if kind == 'sparse' else '0.scales'
    with pytest.raises(RuleError, match=f'{name} .*sparse, quantized'):
        plan_init(model, [rule])
    report = init_modules(model, [rule], loaded={name})
    assert name in report.rules[0].kept


# --- errors in what came out


def do_nothing(module):
    pass


def replace_weight(module):
    module.weight = nn.Parameter(torch.ones(3, 8))


def change_shape(module):
    module.bias.data = torch.ones(5)


@pytest.mark.parametrize(
    'init_cfg, words',
    [
        (dict(type='Apply', fn=do_nothing), 'initialises nothing'),
        (dict(type='Constant', val=float('inf')), 'not finite: head.weight'),
        (dict(type='Constant', val=float('nan')), 'not finite: head.weight'),
        (dict(type='Normal', std=-1.0), 'std >= 0.0'),
        (dict(type='Apply', fn=replace_weight), 'replaced weight by'),
        (
            dict(type='Apply', fn=change_shape),
            'it changed head.bias from float32 of shape',
        ),
    ],
)
def test_a_useless_result_is_an_error(init_cfg, words):
    model = ToyModel()
    weight = model.head.weight
    with pytest.raises(RuleError, match=words) as info:
        init_modules(model, [SE_ZERO, dict(path='head', init_cfg=init_cfg)])
    assert 'rule 1' in str(info.value)
    assert model.head.weight is weight


def zero_by_data(module):
    module.bias.data.zero_()


def zero_by_rebinding(module):
    module.bias.data = torch.zeros(3)


@pytest.mark.parametrize('fn', [zero_by_data, zero_by_rebinding])
def test_writing_the_value_that_is_there_is_writing(fn):
    model = ToyModel()
    nn.init.zeros_(model.head.bias)
    rule = dict(path='head', init_cfg=dict(type='Apply', fn=fn))
    report = init_modules(model, [rule])
    assert report.rules[0].wrote == ['head.bias']


def test_a_write_outside_of_the_path_is_an_error():
    class Head(nn.Module):
        def __init__(self, other):
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.__dict__['other'] = other

        def init_weights(self):
            nn.init.zeros_(self.fc.weight)
            self.other.weight.data.zero_()

    model = nn.ModuleDict({'other': nn.Linear(2, 2)})
    model['head'] = Head(model['other'])
    rule = dict(path='head', init_cfg=dict(type='InitWeights'))
    with pytest.raises(RuleError, match='also write other.weight, outside'):
        init_modules(model, [rule])


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2).double()
        self.gate = nn.Parameter(torch.tensor([float('nan')]))
        self.register_buffer('mask', torch.zeros(2))

    def init_weights(self):
        nn.init.constant_(self.fc.weight, 1e300)
        nn.init.constant_(self.fc.bias, torch.finfo(torch.float32).max)
        self.mask.fill_(float('-inf'))


def test_what_is_meant_to_be_infinite_or_large_is_no_error():
    model = nn.Sequential(Masked())
    rule = dict(path='0', init_cfg=dict(type='InitWeights'))
    report = init_modules(model, [rule])
    wrote = {'0.fc.weight', '0.fc.bias', '0.mask'}
    assert set(report.rules[0].wrote) == wrote
    mask = next(t for t in report.tensors if t.name == '0.mask')
    assert (mask.origin, mask.mean) == ('rule', None)


# --- weights that are not what they seem


@pytest.mark.parametrize(
    'norm',
    [
        'utils.weight_norm',
        pytest.param(
            'utils.parametrizations.weight_norm', marks=since_torch('2.1')
        ),
    ],
)
@pytest.mark.parametrize('layer', [None, 'Linear'])
def test_a_computed_weight_is_refused_by_name(norm, layer):
    base = dict(type='Normal', std=0.01)
    cfg = dict(base, layer=[layer, 'ParametrizedLinear']) if layer else base
    weight_norm = operator.attrgetter(norm)(nn)
    model = nn.Sequential(nn.Sequential(weight_norm(nn.Linear(3, 3))))
    before = snapshot(model)
    with pytest.raises(RuleError, match='0.0.weight is computed'):
        init_modules(model, [dict(path='0', init_cfg=cfg)])
    assert changed(model, before) == set()
    # The way out that the error names.
    name = next(n for n, _ in model.named_parameters() if 'weight' in n)
    init_modules(model, [dict(path=name, init_cfg=base)])
    assert changed(model, before) == {name}


class Around(nn.Module):
    """Shows the weight of another layer as its own, as peft's layers do."""

    def __init__(self, layer, is_inside=True):
        super().__init__()
        self.adapter = nn.Linear(3, 3)
        self.layers = [layer]
        if is_inside:
            self.base = layer

    @property
    def weight(self):
        return self.layers[0].weight


def test_a_weight_of_a_layer_inside_is_written_there():
    inner = nn.Linear(3, 3)
    model = nn.Sequential(Around(inner))
    cfg = dict(type='Constant', val=2.0)
    loaded = ['0.base.bias']
    report = init_modules(model, [dict(path='0', init_cfg=cfg)], loaded=loaded)
    wrote = ['0.adapter.weight', '0.adapter.bias', '0.base.weight']
    assert report.rules[0].wrote == wrote
    assert report.rules[0].kept == loaded
    assert all((inner.weight == 2).flatten())


def test_a_weight_of_a_layer_elsewhere_is_refused():
    model = nn.Sequential(Around(nn.Linear(3, 3), False), nn.Linear(3, 3))
    model[0].layers[0] = model[1]
    before = snapshot(model)
    cfg = dict(type='Constant', val=2.0)
    with pytest.raises(RuleError, match='0.weight is computed'):
        init_modules(model, [dict(path='0', init_cfg=cfg)])
    assert changed(model, before) == set()


def test_an_item_of_a_list_that_reaches_nothing_is_a_warning():
    """One list for many models: not each has a norm."""
    cfg = [dict(NORMAL, std=0.5), dict(NORMAL, layer=['A', 'BatchNorm1d'])]
    report = init_modules(ToyModel(), [dict(path=SE, init_cfg=cfg)])
    assert len(report.rules[0].wrote) == 4
    (found,) = [f for f in report.findings if f.level == 'warning']
    assert (found.code, found.rule, found.path) == ('unused-item', 0, SE)
    for words in ('init_cfg[1] Normal', "'BatchNorm1d'", 'Linear (2)'):
        assert words in found.message


def test_one_of_several_functions_that_writes_nothing_is_a_warning():
    apply = dict(type='Apply', fn=lambda module: None)
    rule = dict(path='head', init_cfg=[apply, dict(type='Normal')])
    report = init_modules(ToyModel(), [rule])
    assert report.rules[0].wrote == ['head.weight', 'head.bias']
    (found,) = [f for f in report.findings if f.code == 'unused-item']
    assert found.level == 'warning' and 'wrote none' in found.message


class HardGate(nn.Module):
    """Has what only looks like a weight and a bias."""

    weight = 'of the class'

    def __init__(self):
        super().__init__()
        self.bias = 3.0
        self.linear = nn.Linear(2, 2)


@pytest.mark.parametrize('kind', ['Constant', 'Orthogonal'])
def test_a_weight_or_bias_that_is_no_tensor_is_let_alone(kind):
    model = nn.ModuleDict({'gate': HardGate(), 'gru': nn.GRU(2, 2)})
    init_cfg = dict(type=kind, bias=1.0)
    if kind == 'Constant':
        init_cfg['val'] = 1.0
    report = init_modules(model, [dict(path='gate', init_cfg=init_cfg)])
    assert report.rules[0].wrote == [
        'gate.linear.weight',
        'gate.linear.bias',
    ]
    assert model['gate'].bias == 3.0
    assert 'weight' not in vars(model['gate'])
    # A flag, in a layer whose weights have other names.
    with pytest.raises(RuleError, match='nothing under gru has either'):
        init_modules(model, [dict(path='gru', init_cfg=init_cfg)])
    assert model['gru'].bias is True
    init_modules(model, [dict(path='gru.weight_*', init_cfg=init_cfg)])


def test_a_layer_that_is_there_and_holds_nothing_itself():
    cfg = dict(NORMAL, layer='SE')
    with pytest.raises(RuleError, match='SE has neither itself'):
        init_modules(ToyModel(), [dict(path=SE, init_cfg=cfg)])


def test_a_missing_checkpoint_is_said_before_anything_is_written():
    model = ToyModel()
    before = snapshot(model)
    cfg = dict(type='Pretrained', checkpoint='no/such.pth')
    with pytest.raises(RuleError, match="no checkpoint file 'no/such.pth'"):
        init_modules(model, [SE_ZERO, dict(path='head', init_cfg=cfg)])
    assert changed(model, before) == set()


def test_a_checkpoint_without_a_matching_key_is_an_error(tmp_path):
    torch.save({'other.weight': torch.ones(2)}, tmp_path / 'other.pth')
    cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth'))
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    with pytest.raises(RuleError, match='Pretrained.*initialises nothing'):
        init_modules(model, [dict(path='0', init_cfg=cfg)])


# --- what is said to be loaded


@pytest.mark.parametrize(
    'loaded, kept',
    [
        ('head.weight', {'head.weight'}),
        ('head', {'head.weight', 'head.bias'}),
        (['head.b*', 'neck.**.up'], {'head.bias', *UP}),
        ((name for name in ['neck']), None),
        ({'backbone.layer1.0.bn.running_mean'}, None),
        ([], set()),
    ],
)
def test_what_is_said_to_be_loaded_is_kept(loaded, kept):
    model = ToyModel()
    before = snapshot(model)
    rule = dict(path='**', init_cfg=dict(type='Constant', val=9.0, bias=9.0))
    if kept is None and not isinstance(loaded, set):
        with pytest.raises(RuleError, match='must be a str or a list of str'):
            init_modules(model, [rule], loaded=loaded)
        return
    kept = loaded if kept is None else kept
    report = init_modules(model, [rule], loaded=loaded)
    assert set(report.rules[0].kept) == set(kept)
    assert not changed(model, before) & set(kept)


def test_what_is_said_to_be_loaded_has_to_be_there():
    rule = dict(path='head', init_cfg=dict(type='Normal'))
    model = ToyModel()
    with pytest.raises(RuleError) as info:
        plan_init(model, [rule], loaded={'module.head.weight', 'a b{'})
    (found,) = info.value.findings
    assert found.code == 'loaded' and 'module.head.weight' in found.message
    plan = plan_init(model, [rule], loaded=['head.weight', 'fc.weight'])
    (found,) = [f for f in plan.findings if f.code == 'unknown-loaded']
    assert (found.level, found.names) == ('warning', ['fc.weight'])
    assert plan.origins.kept == {'head.weight'}


@pytest.mark.parametrize('seed', [True, 3.0, None, '3'])
def test_a_seed_is_an_int(seed):
    with pytest.raises(RuleError, match='`seed` must be an int, not'):
        init_modules(ToyModel(), [SE_ZERO], seed=seed)


def test_integers_of_numpy_are_seeds(tmp_path):
    models = [ToyModel(), ToyModel()]
    rule = dict(path='head', init_cfg=dict(type='Normal'))
    for model, seed in zip(models, (7, np.int64(7))):
        report = init_modules(model, [rule], seed=seed)
    assert same(*(model.head.weight for model in models))
    report.save(str(tmp_path / 'report.json'))


def test_a_plan_is_for_the_model_as_it_was():
    model = ToyModel()
    plan = plan_init(model, [dict(path='head', init_cfg=NORMAL)])
    model.neck.adapter.up.weight = nn.Parameter(torch.ones(8, 2))
    with pytest.raises(
        RuleError, match='neck.adapter.up.weight is another tensor'
    ):
        plan.apply()
    plan_init(model, [dict(path='head', init_cfg=NORMAL)]).apply()


def test_errors_say_which_rule_and_path_they_are_about():
    rules = [
        dict(path='head', init_cfg=NORMAL),
        dict(path=['head', 'nekc'], init_cfg=NORMAL),
        dict(path='head', init_cfg=dict(type='Kaimin')),
    ]
    for wrong, code in ((rules[:2], 'path-not-found'), (rules, 'init-cfg')):
        with pytest.raises(RuleError) as info:
            plan_init(ToyModel(), wrong)
        (found,) = info.value.findings
        path = ', '.join(np.atleast_1d(wrong[-1]['path']))
        assert (found.code, found.level) == (code, 'error')
        assert (found.rule, found.path) == (len(wrong) - 1, path)
