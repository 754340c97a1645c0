"""Which part is which, what departs, and what cannot be judged."""

import math

import pytest
import torch
import torch.nn as nn

from mmpartinit.model.tree import ModelTree
from mmpartinit.trial.drift import (
    Comparison,
    PartDrift,
    change_ahead,
    compare,
    mark_unsteady,
)
from mmpartinit.trial.parts import loaded_parts, pair_parts
from mmpartinit.trial.recording import Recording, Sample, drift
from mmpartinit.trial.table import comparison_text, percent, verdict


def pairs_of(base, ours, loaded=None):
    """Which is which, by paths, where both are loaded as they say."""
    trees = ModelTree(base), ModelTree(ours)
    names = list(base.state_dict()), loaded or list(ours.state_dict())
    parts = [loaded_parts(t, n) for t, n in zip(trees, names)]
    found = pair_parts(trees[0], parts[0], trees[1], parts[1])
    both = {pair.base.path: pair.ours.path for pair in found.both}
    return both, found


def norms(*names):
    """Layers that all hold the same values."""
    return nn.ModuleDict({name: nn.LayerNorm(3) for name in names})


def test_of_parts_that_are_alike_that_at_the_path_is_meant():
    both, found = pairs_of(norms('b', 'c'), norms('a', 'b', 'c'))
    assert both == dict(b='b', c='c')
    both, found = pairs_of(norms('b', 'c'), norms('c', 'd', 'e'))
    assert both == dict(b='d', c='c')
    assert not found.unloaded


def test_a_part_that_moved_is_found_by_its_values():
    base = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    ours = nn.Sequential(base[0], nn.Linear(3, 3), base[1])
    names = ['0.weight', '0.bias', '2.weight', '2.bias']
    both, found = pairs_of(base, ours, names)
    assert both == {'0': '0', '1': '2'}
    assert not found.unloaded and not found.shifted


def test_where_values_differ_the_path_counts_if_it_fits():
    base = nn.ModuleDict(dict(a=nn.Linear(3, 3), b=nn.Linear(3, 4)))
    ours = nn.ModuleDict(dict(a=nn.Linear(3, 3), b=nn.Linear(3, 5)))
    both, found = pairs_of(base, ours)
    assert both == dict(a='a')
    assert found.unloaded == ['b.weight', 'b.bias']
    assert not found.shifted


@pytest.mark.parametrize(
    'kinds, moved',
    [
        ('nCCC', {'0': '1', '1': '2', '2': '3'}),
        ('CnCnC', {'1': '2', '2': '4'}),
        ('CCC', {}),
        ('CCCn', {}),
    ],
)
def test_what_moved_in_a_sequential_is_said(kinds, moved):
    def build(kinds):
        layers = dict(C=nn.Linear(3, 3), n=nn.Bilinear(3, 3, 3))
        return nn.Sequential(
            *(type(layers[k])(*[3] * (2 + (k == 'n'))) for k in kinds)
        )

    # Nothing is loaded, so that all that moved shows.
    _, found = pairs_of(build('CCC'), build(kinds), ['none'])
    assert dict(found.shifted) == moved
    assert len(found.unloaded) == 6


def samples(*values):
    tensors = [torch.tensor(value) for value in values]
    return [Sample(tuple(t.shape), t) for t in tensors]


@pytest.mark.parametrize(
    'ours, base, expected',
    [
        ([[3.0, 4.0]], [[3.0, 4.0]], 0.0),
        ([[3.0, 4.5]], [[3.0, 4.0]], 0.1),
        ([[0.0], [5.0]], [[0.0], [4.0]], 0.25),
        ([[0.0]], [[0.0]], 0.0),
        ([[1.0]], [[0.0]], math.inf),
        ([[1.0, 2.0]], [[1.0]], None),
        ([[1.0]], [[math.nan]], None),
        ([], [], None),
    ],
)
def test_a_drift_is_by_the_norm_of_the_pretrained(ours, base, expected):
    assert drift(samples(*ours), samples(*base)) == expected


def test_what_is_not_finite_departs():
    value = drift(samples([math.nan]), samples([1.0]))
    part = PartDrift('a', 'a', [0.0, value])
    assert part.departs and percent(part.drift) == 'not finite'
    assert PartDrift('a', 'a', [math.inf]).departs
    assert not PartDrift('a', 'a', [None]).departs


def chain(*drifts):
    """Parts a, b, ... with these drifts, and the last as the output."""
    parts = [PartDrift(name, name, [d]) for name, d in zip('abcdef', drifts)]
    output = parts.pop()
    return Comparison(parts, output)


def recording(*values):
    """What parts a, b, ... give, and what the network does."""
    calls = {n: [samples([v])] for n, v in zip('abcdef', values[:-1])}
    return Recording(calls, samples([values[-1]]), list(calls))


def test_only_what_grows_at_once_hangs_on_a_choice():
    base = recording(1.0, 1.0, 1.0, 1.0)
    cases = [
        # drifts, how the pretrained itself is moved, parts not judged
        ((0.0, 0.02, 0.5, 0.5), (1.01, 1.02, 1.4, 1.4), 'c.'),
        ((0.0, 0.02, 0.5, 0.5), (1.01, 1.02, 1.1, 1.1), ''),
        # step by step, by no choice
        ((0.0, 0.02, 0.06, 0.1), (1.01, 1.02, 1.035, 1.06), ''),
        # far away, but not further than it may be
        ((0.0, 0.01, 0.04, 0.01), (1.01, 1.02, 1.4, 1.4), ''),
    ]
    for drifts, moved, expected in cases:
        found = chain(*drifts)
        found.allow(lambda part: 0.05)
        mark_unsteady(found, base, recording(*moved))
        marked = [p.path for p in found.parts if p.unsteady]
        marked += ['.'] * found.output.unsteady
        names = [n if n != 'd' else '.' for n in marked]
        assert ''.join(names) == expected, (drifts, moved)


def test_the_change_ahead_is_what_was_tolerated():
    found = chain(0.0, 0.02, 0.01, 0.5, 0.5)
    found.allow(lambda part: 0.05)
    assert change_ahead(found) == 0.02
    assert found.first.path == 'd'


def test_a_shift_alone_is_no_success():
    found = chain(0.0, 0.0)
    assert found.is_same
    found.shifted.append(('layers.1', 'layers.2'))
    assert not found.is_same and 'shifts indices' in verdict(found)


def test_parts_that_are_not_called_are_counted():
    base, ours = norms('a', 'b'), norms('a', 'b')
    _, pairs = pairs_of(base, ours)
    one = recording(1.0, 1.0)
    found = compare(one, one, pairs)
    assert [part.path for part in found.parts] == ['a']
    assert found.idle == ['b']
    text = comparison_text(found, 'a random input', 79)
    assert '1 parts compared, 1 more were not called' in text
