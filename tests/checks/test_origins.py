"""What is said of where values come from, and what is no news."""

import copy

import pytest
import torch
import torch.nn as nn
from mmengine.runner.checkpoint import load_state_dict

from mmpartinit.functions import origins_of
from mmpartinit.model.whole import WholeModel
from mmpartinit.plan import make_plan
from mmpartinit.rules.rule import parse_rules

NONE = 'none is made'


class Odd(nn.Linear):
    pass


class Net(nn.Module):
    """A backbone, and a head of a formula's."""

    def __init__(self, classes=5) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6))
        self.offsets = nn.ModuleList(nn.Linear(6, 8) for _ in range(5))
        for layer in self.offsets:
            layer.bias.data = torch.linspace(-1, 1, 8)
        self.neck = Odd(6, 6)
        self.neck.register_buffer('grid', torch.arange(6.0))
        self.head = nn.Linear(6, classes)


def others(model, *parts):
    """What a file may have of some parts of a model, or of all."""
    return {
        key: torch.randn_like(value)
        for key, value in model.state_dict().items()
        if not parts or key.startswith(parts)
    }


def planned(model, rules=(), build=Net, expected=False):
    """A plan as the hook makes it: by what was recorded, and by a second
    start where there is a function for it.
    """
    whole = WholeModel(model)
    origins = origins_of(whole, build, {})
    origins.expected = expected
    return make_plan(whole, parse_rules(list(rules)), origins)


def told(plan, code):
    """The findings of a code, once all is written."""
    plan.check()
    return [found for found in plan.apply(3).findings if found.code == code]


def constant(path, **more):
    cfg = dict(type='Constant', val=0.5, bias=0.25)
    return dict(path=path, init_cfg=cfg, **more)


# --- put in


LAYER = dict(type='Constant', layer='Linear', val=0.5, bias=0.25)


@pytest.mark.parametrize(
    'start',
    [
        constant('offsets'),
        dict(path='offsets', init_cfg=[LAYER, dict(LAYER, layer='Conv2d')]),
        dict(path='offsets', init_cfg=LAYER),
    ],
)
@pytest.mark.parametrize('beside', [False, True])
def test_put_in_has_a_rule_to_paste(start, beside):
    def make():
        model = Net()
        if beside:
            load_state_dict(model, files, logger='silent')
        return model

    files = {'offsets.3.weight': torch.randn(8, 6)}
    model = make()
    before = copy.deepcopy(model.state_dict())
    (found,) = told(planned(model, [start], make), 'put-in')
    assert found.level == 'warning'
    assert found.names == [f'offsets.{i}.bias' for i in range(5)]
    assert model.offsets[0].weight.eq(0.5).all()
    for name in found.names:
        assert torch.equal(model.state_dict()[name], before[name])
    more = eval(found.message.partition('writes them: ')[2])
    model.load_state_dict(before)
    told(planned(model, [start, more], make), 'put-in')
    for layer in model.offsets:
        assert layer.bias.unique().numel() == 1
    if beside:
        assert torch.equal(model.offsets[3].weight, files['offsets.3.weight'])


@pytest.mark.parametrize(
    'rule',
    [
        constant('offsets.*.weight'),  # names no formula
        constant('neck'),  # a buffer is no weight
        constant('offsets', overwrite=True),
        # reaches the neck, and no offsets
        dict(path=['offsets', 'neck'], init_cfg=dict(LAYER, layer='Odd')),
    ],
)
def test_put_in_is_not_said_of_what_no_rule_would_write(rule):
    plan = planned(Net(), [rule])
    assert not plan.errors
    assert 'put-in' not in [found.code for found in plan.findings]


def test_what_a_copy_would_write_is_put_in_too():
    rule = dict(path='offsets.1', copy_from='offsets.0')
    model = Net()
    model.offsets[0].bias.data.zero_()
    (found,) = told(planned(model, [rule]), 'put-in')
    assert found.names == ['offsets.1.bias']
    more = eval(found.message.partition('writes them: ')[2])
    told(planned(model, [rule, more]), 'put-in')
    assert model.offsets[1].bias.eq(0).all()


def test_each_copy_that_is_put_in_has_its_own_source_to_paste():
    def make():
        model = Net()
        model.more = nn.ModuleList(
            nn.ModuleDict(dict(a=nn.Linear(6, 8), b=copy.deepcopy(layer)))
            for layer in model.offsets
        )
        for number, layer in enumerate(model.more):
            layer['a'].bias.data = torch.arange(8.0) * number
        return model

    rule = dict(path='more.*.b', copy_from='more.*.a')
    model = make()
    (found,) = told(planned(model, [rule], make), 'put-in')
    assert found.names == [f'more.{i}.b.bias' for i in range(5)]
    more = eval(found.message.partition('writes them: ')[2])
    told(planned(model, [rule, *more], make), 'put-in')
    for layer in model.more:
        assert torch.equal(layer['b'].bias, layer['a'].bias)


# --- in part


def widened():
    model = Net()
    model.neck.weight.data[:, :4] = torch.arange(24.0).view(6, 4)
    return model


def test_partly_counts_what_was_drawn():
    model = widened()
    before = model.neck.weight.clone()
    (found,) = told(planned(model, [constant('neck')], widened), 'partly')
    assert (found.level, found.names) == ('warning', ['neck.weight'])
    assert 'drawn: neck.weight: 12' in found.message
    assert torch.equal(model.neck.weight, before)
    over = constant('neck', overwrite=True)
    assert not told(planned(widened(), [over], widened), 'partly')
    assert not told(planned(Net()), 'partly')


# --- lost


