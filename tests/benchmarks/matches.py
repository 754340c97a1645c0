"""What one match of a rule costs, in models of many."""

import statistics
from functools import partial

import torch.nn as nn
from mmengine.model import initialize
from timing import Row, in_turns, seconds

from mmpartinit import init_modules

CFG = dict(type='TruncNormal', layer='Linear', std=0.02)
RULES = [dict(path='**.adapter', init_cfg=CFG)]
MODULES = 6  # of a layer


class Layer(nn.Module):
    """Two modules that are loaded, and an adapter."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)
        self.adapter = nn.Sequential(
            nn.Linear(width, inner), nn.Linear(inner, width)
        )


def adapted(layers: int, width: int, inner: int):
    """A model of so many layers, and what of it was loaded."""
    model = nn.Sequential(*(Layer(width, inner) for _ in range(layers)))
    return model, {n for n in model.state_dict() if 'adapter' not in n}


def rows():
    """Against the same by hand, and against itself in smaller models."""
    model, loaded = adapted(500, 64, 16)

    def by_hand():
        for layer in model:
            initialize(layer.adapter, CFG)

    yield in_turns(
        'adapters',
        'a rule on 500 adapters of 2,128 parameters each',
        'initialize() on each adapter',
        3.0,
        lambda: init_modules(model, RULES, loaded=loaded),
        by_hand,
    )
    yield growth()


def growth():
    """How the time for a match grows, where it grows most."""
    sizes = (20, 200, 2_000, 20_000)
    subjects, matches = {}, sizes[-1] // MODULES
    for size in sizes:
        # As many matches for each size, in models of their own, as in
        # `planning.py`.
        layers = size // MODULES
        subjects[size] = [
            adapted(layers, 8, 2) for _ in range(matches // layers)
        ]

    def run(size):
        for model, loaded in subjects[size]:
            init_modules(model, RULES, loaded=loaded)

    spent = {size: [] for size in sizes}
    for turn in range(4):
        for size in sizes:
            taken = 1e6 * seconds(partial(run, size)) / matches
            if turn:
                spent[size].append(taken)
    middle = {size: statistics.median(spent[size]) for size in sizes}
    large = max(sizes[1:], key=middle.get)
    return Row(
        'growth of matches',
        f'init_modules on {large:,} modules, time for each match',
        'the same on 20 modules',
        middle[large] / middle[sizes[0]],
        1.2,
        middle[large],
        middle[sizes[0]],
        'µs',
    )
