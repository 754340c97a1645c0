"""What planning costs, in models of many modules."""

import statistics
from functools import partial

from subjects import tree, tree_rules
from timing import Row, in_turns, seconds

from mmpartinit import plan_init

MODULES = 18_001


def rows():
    """Against a walk, and against itself on a smaller model."""
    model = tree(MODULES)
    loaded = {name for name in model.state_dict() if 'adapter' not in name}

    def walk():
        list(model.named_modules())
        list(model.named_parameters())

    for count, limit in ((1, 2.0), (200, 4.0), (1000, 6.0)):
        rules = tree_rules(count, 200)
        yield in_turns(
            f'plan {count}',
            f'plan_init, {count} rules on {MODULES:,} modules',
            'named_modules() and named_parameters()',
            limit,
            lambda rules=rules: plan_init(model, rules, loaded=loaded),
            walk,
        )
    yield growth()


def growth():
    """How the time for a module grows, where it grows most."""
    sizes = (1_000, 10_000, 100_000)
    rules = tree_rules(4, 9)
    subjects = {}
    for size in sizes:
        # As many modules for each size, in models of their own: one model
        # again and again would stay in the processor's cache, as no model
        # of a user's does, who plans once.
        models = [tree(size) for _ in range(sizes[-1] // size)]
        names = [n for n in models[0].state_dict() if 'adapter' not in n]
        subjects[size] = models, names

    def plan(size):
        models, names = subjects[size]
        for model in models:
            plan_init(model, rules, loaded=names)

    spent = {size: [] for size in sizes}
    for turn in range(8):
        for size in sizes:
            taken = 1e6 * seconds(partial(plan, size)) / sizes[-1]
            if turn:
                spent[size].append(taken)
    middle = {size: statistics.median(spent[size]) for size in sizes}
    small, large = max(
        zip(sizes, sizes[1:]),
        key=lambda pair: middle[pair[1]] / middle[pair[0]],
    )
    return Row(
        'growth',
        f'plan_init on {large:,} modules, time for each',
        f'the same on {small:,} modules',
        middle[large] / middle[small],
        1.3,
        middle[large],
        middle[small],
        'µs',
    )
