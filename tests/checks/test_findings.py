"""What findings say, where no run of one process comes to it."""

import pytest
import torch.nn as nn
from torch.nn.utils import skip_init

from mmpartinit import plan_init
from mmpartinit.checks import findings as find


class SaysWhatItWrites:
    writes = ('weight',)

    def __call__(self, module):
        """Never called."""


KNOWN = dict(path='0', init_cfg=dict(type='Normal'))
SAYS = dict(path='1', init_cfg=dict(type=SaysWhatItWrites))
APPLY = dict(path='2', init_cfg=dict(type='Apply', fn=nn.init.ones_))
COPY = dict(path='3', copy_from='0')


@pytest.mark.parametrize(
    'rules, names, who',
    [
        ([KNOWN, APPLY], ['0.weight'], 'processors'),
        ([KNOWN, SAYS], ['0.weight', '1.weight'], 'processors'),
        ([KNOWN, COPY], ['3.weight'], 'processors'),
        ([KNOWN, APPLY], ['2.weight'], 'initializer'),
        ([KNOWN, APPLY], ['0.weight', '2.weight'], 'initializer'),
        ([dict(KNOWN, path='2'), APPLY], ['2.weight'], 'initializer'),
        ([APPLY, dict(KNOWN, path='2')], ['2.weight'], 'processors'),
    ],
)
def test_ranks_that_differ_do_so_by_processor_or_by_initializer(
    rules, names, who
):
    model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(4)])
    (found,) = find.differed(names, plan_init(model, rules).matches)
    assert (found.level, found.code) == ('warning', 'ranks-differed')
    assert found.names == names
    words = {
        'processors': 'the processors of the ranks round in other ways',
        'initializer': 'their initializer depends on the rank',
    }
    assert found.message.endswith(words.pop(who))
    assert words.popitem()[1] not in found.message


def test_ranks_that_do_not_differ_are_no_finding():
    assert find.differed([], []) == []


class Large(nn.Module):
    """Half a GiB that is loaded, and adapters beside it."""

    def __init__(self):
        super().__init__()
        # Never written, so that no memory is really taken.
        self.project = skip_init(nn.Linear, 8192, 16384, bias=False)
        self.adapters = nn.ModuleList(nn.Linear(2, 2) for _ in range(4))


def reset(module):
    """What only running it tells."""
    if isinstance(module, nn.Linear):
        module.reset_parameters()


@pytest.mark.parametrize(
    'init_cfg, said',
    [
        (dict(type='Apply', fn=reset), '512 MiB'),
        # What the first has written is remembered for the second.
        ([dict(type='Apply', fn=reset)] * 2, '1,024 MiB'),
        (dict(type='Normal', layer='Linear'), ''),
    ],
)
def test_what_a_rule_copies_of_loaded_tensors_is_said_where_it_is_much(
    init_cfg, said
):
    rules = [dict(path='**', init_cfg=init_cfg)]
    plan = plan_init(Large(), rules, loaded=['project.weight'])
    told = [f.message for f in plan.findings if f.code == 'memory']
    assert len(told) == bool(said)
    if told:
        assert said in told[0]
        assert 'adapters.0, adapters.1, adapters.2 and 1 more' in told[0]
    narrow = [dict(path='adapters.*', init_cfg=init_cfg)]
    plan = plan_init(Large(), narrow, loaded=['project.weight'])
    assert 'memory' not in [f.code for f in plan.findings]
