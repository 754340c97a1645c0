"""The questions of docs/en/recipes.md, each answered by config alone."""

import pytest
import torch
from toy import (
    ToyModel,
    build_runner,
    hooks,
    pretrained,
    report_of,
    same,
    snapshot,
    start_of,
)

SE = 'backbone.layer1.0.se'


@pytest.fixture
def files(tmp_path):
    """Two checkpoints of the plain model, different in every value."""
    first = pretrained(tmp_path / 'a.pth', shift=1.0)
    second = pretrained(tmp_path / 'b.pth', shift=-1.0)
    return str(tmp_path / 'a.pth'), first, str(tmp_path / 'b.pth'), second


@pytest.mark.parametrize('through', ['Pretrained', 'load_from'])
@pytest.mark.parametrize(
    'rules',
    [
        [
            dict(
                path='backbone.layer*.*.se',
                init_cfg=[
                    dict(type='Kaiming', layer='Linear'),
                    dict(type='Constant', layer='LayerNorm', val=1),
                ],
            ),
            dict(
                path='backbone.layer*.*.se.fc2',
                init_cfg=dict(type='Constant', val=0.0, bias=4.0),
            ),
        ],
        [dict(path='backbone', init_cfg=dict(type='Kaiming', layer='Linear'))],
    ],
    ids=['block by block', 'the whole backbone'],
)
def test_attention_blocks_in_a_pretrained_backbone(
    work_dir, files, through, rules
):
    path, state, _, _ = files
    model = dict(type='ToyModel')
    if through == 'Pretrained':
        cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone')
        model['backbone'] = dict(init_cfg=cfg)
    runner = build_runner(
        work_dir,
        model=model,
        custom_hooks=hooks(*rules),
        load_from=path if through == 'load_from' else None,
    )
    runner.train()
    start = start_of(runner)
    for name, value in state.items():
        if name.startswith('backbone'):
            assert same(start[name], value), name
    written = {t.name for t in report_of(runner).tensors if t.rule is not None}
    new = {f'{SE}.fc{k}.{key}' for k in (1, 2) for key in ('weight', 'bias')}
    assert new <= written
    assert start[f'{SE}.fc1.bias'].eq(0).all()
    if len(rules) == 2:
        assert start[f'{SE}.fc2.bias'].eq(4).all()


def test_other_backbone_weights_over_load_from(work_dir, files):
    whole, state, other, other_state = files
    cfg = dict(type='Pretrained', checkpoint=other, prefix='backbone')
    rule = dict(path='backbone', init_cfg=cfg, overwrite=True)
    runner = build_runner(work_dir, custom_hooks=hooks(rule), load_from=whole)
    runner.train()
    start = start_of(runner)
    for name, value in state.items():
        expected = other_state if name.startswith('backbone') else state
        assert same(start[name], expected[name]), name
        if value.is_floating_point():
            assert not same(state[name], other_state[name])


def test_two_parts_from_two_checkpoints(work_dir, files):
    a, state, b, other_state = files
    rules = [
        dict(
            path=part,
            init_cfg=dict(type='Pretrained', checkpoint=file, prefix=part),
        )
        for part, file in [('backbone', a), ('head', b)]
    ]
    runner = build_runner(work_dir, custom_hooks=hooks(*rules))
    runner.train()
    start = start_of(runner)
    assert same(start['backbone.stem.weight'], state['backbone.stem.weight'])
    assert same(start['head.weight'], other_state['head.weight'])
    rules_of = {t.name: t.rule for t in report_of(runner).tensors}
    assert rules_of['backbone.stem.weight'] == 0
    assert rules_of['head.weight'] == 1


def test_a_pretrained_head_starts_anew(work_dir, tmp_path):
    torch.manual_seed(5)
    state = snapshot(ToyModel())
    torch.save(dict(state_dict=state), tmp_path / 'all.pth')
    rules = [
        dict(
            path='neck.adapter',
            init_cfg=dict(type='InitWeights'),
            overwrite=True,
        ),
        dict(
            path='head',
            init_cfg=dict(type='Normal', layer='Linear', std=0.01),
            overwrite=True,
        ),
    ]
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(*rules),
        load_from=str(tmp_path / 'all.pth'),
    )
    runner.train()
    start = start_of(runner)
    for name, value in state.items():
        again = name.startswith(('head', 'neck.adapter'))
        assert same(start[name], value) is not again, name
    assert start['neck.adapter.down.bias'].eq(0.5).all()
    assert start['head.bias'].eq(0).all()
