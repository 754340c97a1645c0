"""What is looked at when all rules have written."""

import pytest
import torch.nn as nn
from toy import ToyModel

from mmpartinit import RuleError, init_modules


def rule(path, val, **others):
    return dict(path=path, init_cfg=dict(type='Constant', val=val), **others)


@pytest.mark.parametrize('bad', [float('inf'), float('nan')])
def test_values_that_a_later_rule_repairs_are_no_error(bad):
    model = ToyModel()
    broken, repair = rule('head', bad), rule('head.weight', 2.0)
    report = init_modules(model, [broken, repair])
    assert model.head.weight.eq(2).all()
    assert not [f for f in report.findings if f.level == 'error']
    weight = next(t for t in report.tensors if t.name == 'head.weight')
    assert (weight.rule, weight.mean, weight.std) == (1, 2.0, 0.0)
    with pytest.raises(RuleError, match='rule 1 .* finite: head.weight') as it:
        init_modules(model, [repair, broken])
    assert [f.names for f in it.value.findings] == [['head.weight']]


def test_a_repair_under_another_name_of_a_tied_tensor_counts():
    model = nn.ModuleDict({'a': nn.Linear(2, 2), 'b': nn.Linear(2, 2)})
    model['b'].weight = model['a'].weight
    report = init_modules(model, [rule('b', float('inf')), rule('a', 3.0)])
    assert model['b'].weight.eq(3).all()
    assert {t.name: t.mean for t in report.tensors if 'weight' in t.name} == {
        'a.weight': 3.0,
        'b.weight': 3.0,
    }
