"""What findings say, where no run of one process comes to it."""

import pytest
import torch.nn as nn

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
