"""The memory in which initializers write."""

import pytest
import torch
import torch.nn as nn
from mmengine.registry import WEIGHT_INITIALIZERS
from toy import same, snapshot

from mmpartinit import init_modules

SEEN = {}


@WEIGHT_INITIALIZERS.register_module(force=True)
class WritesOnly:
    """Says what it writes, and that it reads nothing."""

    writes = ('weight',)
    reads = False

    def __call__(self, module):
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                SEEN[layer] = layer.weight.data_ptr()
                layer.weight.data.fill_(3)


@WEIGHT_INITIALIZERS.register_module(force=True)
class MayRead(WritesOnly):
    """Reads, as far as is known."""

    writes = ('weight',)


@pytest.mark.parametrize('kind, is_shared', [(WritesOnly, 1), (MayRead, 0)])
def test_what_is_kept_shares_memory_to_be_forgotten(kind, is_shared):
    """Copying a loaded backbone aside would take as much memory again."""
    sizes = (4, 6, 8, 2)
    model = nn.Sequential(*(nn.Linear(n, n, False) for n in sizes))
    # Given memory in the order of where they lie.
    for layer, memory in zip(model, torch.zeros(4, 64)):
        size = len(layer.weight)
        layer.weight.data = memory[: size * size].view(size, size).fill_(size)
    before, home = snapshot(model), [m.weight.data_ptr() for m in model]
    SEEN.clear()
    rule = dict(path='**', init_cfg=dict(type=kind))
    report = init_modules(model, [rule], loaded=['0.weight', '2.weight'])
    assert report.rules[0].wrote == ['1.weight', '3.weight']
    assert [m.weight.data_ptr() for m in model] == home
    for name, tensor in model.state_dict().items():
        if name in report.rules[0].kept:
            assert same(tensor, before[name])
        else:
            assert torch.all(tensor == 3)
    places = [SEEN[layer] for layer in model]
    assert not set(places) & set(home)
    assert (places[0] == places[2]) == is_shared
    assert len({*places[1::2], places[0]}) == 3


def test_matches_that_are_alike_write_to_the_same_memory():
    """New memory for each would take as long as writing it."""
    sizes = (8, 8, 6, 6)
    model = nn.Sequential(*(nn.Linear(n, n, False) for n in sizes))
    SEEN.clear()
    init_modules(model, [dict(path='*', init_cfg=dict(type=WritesOnly))])
    places = [SEEN[layer] for layer in model]
    assert places[0] == places[1]
    assert places[2] == places[3]
    assert not set(places) & {layer.weight.data_ptr() for layer in model}
    assert all(layer.weight.eq(3).all() for layer in model)
