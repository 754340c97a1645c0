"""Several processes, real ones: the same values as on one, on all of them."""

import json

import pytest
import torch
from engines import RULES, launch, results
from toy import pretrained, same

READS_RANK = dict(
    path='neck.adapter', init_cfg=dict(type='Apply', fn='engines.reads_rank')
)
UNEVEN = dict(
    path='neck.adapter',
    init_cfg=dict(type='Apply', fn='engines.writes_unevenly'),
)
FAILS = dict(
    path='backbone.layer2',
    init_cfg=dict(type='Apply', fn='engines.fails_on_rank_1'),
)
# Its rules need other parts of a sharded model by turns.
REPAIRED = [
    dict(path=f'{block}.se.fc1', init_cfg=dict(type='Constant', val=val))
    for block, val in (
        ('backbone.layer1.0', float('inf')),
        ('backbone.layer2.0', 2.0),
        ('backbone.layer1.0', 1.0),
    )
]
ENGINES = (
    ('ddp', 2),
    ('ddp', 4),
    ('ddp_rank_seeds', 2),
    ('flexible_ddp', 2),
    ('fsdp_flat', 2),
    ('fsdp_orig', 2),
    ('fsdp_one_unit', 2),
    *(
        pytest.param((name, 2), marks=pytest.mark.needs_deepspeed)
        for name in ('zero1', 'zero2', 'zero3')
    ),
)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint of the model without new modules; its path and values."""
    path = tmp_path_factory.mktemp('weights') / 'pretrained.pth'
    return str(path), pretrained(path)


@pytest.fixture(scope='module')
def one(checkpoint, tmp_path_factory):
    """The same run on one process."""
    folder = tmp_path_factory.mktemp('one')
    weights = dict(load_from=checkpoint[0])
    assert launch('one', 1, folder, plain=weights).returncode == 0
    return results(folder, 1)[0]


@pytest.fixture(
    scope='module', params=ENGINES, ids=lambda spec: '-'.join(map(str, spec))
)
def engine(request, checkpoint, tmp_path_factory):
    """An engine that has done all runs: its name, and what ranks left."""
    name, processes = request.param
    folder = tmp_path_factory.mktemp(name)
    weights = dict(load_from=checkpoint[0])
    if name.startswith('zero'):
        # DeepSpeed's `load_from` takes DeepSpeed's own checkpoints only.
        init_cfg = dict(type='Pretrained', checkpoint=checkpoint[0])
        weights = dict(model=dict(type='ToyModel', init_cfg=init_cfg))
    done = launch(
        name,
        processes,
        folder,
        plain=weights,
        reads_rank=dict(weights, modules=[READS_RANK]),
        uneven=dict(weights, modules=[UNEVEN]),
        repaired=dict(weights, modules=REPAIRED),
        fails=dict(weights, modules=[*RULES, FAILS]),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return name, folder, processes, done.stdout + done.stderr


def test_values_are_those_of_one_process(engine, one):
    _, folder, processes, _ = engine
    for rank in results(folder, processes):
        assert sorted(rank['start']) == sorted(one['start'])
        for name, value in one['start'].items():
            assert same(rank['start'][name], value), name


def test_loaded_tensors_are_intact(engine, checkpoint):
    _, folder, processes, _ = engine
    for rank in results(folder, processes):
        for name, value in checkpoint[1].items():
            if 'head' not in name and 'stem' not in name:
                assert same(rank['start'][name], value), name
    # The stem is there to be overwritten; the head to be left alone.
    assert rank['start']['backbone.stem.weight'].eq(2).all()
    assert same(rank['start']['head.weight'], checkpoint[1]['head.weight'])


def test_the_report_is_that_of_one_process(engine, one):
    _, folder, processes, _ = engine
    for rank in results(folder, processes):
        # Where DeepSpeed loads in `init_weights`, both starts have it.
        assert {**rank['report'], 'known_by': ''} == {
            **one['report'],
            'known_by': '',
        }


def test_the_first_step_starts_from_these_values(engine):
    """Adam's first step is the learning rate long, whatever the gradient."""
    _, folder, processes, _ = engine
    for rank in results(folder, processes):
        moved = [
            rank['after'][tensor['name']] - rank['start'][tensor['name']]
            for tensor in rank['report']['tensors']
            if tensor['origin'] == 'rule'
        ]
        lengths = torch.cat([step.abs().flatten() for step in moved])
        assert 0.009 < lengths.max() < 0.0101


def test_nothing_is_sent_that_ranks_have_alike(engine):
    _, folder, processes, _ = engine
    for rank in results(folder, processes):
        assert rank['sent'] == []


def test_what_differs_is_sent_in_one_message(engine):
    names = ('down', 'up')
    _, folder, processes, _ = engine
    for run in ('reads_rank', 'uneven'):
        for rank in results(folder, processes, run):
            biases = [
                rank['start'][f'neck.adapter.{name}.bias'] for name in names
            ]
            assert rank['sent'] == [sum(4 * bias.numel() for bias in biases)]


def test_rank_0_decides_and_the_report_says_so(engine):
    _, folder, processes, _ = engine
    for rank in results(folder, processes, 'reads_rank'):
        assert rank['start']['neck.adapter.up.bias'].eq(0).all()
    for rank in results(folder, processes, 'uneven'):
        assert rank['start']['neck.adapter.up.weight'].eq(1).all()
        assert rank['start']['neck.adapter.down.bias'].eq(5).all()
        # Rank 0 left it as it was.
        assert not rank['start']['neck.adapter.up.bias'].eq(5).any()
        moved = rank['after']['neck.adapter.down.bias'] - 5
        assert moved.abs().max() < 0.0101
    for run in ('reads_rank', 'uneven'):
        report, *others = [
            rank['report'] for rank in results(folder, processes, run)
        ]
        assert all(other == report for other in others)
        (found,) = [
            finding
            for finding in report['findings']
            if finding['code'] == 'ranks-differed'
        ]
        assert found['level'] == 'warning'
        assert found['message'].endswith('initializer depends on the rank')
        assert found['names'] == [
            'neck.adapter.down.bias',
            'neck.adapter.up.bias',
        ]


