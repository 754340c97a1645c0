"""AdaptedPretrained: checkpoints that have other names."""

import pytest
import torch
import torch.nn as nn
from mmengine.model import initialize
from mmengine.runner import load_checkpoint
from toy import (
    ToyBackbone,
    ToyModel,
    build_runner,
    hooks,
    report_of,
    same,
    snapshot,
    start_of,
)

from mmpartinit import RuleError, init_modules, plan_init
from mmpartinit.initializers.names import renamed

# What makes the names of a file those of the toy backbone.
PAIRS = [(r'^net\.stage(\d)\.', r'layer\1.'), ('lin', 'linear'), ('net.', '')]


def written(tmp_path, start=''):
    """A file of the toy backbone's, under other names; and its tensors."""
    state = ToyBackbone(new=False).state_dict()
    for value in state.values():
        value.copy_(torch.randn_like(value.float()))
    others = {
        start + 'net.' + k.replace('layer', 'stage').replace('linear', 'lin')
        if k.startswith('layer')
        else start + 'net.' + k: value
        for k, value in state.items()
    }
    torch.save(dict(state_dict=others), str(tmp_path / 'w.pth'))
    return str(tmp_path / 'w.pth'), state


def adapted(file, pairs, **others):
    others.update(type='AdaptedPretrained', checkpoint=file)
    return dict(others, revise_keys=pairs)


def test_pairs_apply_in_turn_as_in_mmengine(tmp_path):
    file, state = written(tmp_path, 'module.')
    model, other = ToyBackbone(), ToyBackbone()
    initialize(model, adapted(file, PAIRS))
    load_checkpoint(other, file, revise_keys=[(r'^module\.', ''), *PAIRS])
    for name, value in state.items():
        assert same(model.state_dict()[name], value), name
        assert same(other.state_dict()[name], value), name


@pytest.mark.parametrize(
    'start, prefix',
    [
        ('module.student.', 'student'),
        ('module.student.', 'module.student.'),
        ('student.', 'student.'),
        ('a.b.', 'a.b'),
    ],
)
def test_the_prefix_comes_off_before_the_pairs(tmp_path, start, prefix):
    file, state = written(tmp_path, start)
    model = ToyBackbone()
    pairs = [(r'^net\.', ''), ('^stage', 'layer'), (r'\blin\b', 'linear')]
    initialize(model, adapted(file, pairs, prefix=prefix))
    for name, value in state.items():
        assert same(model.state_dict()[name], value), name


def test_what_lacks_the_prefix_is_left_out():
    state = {'module.a.x.w': 1, 'module.ax.w': 2, 'module.b.a.w': 3}
    assert renamed(state, 'a', ()) == {'x.w': 1}


@pytest.mark.parametrize(
    'pairs, prefix, told',
    [
        (
            [('^net', ''), ('^net', '')],
            None,
            "the pattern '^net' of `revise_keys` is in none of the names any "
            "more (it was in 'net.stem.weight', which is '.stem.weight' by "
            'then); they are then .stem.weight, .stem.bias, ',
        ),
        (
            [('nett', '')],
            None,
            "the pattern 'nett' of `revise_keys` is in none of the names; "
            'they are then net.stem.weight, net.stem.bias, ',
        ),
        (
            [('^net', '')],
            'net',
            "(it was in 'net.stem.weight', which is 'stem.weight' by then)",
        ),
        (
            [(r'stage\d', 'stage1')],
            None,
            "'net.stage1.0.lin.weight' and 'net.stage2.0.lin.weight' would "
            "both be named 'net.stage1.0.lin.weight'; make the patterns of ",
        ),
        (
            (),
            'nett',
            "no name starts with the prefix 'nett.'; did you mean 'net'?; "
            'they start with net',
        ),
    ],
)
def test_names_that_cannot_be_are_an_error_of_the_rule(
    tmp_path, pairs, prefix, told
):
    file, _ = written(tmp_path)
    cfg = adapted(file, pairs, prefix=prefix)
    model = ToyModel()
    before = snapshot(model)
    with pytest.raises(RuleError) as info:
        init_modules(model, [dict(path='backbone', init_cfg=cfg)])
    start = f"rule 0 (path 'backbone') at backbone: ValueError: of {file}, "
    assert str(info.value).startswith(f'[failed] {start}')
    assert told in str(info.value)
    for name, value in model.state_dict().items():
        assert same(value, before[name]), name


def test_two_that_differ_in_module_only_are_no_one():
    with pytest.raises(ValueError, match="'a.w' and 'module.a.w' would both"):
        renamed({'a.w': 1, 'module.a.w': 2}, None, ())


@pytest.mark.parametrize(
    'pairs, words',
    [
        ([('a(', '')], r"\('a\(', ''\), which re.sub does not take: missing"),
        ([('a', r'\1')], 'invalid group reference 1'),
        ([('a', r'\g<b>')], "unknown group name 'b'"),
        ('ab', "list of pairs .*, not 'ab'"),
        (('a', 'b'), 'list of pairs'),
        ([('a', 'b', 'c')], 'list of pairs'),
        ([('a', None)], 'list of pairs'),
        (None, 'list of pairs .* not None'),
    ],
)
def test_pairs_are_checked_when_the_rule_is_read(pairs, words):
    rule = dict(path='none', init_cfg=adapted('any.pth', pairs))
    with pytest.raises(RuleError, match=f'init_cfg: `revise_keys`.*{words}'):
        plan_init(nn.Linear(1, 1), [rule])


def test_pretrained_names_the_one_that_takes_revise_keys():
    cfg = dict(type='Pretrained', checkpoint='any.pth', revise_keys=PAIRS)
    words = "'Pretrained' takes no 'revise_keys'; .* AdaptedPretrained takes "
    with pytest.raises(RuleError, match=words + 'revise_keys'):
        plan_init(nn.Linear(1, 1), [dict(path='none', init_cfg=cfg)])


def test_a_file_that_is_no_state_dict(tmp_path):
    torch.save(torch.ones(3), tmp_path / 'odd.pth')
    with pytest.raises(ValueError, match='odd.pth holds a Tensor, and no'):
        initialize(nn.Linear(1, 1), adapted(str(tmp_path / 'odd.pth'), ()))


@pytest.mark.parametrize('through', ['init_cfg', 'rule'])
def test_in_a_runner_under_the_names_of_the_file(work_dir, tmp_path, through):
    file, state = written(tmp_path)
    cfg = adapted(file, PAIRS)
    model, rules = dict(type='ToyModel'), []
    if through == 'init_cfg':
        model['backbone'] = dict(init_cfg=cfg)
        cfg = dict(type='Constant', val=0)
    rules = [dict(path='backbone', init_cfg=cfg)]
    runner = build_runner(work_dir, model=model, custom_hooks=hooks(*rules))
    runner.train()
    records = {record.name: record for record in report_of(runner).tensors}
    for name, value in state.items():
        assert same(start_of(runner)[f'backbone.{name}'], value), name
    record = records['backbone.layer1.0.linear.weight']
    if through == 'rule':
        assert (record.origin, record.rule) == ('rule', 0)
    else:
        known = record.origin, record.file, record.key
        assert known == ('file', file, 'net.stage1.0.lin.weight')
