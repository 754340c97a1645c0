"""Origins are true, by whatever way the weights got in, and nothing that a
file decided is lost to a rule. The ways and their truths are in `ways`.
"""

import importlib.util

import pytest
import ways_changed
import ways_modules
import ways_whole
import ways_without
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from mmengine.utils import digit_version
from stacks import TORCH
from toy import find, report_of, runner_cfg
from ways import (
    KEPT,
    WAYS,
    Seen,
    expected,
    make,
    make_seeded,
    same_bits,
    tensors,
    truth,
    write_files,
)

from mmpartinit import init_modules

# Importing them makes them known.
FILES = (ways_whole, ways_modules, ways_changed, ways_without)
NEW = dict(path='new', init_cfg=dict(type='Constant', val=0.5, bias=0.25))
# Whatever they can reach, and by whatever means.
EVERYTHING = [
    dict(path='**', init_cfg=dict(type='Constant', val=0.5, bias=0.25)),
    dict(path='**', init_cfg=dict(type='ResetParameters')),
    dict(path='**', init_cfg=dict(type='Apply', fn='ways.everywhere')),
]


def everything(name):
    """The rules that are to lose nothing of a way."""
    # Constant refuses a weight that is computed, rather than do nothing.
    return EVERYTHING[name == 'by_weight_norm' :]


def can_be(made):
    """Whether what a way needs is there."""
    has = not made.needs or importlib.util.find_spec(made.needs)
    return has and digit_version(made.since) <= TORCH


every_way = pytest.mark.parametrize(
    'name',
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                not can_be(made), reason=f'needs {made.needs or made.since}'
            ),
        )
        for name, made in WAYS.items()
    ],
)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Two folders of files that differ in every tensor."""
    root = tmp_path_factory.mktemp('ways')
    return write_files(root / 'one', 5), write_files(root / 'other', 7)


@pytest.fixture(scope='module')
def facts(folders):
    """A function that gives the truth about a way."""
    known = {}

    def of(name):
        if name not in known:
            known[name] = truth(name, *folders)
        return known[name]

    return of


def start(kind, work_dir, name, path, rules, **changes):
    """Train one iteration; gives the runner."""
    hook = dict(type='CustomModuleInitHook', modules=rules, report=False)
    cfg = runner_cfg(
        work_dir,
        model=dict(type='Way', way=name, path=path),
        custom_hooks=[dict(type='LoadsAfter'), dict(type='Seen'), hook],
        train_cfg=dict(by_epoch=False, max_iters=1),
        default_hooks=dict(checkpoint=None, logger=None),
        log_level='ERROR',
        **changes,
    )
    for key in [key for key in cfg if key[:4] in ('val_', 'test')]:
        del cfg[key]
    if kind is FlexibleRunner:
        cfg['strategy'] = dict(type='SingleDeviceStrategy')
    runner = kind.from_cfg(Config(cfg))
    runner.train()
    return runner


def check_origins(name, facts, report, **others):
    """The report says of each tensor what is so."""
    origins = {tensor.name: tensor.origin for tensor in report.tensors}
    assert origins.keys() == facts.keys(), name
    right = {**expected(name, facts), **others}
    wrong = [
        f'{name}: {key} is said to be {origins[key]!r}, is {" or ".join(says)}'
        for key, says in right.items()
        if origins[key] not in says
    ]
    assert not wrong, '\n'.join(wrong)


def check_kept(name, facts, before, after):
    """What had to be kept is as it was, bit for bit."""
    changed = [key for key in before if not same_bits(before[key], after[key])]
    wrong = [
        f'{name}: {key} was {" or ".join(says)}, and is written over'
        for key, says in expected(name, facts).items()
        if key in changed and set(says) <= set(KEPT)
    ]
    assert not wrong, '\n'.join(wrong)
    assert {'new.weight', 'new.bias'} <= set(changed), name


@every_way
def test_the_truth_is_what_the_way_says(name, facts):
    """The witness itself: files decide where a way loads from one."""
    found = facts(name)
    decided = [key for key, fact in found.items() if fact.by_file.any()]
    assert bool(decided) == WAYS[name].has_file, (name, decided)
    assert found['new.weight'].drawn.all()
    assert expected(name, found)['new.weight'] == ('built',)


@every_way
def test_a_runner_reports_the_truth(name, facts, folders, work_dir):
    runner = start(Runner, work_dir, name, folders[0], [NEW])
    by_rule = {f'new.{key}': ('rule',) for key in ('weight', 'bias')}
    check_origins(name, facts(name), report_of(runner), **by_rule)


@every_way
def test_a_flexible_runner_loses_nothing(name, facts, folders, work_dir):
    rules = everything(name)
    runner = start(FlexibleRunner, work_dir, name, folders[0], rules)
    seen = find(runner, Seen)
    check_kept(name, facts(name), seen.before, seen.start)


@every_way
def test_functions_report_the_truth(name, facts, folders):
    model = make_seeded(name, folders[0], 1)
    report = init_modules(
        model, [NEW], build=lambda: make(name, folders[0]), seed=3
    )
    by_rule = {f'new.{key}': ('rule',) for key in ('weight', 'bias')}
    check_origins(name, facts(name), report, **by_rule)


@every_way
def test_functions_lose_nothing(name, facts, folders):
    model = make_seeded(name, folders[0], 1)
    before = tensors(model)
    init_modules(model, everything(name), build=lambda: make(name, folders[0]))
    check_kept(name, facts(name), before, tensors(model))


@pytest.mark.parametrize('kind', [Runner, FlexibleRunner])
def test_load_from(kind, facts, folders, work_dir):
    """Which the second start does not load: it is recorded."""
    file = f'{folders[0]}/model.pth'
    runner = start(
        kind, work_dir, 'default', folders[0], EVERYTHING, load_from=file
    )
    seen = find(runner, Seen)
    for key, value in seen.before.items():
        assert same_bits(value, seen.start[key]) == key.startswith('net.'), key
    origins = {t.name: t.origin for t in report_of(runner).tensors}
    for key, origin in origins.items():
        assert origin == ('file' if key.startswith('net.') else 'rule'), key
