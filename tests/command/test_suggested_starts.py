"""Starts that `mmpartinit suggest` tries: on small networks, and a few blocks
of the benchmark, pasted as suggested; `tests/benchmarks` has all of them.
"""

from pathlib import Path

import pytest
import torch
import torch.nn as nn
from benchmarks.blocks.choosing import choose
from benchmarks.blocks.criteria import problems
from benchmarks.blocks.measure import measure, reference
from benchmarks.blocks.running import pretrained
from mmengine.config import Config
from mmengine.model import BaseModel, BaseModule
from mmengine.registry import MODELS
from suggestions import findings, replanned, suggested, words

from mmpartinit.command.look import look, read_config
from mmpartinit.command.paste import suggest
from mmpartinit.command.planning import plan_config
from mmpartinit.command.suggestion import Suggestion, owners_first

# A gate, a branch that ends in a norm, and one that its own code starts.
NAMES = [
    'SE @ in branch',
    'x + conv, norm, ReLU @ after',
    'LoRA, bare @ for conv2',
]


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """The weights of the pretrained network, and its accuracy."""
    weights = pretrained()
    return weights, reference(weights, tmp_path_factory.mktemp('plain'))[0]


@pytest.mark.parametrize('name', NAMES)
def test_a_suggested_start_does_no_harm(name, network, tmp_path):
    weights, accuracy = network
    (case,) = choose(name)
    row = measure(case, weights, Path(tmp_path))
    assert not problems(row, accuracy)
    assert row.outcome in ('found', 'nothing to suggest')
    assert min(row.pasted) > 97


def run_case(tmp_path, make):
    """`suggest` for a network whose other parts are loaded; each of its rules
    has an effect.
    """
    torch.manual_seed(0)
    MODELS.register_module('SuggestNet', force=True, module=make)
    state = make().state_dict()
    old = {k: v for k, v in state.items() if 'new' not in k}
    torch.save(old, tmp_path / 'old.pth')
    cfg = Config(
        dict(
            model=dict(type='SuggestNet'), load_from=str(tmp_path / 'old.pth')
        )
    )
    config = tmp_path / 'config.py'
    cfg.dump(str(config))
    text = suggest(look(read_config(str(config))))
    wrong = findings(replanned(config, text))
    assert all(finding.code == 'uncovered' for finding in wrong)
    return text


class Net(nn.Module):
    """Two loaded layers around something new; `new` says how it is used."""

    def __init__(self, new):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.new = new

    def forward(self, x):
        return self.last(self.new(self.first(x).relu()))


class Gated(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.fc = nn.Conv2d(8, 8, 1, bias=bias)

    def forward(self, x):
        return x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()


class Scaled(nn.Module):
    """A factor that its own code starts at almost nothing."""

    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-6))

    def forward(self, x):
        return x * self.gamma


def test_a_gate_without_a_bias_cannot_be_opened(tmp_path):
    text = words(run_case(tmp_path, lambda: Net(Gated(bias=False))))
    assert 'Tried: none of the starts' in text
    assert 'Build new.fc with a bias' in text
    text = run_case(tmp_path, lambda: Net(Gated(bias=True)))
    assert suggested(text)[-1] == dict(
        path='new.fc', init_cfg=dict(type='Constant', val=0.0, bias=4.0)
    )


def test_a_block_of_one_layer_has_one_rule(tmp_path):
    text = run_case(tmp_path, lambda: Net(Added(nn.Conv2d(8, 8, 1))))
    start = dict(type='Constant', val=0.0)
    assert suggested(text) == [dict(path='new.inner', init_cfg=start)]
    assert 'Added. Its last layer starts at 0.' in words(text)


class Added(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Owner(BaseModule):
    """Starts all its convolutions in its own way, those of a block too."""

    def __init__(self, block, start=nn.init.normal_, key='weight'):
        super().__init__()
        self.start, self.key = start, key
        self.first, self.middle = nn.Conv2d(3, 8, 3), nn.Conv2d(6, 6, 1)
        self.new_a, self.new_b = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 3)
        self.new_block = block

    def init_weights(self):
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                self.start(getattr(module, self.key))

    def forward(self, x):
        x = self.middle(self.new_a(self.first(x).relu()).relu()).relu()
        return self.new_block(self.new_b(x))


