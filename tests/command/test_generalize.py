"""Patterns of `suggest`: they name some modules and nothing else."""

import pytest
import torch
import torch.nn as nn

from mmpartinit import RuleError
from mmpartinit.command.generalize import patterns_for
from mmpartinit.model.tree import ModelTree
from mmpartinit.rules.selection import Selector


def tree_of(*paths):
    model = nn.Module()
    for path in paths:
        module = model
        for segment in path.split('.'):
            if segment not in module._modules:
                module.add_module(segment, nn.Module())
            module = module._modules[segment]
        module.weight = nn.Parameter(torch.ones(1))
    return ModelTree(model)


@pytest.mark.parametrize(
    'new, others, patterns',
    [
        (['a.se'], ['b.se'], ['a.se']),
        (['s.0.se', 's.1.se'], ['s.2.x'], ['s.*.se']),
        (['l1.se', 'l2.se'], ['l3.x'], ['l{1,2}.se']),
        (['l1.se', 'l2.se'], [], ['l*.se']),
        (['l1.se', 'l2.se'], ['l3.se'], ['l{1,2}.se']),
        (['s.0.se', 's.1.se'], ['s.2.se'], ['s.{0,1}.se']),
        ([f's.{i}.se' for i in range(6)], ['s.6.se'], ['s.[0-5].se']),
        (['s.9.se', 's.10.se'], ['s.1.se'], ['s.{9,10}.se']),
        (
            ['l1.0.se', 'l2.1.se'],
            ['l1.1.se', 'l2.0.se'],
            ['l1.0.se', 'l2.1.se'],
        ),
        (['a.x[1]'], ['a.y[1]'], ['a.x?1?']),
        (['a.x[1]'], ['a.x(1)'], ['a.x[[]1[]]']),
        (['a.traffic light'], ['a.car'], ['a.traffic?light']),
        (
            ['a.traffic light'],
            ['a.traffic_light'],
            ['a.traffic[!a-zA-Z0-9_-]light'],
        ),
        (['a.light 1', 'a.light 2'], ['a.x'], ['a.light?*']),
        (['a.*'], ['a.x'], ['a.[*]']),
        (['a.**'], ['a.xy'], ['a.[*][*]']),
        (['a.?'], ['a.x'], ['a.[?]']),
        (['a.{b}'], ['a.xby'], ['a.[!a-zA-Z0-9_-]b[!a-zA-Z0-9_-]']),
        (['a.ａ１'], ['a.a'], ['a.??']),
    ],
)
def test_patterns_match_these_and_nothing_else(new, others, patterns):
    tree = tree_of(*new, *others)
    nodes = [tree.index[path] for path in new]
    assert patterns_for(Selector(tree), nodes) == patterns


def test_names_that_no_pattern_tells_apart_are_an_error():
    tree = tree_of('a.x y', 'a.x}y')
    with pytest.raises(RuleError, match="no pattern names 'a.x y' and nothin"):
        patterns_for(Selector(tree), [tree.index['a.x y']])