def loaded_and(then, file=None):
    """A function that makes a model, loads its neck and does something."""

    def make():
        model = Net()
        model.load_state_dict(state, strict=False)
        then(model.neck)
        return model

    state = others(Net(), 'neck')
    return make


def drawn(neck):
    nn.init.normal_(neck.weight)


def emptied(neck):
    nn.init.zeros_(neck.weight)


def formula(neck):
    nn.init.eye_(neck.weight)


@pytest.mark.parametrize(
    'then, second, words',
    [
        (drawn, True, 'start from chance'),
        (emptied, True, 'start from one value'),
        (drawn, False, 'are kept, for it may be on purpose'),
    ],
)
@pytest.mark.parametrize('adapted', [False, True])
def test_lost_says_what_is_there_instead(then, second, words, adapted):
    make = loaded_and(then)
    model = make()
    if adapted:
        model.neck.init_cfg = dict(type='AdaptedPretrained', checkpoint='x')
    (found,) = told(planned(model, build=make if second else NONE), 'lost')
    assert (found.level, found.names) == ('warning', ['neck.weight'])
    assert f'; they {words}' in found.message
    assert ('AdaptedPretrained in a rule' in found.message) is adapted


def test_lost_is_not_said_of_conversions_and_of_changes_on_purpose():
    def converted(neck):
        neck.half().float()

    make = loaded_and(converted)
    assert not told(planned(make(), build=make), 'lost')
    assert not told(planned(make(), build=NONE), 'lost')
    # Made of what was loaded, it may be: a factor, a part of it.
    make = loaded_and(formula)
    assert not told(planned(make(), build=make), 'lost')
    # What a second start still holds, a script has changed.
    make = loaded_and(lambda neck: None)
    model = make()
    model.neck.weight.data.mul_(0.5)
    plan = planned(model, build=make)
    assert not told(plan, 'lost')
    assert plan.origins.of('neck.weight') == 'code'


# --- the file's side


def test_shape_has_both():
    model = Net()
    load_state_dict(model, others(Net(7)), logger='silent')
    (found,) = told(planned(model), 'shape')
    assert (found.level, found.names) == ('note', ['head.weight', 'head.bias'])
    assert 'head.weight (7, 6), here (5, 6)' in found.message
    model.head = nn.Linear(6, 7)
    assert not told(planned(model), 'shape')
    model = Net()
    load_state_dict(model, others(model), logger='silent')
    assert not told(planned(model), 'shape')


def test_renamed_names_both():
    model = Net()
    state = others(model, 'backbone', 'neck')
    state = {k.replace('backbone.', 'net.body.'): v for k, v in state.items()}
    load_state_dict(model, state, logger='silent')
    (found,) = told(planned(model), 'renamed')
    assert found.level == 'warning'
    assert set(found.names) == {
        name for name in model.state_dict() if name.startswith('backbone')
    }
    assert "'backbone.' in place of 'net.body.' 4 of them" in found.message
    # What a rule covers is not missed.
    assert not told(planned(model, [constant('backbone')]), 'renamed')


def test_the_classifier_of_a_pretrained_backbone_is_no_news():
    model = Net()
    state = others(model, 'backbone')
    state = {k.partition('.')[2]: v for k, v in state.items()}
    state.update({'fc.weight': torch.ones(9, 6), 'fc.bias': torch.ones(9)})
    load_state_dict(model.backbone, state, logger='silent')
    plan = planned(model)
    (checkpoint,) = plan.origins.checkpoints
    assert [*checkpoint.unused] == ['fc.weight', 'fc.bias']
    codes = {found.code for found in plan.findings}
    assert not codes & {'renamed', 'nothing-loaded', 'shape', 'lost'}


def test_nothing_loaded_where_a_file_was_expected():
    rules = [constant('neck')]
    (found,) = told(planned(Net(), rules, NONE, True), 'nothing-loaded')
    assert found.level == 'warning'
    assert 'as if all of it were new' in found.message
    assert not told(planned(Net(), rules, NONE), 'nothing-loaded')
    assert not told(planned(Net(), (), NONE, True), 'nothing-loaded')
    model = Net()
    load_state_dict(model, others(model, 'backbone'), logger='silent')
    assert not told(planned(model, rules, NONE, True), 'nothing-loaded')


def test_formulas_are_no_file():
    """They come out the same in a second start, whatever was loaded."""
    rules = [constant('neck.weight')]
    (found,) = told(planned(Net(), rules, Net, True), 'nothing-loaded')
    assert 'no tensor of the model is from a file' in found.message


# --- what is drawn, and stays so


def test_frozen_new_is_what_keeps_random_values():
    def make():
        model = Net()
        load_state_dict(model, state, logger='silent')
        return model.requires_grad_(False)

    state = others(Net(), 'backbone.0')
    (found,) = told(planned(make(), [constant('head')], make), 'frozen-new')
    assert found.level == 'warning'
    assert set(found.names) == {
        *('backbone.1.weight', 'backbone.1.bias', 'neck.weight', 'neck.bias'),
        *(f'offsets.{i}.weight' for i in range(5)),
    }
    assert not told(planned(Net()), 'frozen-new')
    # Nothing was looked at, so nothing is known.
    model = Net().requires_grad_(False)
    assert not told(planned(model, build=NONE), 'frozen-new')


def test_parts_that_hold_formulas_alone_are_not_uncovered():
    def make():
        model = Net()
        load_state_dict(model.backbone, state, logger='silent')
        return model

    state = {'0.weight': torch.randn(6, 4), '0.bias': torch.randn(6)}
    (found,) = told(planned(make(), build=make), 'uncovered')
    # Beside what was loaded; not beside the offsets' and the neck's formulas.
    assert set(found.names) == {'backbone.1.weight', 'backbone.1.bias'}
    assert not told(planned(Net()), 'uncovered')