class OwnedNet(BaseModel):
    def __init__(self, *owns):
        super().__init__()
        self.backbone, self.last = Owner(*owns), nn.Conv2d(8, 4, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.last(self.backbone(inputs))


def test_an_owner_starts_its_new_layers_once(tmp_path):
    text = run_case(tmp_path, lambda: OwnedNet(nn.Identity()))
    start = dict(type='InitWeights')
    assert suggested(text)[0] == dict(path='backbone', init_cfg=start)
    assert text.count('InitWeights') == 1
    assert text.count('# Conv2d.') == 1


@pytest.mark.parametrize('key', ['weight', 'bias'])
def test_what_an_owner_leaves_of_a_new_layer_has_a_rule_too(tmp_path, key):
    owns = nn.Identity(), nn.init.ones_, key
    text = run_case(tmp_path, lambda: OwnedNet(*owns))
    report = replanned(tmp_path / 'config.py', text)
    new = {record.name for record in report.tensors if 'new' in record.name}
    assert (
        len(new) == 4 and set().union(*(r.wrote for r in report.rules)) == new
    )
    seen = look(read_config(str(tmp_path / 'pasted.py')))
    plan_config(seen)
    for layer in (seen.model.backbone.new_a, seen.model.backbone.new_b):
        assert getattr(layer, key).eq(1).all()


def test_an_owner_that_would_start_a_block_too_is_not_asked(tmp_path):
    """What follows from the block's own rules is what training starts with."""
    text = run_case(tmp_path, lambda: OwnedNet(Added(nn.Conv2d(8, 8, 1))))
    assert 'InitWeights' not in text
    assert 'Its last layer starts at 0.' in words(text)
    seen = look(read_config(str(tmp_path / 'pasted.py')))
    plan_config(seen)
    assert seen.model.backbone.new_block.inner.weight.eq(0).all()


def test_owners_go_first_and_those_of_parts_behind_them():
    paths = [('a.b.c', False), ('a.b', True), ('d', False), ('a', True)]
    said = [Suggestion([], [p], is_owners=is_one) for p, is_one in paths]
    order = [found.path[0] for found in owners_first(said)]
    assert order == ['a', 'a.b', 'a.b.c', 'd']


class TwoGates(Gated):
    def __init__(self):
        super().__init__(bias=True)
        self.other = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        gate = self.other(x.mean((2, 3), keepdim=True)).tanh()
        return super().forward(x) * gate


def test_two_gates_start_open_by_a_rule_each(tmp_path):
    text = run_case(tmp_path, lambda: Net(TwoGates()))
    starts = {r['path']: r['init_cfg'] for r in suggested(text)[-2:]}
    assert starts['new.fc']['bias'] == 4 and starts['new.other']['bias'] == 2
    assert '\n\n' not in text


def test_a_start_that_its_own_code_chose_is_replaced_where_it_harms(tmp_path):
    text = run_case(tmp_path, lambda: Net(Scaled()))
    assert suggested(text)[-1]['init_cfg'] == dict(type='Constant', val=1.0)
    assert 'Its own start changes later parts by' in words(text)


def test_a_convolution_in_the_way_starts_as_the_identity(tmp_path):
    text = run_case(tmp_path, lambda: Net(nn.Conv2d(8, 8, 3, padding=1)))
    assert suggested(text)[-1]['init_cfg'] == dict(type='Identity')
    # A norm behind it makes of any start something else while it trains.
    conv = nn.Conv2d(8, 8, 3, padding=1)
    text = run_case(
        tmp_path, lambda: Net(nn.Sequential(conv, nn.BatchNorm2d(8)))
    )
    assert 'Tried: none of the starts' in words(text)
    assert 'by a Pretrained rule' in words(text)


def test_a_network_that_cannot_be_run_is_said_once(tmp_path):
    text = run_case(
        tmp_path,
        lambda: nn.ModuleDict(dict(old=nn.Linear(2, 2), new=nn.Linear(2, 2))),
    )
    assert text.count('No start was tried') == 1 and suggested(text)


class Fragile(nn.Module):
    """A block that refuses what a gate that is open gives."""

    def __init__(self, train_only=False):
        super().__init__()
        self.fc = nn.Conv2d(8, 8, 1)
        self.train_only = train_only

    def forward(self, x):
        gate = self.fc(x.mean((2, 3), keepdim=True)).sigmoid()
        if gate.std() == 0 and not self.train_only:
            raise ValueError('a gate of one value')
        if self.training and self.train_only:
            raise ValueError('annotations are missing')
        return x * gate


def test_a_start_with_which_the_network_does_not_run_is_said(tmp_path):
    text = words(run_case(tmp_path, lambda: Net(Fragile())))
    assert 'Tried: none of the starts' in text and 'Left as built.' in text


def test_what_runs_in_eval_mode_only_is_tried_there_and_said(tmp_path):
    text = run_case(tmp_path, lambda: Net(Fragile(train_only=True)))
    assert 'in eval mode only' in words(text)
    assert 'annotations are missing' in words(text)
    assert suggested(text)[-1]['init_cfg']['bias'] == 4.0