def test_what_a_later_rule_repairs_is_no_error(engine):
    _, folder, processes, _ = engine
    for rank in results(folder, processes, 'repaired'):
        assert 'error' not in rank, rank['error']
        for number in (1, 2):
            name = f'backbone.layer{number}.0.se.fc1.weight'
            assert rank['start'][name].eq(number).all()


def test_an_error_on_one_rank_is_one_on_all(engine):
    _, folder, processes, _ = engine
    kept = results(folder, processes, 'fails')
    text = 'FloatingPointError: no luck here'
    before = f'backbone.layer2: {text} (written before, and left so: '
    assert before in kept[1]['error']
    for number, rank in enumerate(kept):
        if number != 1:
            assert rank['error'] == of_rank_1(kept[1]['error'])
        assert 'start' not in rank
    assert not list((folder / 'fails').rglob('init_report.json'))


def of_rank_1(text):
    """An error of that rank, as the others tell it: behind its code."""
    return text.replace('] ', '] on rank 1: ', 1)


def test_rank_0_alone_writes_and_logs(engine):
    _, folder, _, printed = engine
    (path,) = (folder / 'plain').rglob('init_report.json')
    report = json.loads(path.read_text())
    assert report == results(folder, 1)[0]['report']
    assert printed.count('Where the weights come from') == 4


@pytest.mark.parametrize('processes', [2, 4])
def test_fsdp2_through_init_modules(processes, checkpoint, tmp_path):
    weights = dict(weights=checkpoint[0])
    for name, number in dict(fsdp2_not=1, fsdp2=processes).items():
        done = launch(name, number, tmp_path / name, plain=weights)
        assert done.returncode == 0, done.stderr[-3000:]
    (one,) = results(tmp_path / 'fsdp2_not', 1)
    for rank in results(tmp_path / 'fsdp2', processes):
        assert rank['report'] == one['report']
        assert sorted(rank['start']) == sorted(one['start'])
        for name, value in one['start'].items():
            assert same(rank['start'][name], value), name


def test_ranks_that_plan_otherwise_all_stop(tmp_path):
    lost = dict(hooks=[dict(type='LosesGamma')])
    done = launch(
        'ddp',
        2,
        tmp_path,
        no_match=lost,
        other_model=dict(lost, modules=[RULES[0]]),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    zero, one = results(tmp_path, 2, 'no_match')
    assert "no parameter matches 'backbone.gamma'" in one['error']
    assert zero['error'] == of_rank_1(one['error'])
    for rank in results(tmp_path, 2, 'other_model'):
        start = '[ranks-unlike] rank 1 has another model than rank 0'
        assert rank['error'].startswith(start)


def test_a_report_that_rank_0_cannot_write_stops_nobody(tmp_path):
    lost = dict(hooks=[dict(type='LosesFolder')])
    done = launch('ddp', 2, tmp_path, plain=lost)
    assert done.returncode == 0, done.stderr[-3000:]
    zero, one = results(tmp_path, 2)
    assert 'error' not in zero and 'error' not in one
    assert not list(tmp_path.rglob('init_report.json'))
    assert done.stdout.count('Training goes on') == 1


@pytest.mark.parametrize(
    'name',
    [
        'ddp',
        'fsdp_orig',
        pytest.param('zero3', marks=pytest.mark.needs_deepspeed),
    ],
)
def test_an_error_on_one_rank_ends_the_job(name, tmp_path):
    done = launch(name, 2, tmp_path, plain=dict(modules=[FAILS], crash=True))
    assert done.returncode != 0
    text = 'FloatingPointError: no luck here'
    where = f'on rank 1: rule 0 (path {FAILS["path"]!r})'
    assert f'RuleError: [failed] {where}' in done.stderr
    assert text in done.stderr
    assert not list(tmp_path.rglob('init_report.json'))
    assert not list(tmp_path.rglob('rank*.pt'))


@pytest.mark.needs_deepspeed
@pytest.mark.parametrize('name', ['zero1_bf16', 'zero3_bf16'])
def test_deepspeed_in_bfloat16(name, checkpoint, tmp_path):
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint[0])
    model = dict(type='ToyModel', init_cfg=init_cfg)
    done = launch(name, 2, tmp_path, plain=dict(model=model))
    assert done.returncode == 0, done.stderr[-3000:]
    zero, one = results(tmp_path, 2)
    for name, value in zero['start'].items():
        assert torch.equal(one['start'][name], value), name
        if name in checkpoint[1] and 'stem' not in name:
            kept = checkpoint[1][name].to(value.dtype)
            assert torch.equal(value, kept), name
        # Adam's first step is 0.01 long; the rest is rounding.
        limit = 0.01 + 0.01 * value.abs()
        if 'running' not in name and 'num_batches' not in name:
            assert ((zero['after'][name] - value).abs() <= limit).all(), name
    assert zero['start']['backbone.stem.weight'].eq(2).all()


@pytest.mark.needs_deepspeed
def test_deepspeed_with_copies_out_of_reach_stops(tmp_path):
    done = launch('zero0_bf16', 2, tmp_path, plain={})
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in results(tmp_path, 2):
        assert 'DeepSpeed with bf16 and without ZeRO' in rank['error']
        assert 'set zero_optimization=dict(stage=1)' in rank['error']
