"""What is frozen under each engine, on two real processes."""

import pytest
import torch
from engines import launch, results
from toy import pretrained, same

# Decays, so that a parameter that it takes for trained moves.
ADAMW = dict(optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1))
FREEZE = dict(
    optim_wrapper=ADAMW,
    keys=dict(freeze='loaded'),
    train_cfg=dict(by_epoch=True, max_epochs=20),  # of one iteration each
)
UNUSED = dict(device_ids=None, find_unused_parameters=True)
DDP = dict(type='MMDistributedDataParallel', **UNUSED)
EACH = dict(type='CheckpointHook', interval=10)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint of the model without new modules; its path and values."""
    path = tmp_path_factory.mktemp('weights') / 'pretrained.pth'
    return str(path), pretrained(path, shift=0.1)


def run(engine, folder, checkpoint, **runs):
    """Two processes that do some runs, which start from the checkpoint."""
    weights = dict(FREEZE, load_from=checkpoint[0])
    if engine.startswith('zero'):
        init_cfg = dict(type='Pretrained', checkpoint=checkpoint[0])
        model = dict(type='ToyModel', init_cfg=init_cfg)
        weights = dict(FREEZE, model=model, optim_wrapper=None)
        del weights['optim_wrapper']
    runs = {name: {**weights, **changes} for name, changes in runs.items()}
    done = launch(engine, 2, folder, **runs)
    assert done.returncode == 0, done.stderr[-3000:]


def assert_only_new_moved(ranks, state):
    """On all ranks alike: what the checkpoint had, bit for bit."""
    zero, one = ranks
    report, start = zero['report'], zero['start']
    assert one['report'] == report
    origins = {t['name']: t['origin'] for t in report['tensors']}
    assert list(origins.values()).count('file') > 15
    for name, value in zero['end'].items():
        assert same(one['end'][name], value), name
        if origins[name] == 'file':
            assert same(value, state[name]), name
        elif 'running' not in name and 'num_batches' not in name:
            assert not torch.equal(value, start[name]), name


def trains(report):
    return {t['name'] for t in report['tensors'] if t['trains']}


def test_ddp(checkpoint, tmp_path):
    wrapper = dict(model_wrapper_cfg=DDP)
    each = dict(default_hooks=dict(checkpoint=EACH))
    resumed = dict(resume=True, load_from=str(tmp_path / 'plain/epoch_10.pth'))
    run(
        'ddp',
        tmp_path,
        checkpoint,
        plain=dict(wrapper, **each),
        resumed=dict(wrapper, **resumed),
        without={},
        paths=dict(wrapper, keys=dict(freeze=['backbone.layer1', 'head'])),
    )
    plain = results(tmp_path, 2)
    assert_only_new_moved(plain, checkpoint[1])
    again = results(tmp_path, 2, 'resumed')
    assert again[0]['report'] is None
    for rank in again:
        for name, value in plain[0]['end'].items():
            assert same(rank['end'][name], value), name
    for rank in results(tmp_path, 2, 'without'):
        assert 'set find_unused_parameters=True' in rank['error']
        assert 'start' not in rank
    zero, one = results(tmp_path, 2, 'paths')
    assert_still(zero, one, ('backbone.layer1', 'head'))
    assert trains(zero['report']) == trains(one['report'])
    assert not any('layer1' in name for name in trains(zero['report']))


def assert_still(zero, one, paths):
    """What is under some paths, on both ranks; of the rest, weights move."""
    weights = [n for n in zero['end'] if '.bn.running' not in n]
    for name in weights:
        assert same(one['end'][name], zero['end'][name]), name
    for name, value in zero['start'].items():
        if name.startswith(paths):
            assert same(zero['end'][name], value), name
            assert same(one['end'][name], value), name
    for name in ('neck.adapter.up.weight', 'backbone.gamma'):
        assert not same(zero['end'][name], zero['start'][name])


def test_flexible_runner(checkpoint, tmp_path):
    strategy = dict(type='DDPStrategy', model_wrapper=DDP)
    plain = dict(strategy=strategy)
    run('flexible_ddp', tmp_path, checkpoint, plain=plain, without={})
    assert_only_new_moved(results(tmp_path, 2), checkpoint[1])
    for rank in results(tmp_path, 2, 'without'):
        assert 'set find_unused_parameters=True' in rank['error']


def test_original_parameters_of_fsdp(checkpoint, tmp_path):
    run('fsdp_orig', tmp_path, checkpoint, plain={})
    assert_only_new_moved(results(tmp_path, 2), checkpoint[1])


def test_flat_parameters_of_fsdp(checkpoint, tmp_path):
    """One that is frozen as a whole stays; one that is not cannot."""
    blocks = dict(freeze=['backbone.layer1.0', 'backbone.layer2.1'])
    run('fsdp_flat', tmp_path, checkpoint, plain=dict(keys=blocks), mixed={})
    for rank in results(tmp_path, 2, 'mixed'):
        assert 'FSDP has put ' in rank['error']
        assert 'set use_orig_params=True' in rank['error']
    assert_still(*results(tmp_path, 2), tuple(blocks['freeze']))


@pytest.mark.needs_deepspeed
@pytest.mark.parametrize('engine', ['zero1', 'zero2', 'zero3'])
def test_zero(engine, checkpoint, tmp_path):
    run(engine, tmp_path, checkpoint, plain={})
    for rank in results(tmp_path, 2):
        assert "DeepSpeed's optimizer has taken over" in rank['error']
        assert 'start' not in rank
