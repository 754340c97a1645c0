"""Path patterns: what they select, and what is said where they do not."""

import fnmatch
from typing import List

import pytest
import torch.nn as nn
from hypothesis import given
from hypothesis import strategies as st
from toy import ToyModel

from mmpartinit import RuleError, plan_init
from mmpartinit.model.tree import ModelTree
from mmpartinit.rules.patterns import parse_pattern
from mmpartinit.rules.selection import Selector

ZERO = dict(type='Constant', val=0)


def select(model: nn.Module, pattern: str) -> List[str]:
    selector = Selector(ModelTree(model))
    nodes = selector.select(parse_pattern(pattern))
    return [node.path for node in selector.tree.outermost(nodes)]


@pytest.mark.parametrize(
    'pattern, expected',
    [
        ('head', ['head']),
        ('head.weight', ['head.weight']),
        ('backbone.gamma', ['backbone.gamma']),
        (
            'backbone.layer1.*.se',
            ['backbone.layer1.0.se', 'backbone.layer1.1.se'],
        ),
        ('backbone.layer[2-9].0.se', ['backbone.layer2.0.se']),
        ('backbone.layer[!1].0.se', ['backbone.layer2.0.se']),
        (
            'backbone.layer?.1.bn',
            ['backbone.layer1.1.bn', 'backbone.layer2.1.bn'],
        ),
        (
            'backbone.layer{1,2}.1.{se,bn}',
            [
                'backbone.layer1.1.bn',
                'backbone.layer1.1.se',
                'backbone.layer2.1.bn',
                'backbone.layer2.1.se',
            ],
        ),
        (
            'backbone.{stem,layer1.{0,1}.bn}.bias',
            [
                'backbone.stem.bias',
                'backbone.layer1.0.bn.bias',
                'backbone.layer1.1.bn.bias',
            ],
        ),
        ('backbone.*m*', ['backbone.gamma', 'backbone.stem']),
        (
            '**.layer2.**.fc1',
            [
                'backbone.layer2.0.se.fc1',
                'backbone.layer2.1.se.fc1',
            ],
        ),
        ('neck.**.down', ['neck.adapter.down']),
        # outermost only: what lies below a match is not a match of its own
        ('**.head.**', ['head']),
        ('backbone.**', ['backbone']),
        ('**', ['']),
        # no substrings
        ('back', []),
        ('layer1', []),
        ('se', []),
        ('head.weight.x', []),
        # buffers are no targets
        ('backbone.layer1.0.bn.running_mean', []),
    ],
)
def test_pattern_selects_outermost_matches(pattern, expected):
    assert select(ToyModel(), pattern) == expected


@pytest.mark.parametrize(
    'pattern, words',
    [
        ('', 'is empty'),
        ('a..b', 'empty segment'),
        ('.a', 'empty segment'),
        ('a.', 'empty segment'),
        ('a b', r"the ' ' \(character 2, a space\) belongs in no path"),
        ('a\tb', r'\(character 2, a tab\) belongs in no path'),
        ('a**.b', 'whole segments'),
        ('layer[34', 'square bracket'),
        ('layer34]', 'square bracket'),
        ('layer{3,4', '`{` without `}`'),
        ('layer3,4}', '`}` without `{`'),
        ('layer{3}', 'no alternatives'),
        ('layer{1..3}', 'no alternatives'),
    ],
)
def test_broken_pattern_is_refused(pattern, words):
    with pytest.raises(RuleError, match=words.replace('{', r'\{')):
        parse_pattern(pattern)


# --- against a slow, obvious matcher


def matches(segments: List[str], names: List[str]) -> bool:
    if not segments:
        return not names
    if segments[0] == '**':
        return any(
            matches(segments[1:], names[i:]) for i in range(len(names) + 1)
        )
    return (
        bool(names)
        and fnmatch.fnmatchcase(names[0], segments[0])
        and matches(segments[1:], names[1:])
    )


def slow_select(model: nn.Module, pattern: str) -> List[str]:
    paths = [name for name, _ in model.named_modules()]
    paths += [name for name, _ in model.named_parameters()]
    found = {
        path
        for path in paths
        if matches(pattern.split('.'), path.split('.') if path else [])
    }

    def below(path: str) -> bool:
        return any(
            path != other and (path.startswith(other + '.') or not other)
            for other in found
        )

    return sorted(path for path in found if not below(path))


names = st.sampled_from(['a', 'b', 'ab', 'a1', 'b2'])


@st.composite
def module_trees(draw, depth=4):
    module = nn.Linear(1, 1) if draw(st.booleans()) else nn.Module()
    if depth:
        for name in draw(st.lists(names, max_size=3, unique=True)):
            module.add_module(name, draw(module_trees(depth=depth - 1)))
    return module


segment = st.one_of(
    names,
    st.sampled_from(['*', '**', 'a*', '*1', '?', '[ab]', 'a[!b]', 'weight']),
)


@given(module_trees(), st.lists(segment, min_size=1, max_size=5))
def test_selection_equals_the_obvious_matcher(model, segments):
    pattern = '.'.join(segments)
    assert sorted(select(model, pattern)) == slow_select(model, pattern)


@given(
    st.lists(segment, min_size=1, max_size=2),
    st.lists(names, min_size=2, max_size=3),
)
def test_braces_are_the_union_of_their_words(segments, words):
    stem = '.'.join(segments)
    in_braces = parse_pattern(f'{stem}.x{{{",".join(words)}}}')
    one_by_one = [parse_pattern(f'{stem}.x{word}')[0] for word in words]
    assert in_braces == one_by_one


# --- nearest names


@pytest.mark.parametrize(
    'pattern, nearest',
    [
        ('se', 'backbone.layer1.0.se'),
        ('layer1.*.se', 'backbone.layer1.0.se'),
        ('backbone.layer1.se', 'backbone.layer1.0.se'),
        ('backbone.layr1.0.se', 'backbone.layer1.0.se'),
        ('neck.adaptor', 'neck.adapter'),
        ('heed', 'head'),
    ],
)
def test_nearest_name_comes_first(pattern, nearest):
    with pytest.raises(RuleError, match=f'do exist: {nearest}'):
        plan_init(ToyModel(), [dict(path=pattern, init_cfg=ZERO)])


def test_where_nothing_is_near_the_parts_of_the_model_are_named():
    rule = dict(path='zzzzzz.qqqqqq', init_cfg=ZERO)
    with pytest.raises(RuleError, match='the model consists of .*backbone'):
        plan_init(ToyModel(), [rule])


# --- shared modules


def test_a_module_in_two_places_is_one_match_under_its_first_name():
    model = nn.ModuleDict({'a': nn.Linear(2, 2)})
    model['b'] = model['a']
    assert select(model, '*') == ['a']
    assert select(model, 'b') == ['a']


@pytest.mark.parametrize(
    'pattern, words',
    [
        ('{a,b}' * 40, 'stands for over 10,000 paths'),
        ('{a,' * 900 + 'b' + '}' * 900, 'more than 100 segments or braces'),
        ('.'.join(['**'] * 1500), 'more than 100 segments or braces'),
    ],
)
def test_what_stands_for_too_much_is_refused_at_once(pattern, words):
    with pytest.raises(RuleError, match=words):
        parse_pattern(pattern)
    assert len(parse_pattern('{a,b}' * 13)) == 2**13
