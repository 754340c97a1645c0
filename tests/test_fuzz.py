"""The promises, on random models, checkpoints, rules and ways to write.

``make fuzz`` runs many examples; ``make test`` a few.
"""

import copy
import random
import threading
from functools import partial

import numpy as np
import torch
import torch.nn as nn
from hypothesis import assume, given
from hypothesis import strategies as st
from mmengine.runner.checkpoint import load_state_dict
from stacks import filled_in
from styles import STYLES
from toy import same, snapshot

from mmpartinit import RuleError, init_modules, plan_init, record_loads
from mmpartinit.model.tree import ModelTree

NAMES = ['a', 'b', 'se']
LEAVES = [
    lambda: nn.Linear(2, 3),
    lambda: nn.Linear(3, 2, bias=False),
    lambda: nn.Conv2d(2, 2, 1),
    lambda: nn.BatchNorm1d(2),
    lambda: nn.LayerNorm(2, elementwise_affine=False),
    lambda: nn.Embedding(3, 2),
    nn.ReLU,
]


@st.composite
def models(draw):
    """A tree of modules, some of them in two places, some weights tied."""
    made = []

    def build(depth):
        if made and draw(st.integers(0, 7)) == 0:
            return draw(st.sampled_from(made))  # shared
        if not depth or draw(st.integers(0, 2)) == 0:
            module = draw(st.sampled_from(LEAVES))()
        else:
            module = nn.Module()
            children = st.lists(
                st.sampled_from(NAMES), max_size=3, unique=True
            )
            for name in draw(children):
                module.add_module(name, build(depth - 1))
            if draw(st.booleans()):
                module.gamma = nn.Parameter(torch.randn(2))
            if draw(st.booleans()):
                module.register_buffer('steps', torch.arange(3.0))
                module.register_buffer('hidden', torch.ones(1), False)
        made.append(module)
        return module

    torch.manual_seed(draw(st.integers(0, 99)))
    model = nn.Module()
    for name in NAMES:
        model.add_module(name, build(3))
    # Tie some weights of one shape.
    entries = [e for e in ModelTree(model).entries if e.key == 'weight']
    for entry in entries[1:]:
        fits = entry.value.shape == entries[0].value.shape
        if fits and draw(st.booleans()):
            entry.owner.weight = entries[0].value
    return model


@st.composite
def checkpoints(draw, model):
    """Some of the model's tensors, some in another shape, and others."""
    state = model.state_dict()
    if not state:
        return {}
    keys = st.sampled_from(sorted(state))
    checkpoint = {
        key: torch.full_like(state[key], 0.5)
        for key in draw(st.sets(keys, max_size=len(state)))
    }
    for key in draw(st.sets(keys, max_size=2)):
        checkpoint[key] = torch.zeros(7, 7)
    checkpoint['extra.weight'] = torch.zeros(2)
    return checkpoint


segments = st.sampled_from(
    [*NAMES, '*', '**', '?', 'weight', 'gamma', '{a,b}']
)
paths = st.lists(segments, min_size=1, max_size=4).map('.'.join)


@st.composite
def rule_lists(draw):
    rules = []
    for _ in range(draw(st.integers(1, 3))):
        style = draw(st.sampled_from(STYLES))
        init_cfg = draw(
            st.sampled_from(
                [
                    dict(type='Apply', fn=style),
                    dict(type='Apply', fn=style),
                    dict(type='Normal'),
                    dict(type='Constant', val=2.0, bias=3.0),
                    dict(type='Xavier', layer=['Linear', 'Conv2d']),
                    dict(type='Normal', layer='Linear', bias=2),
                ]
            )
        )
        rules.append(
            dict(
                path=draw(paths),
                init_cfg=init_cfg,
                overwrite=draw(st.integers(0, 4)) == 0,
                optional=True,
            )
        )
    return rules


def random_state():
    numpy_state = np.random.get_state()[1].tobytes()
    return random.getstate(), numpy_state, torch.get_rng_state().tolist()


def aliases(model):
    """Names of each tensor, by any of them."""
    by_id = {}
    for entry in ModelTree(model).entries:
        by_id.setdefault(id(entry.value), set()).add(entry.path)
    return {name: names for names in by_id.values() for name in names}


@given(st.data())
def test_the_promises_hold(data):
    model = data.draw(models())
    checkpoint = data.draw(checkpoints(model))
    rules = data.draw(rule_lists())
    seed = data.draw(st.integers(0, 5))
    with record_loads(model) as recorded:
        load_state_dict(model, checkpoint, logger='silent')
    names = aliases(model)
    fits = {
        key
        for key, value in checkpoint.items()
        if key in names and value.shape == model.state_dict()[key].shape
    }
    recorded -= filled_in(recorded, fits)
    loaded = set().union(*(names[key] for key in fits))
    assert set().union(*(names[key] for key in recorded)) == loaded

    before, state = snapshot(model), random_state()
    twin = copy.deepcopy(model)
    structure = [
        (n, id(t)) for n, t in model.state_dict(keep_vars=True).items()
    ]
    try:
        plan = plan_init(model, rules, loaded=recorded)
    except RuleError:
        assert random_state() == state
        for name, value in model.state_dict().items():
            assert same(value, before[name]), name
        return
    report = None
    try:
        report = plan.apply(seed)
    except RuleError:
        pass
    after = model.state_dict()
    assert random_state() == state
    assert structure == [
        (n, id(t)) for n, t in model.state_dict(keep_vars=True).items()
    ]

    may_write, must_keep = set(), set(loaded)
    for match in plan.matches:
        under = set().union(*(names[e.path] for e in match.new), set())
        may_write |= under
        if match.rule.overwrite:
            must_keep -= under
    for name in after:
        if name in must_keep or name not in may_write:
            assert same(after[name], before[name]), name
    if report is None:
        return

    origins = {t.name: t for t in report.tensors}
    assert list(origins) == list(after)
    for name, value in after.items():
        if not same(value, before[name]):
            assert origins[name].origin == 'rule', name
        elif name in loaded and origins[name].rule is None:
            assert origins[name].origin == 'file', name
        for other in names[name]:
            assert origins[other].origin == origins[name].origin

    # Styles write every parameter and float buffer of modules (a bare
    # parameter is the weight of one).
    for match in plan.matches:
        if match.rule.init_cfg[0].cfg['type'] != 'Apply':
            continue
        for entry in match.new:
            if entry.value.is_floating_point():
                assert origins[entry.path].origin == 'rule', entry.path

    again = init_modules(twin, rules, loaded=recorded, seed=seed)
    assert again.to_dict() == report.to_dict()
    for name, value in twin.state_dict().items():
        assert same(value, after[name]), name


@given(st.data())
def test_a_rule_with_a_match_of_new_tensors_writes_them(data):
    """The first test must not hold because nothing is ever written."""
    model = data.draw(models())
    paths_there = [p for p in ModelTree(model).index if p]
    path = data.draw(st.sampled_from(paths_there))
    style = data.draw(st.sampled_from(STYLES))
    rule = dict(path=path, init_cfg=dict(type='Apply', fn=style))
    try:
        plan = plan_init(model, [rule])
    except RuleError as error:
        assume('no parameters in there' not in str(error))
        raise
    names = {e.path for m in plan.matches for e in m.new}
    floats = {n for n in names if model.state_dict()[n].is_floating_point()}
    assume(floats)
    report = plan.apply(1)
    assert set(report.rules[0].wrote) == floats


# --- initializers that do what they must not


def again(module):
    """Make a layer anew, or what is no layer without what hangs in it."""
    if isinstance(module, nn.Linear):
        bias = module.bias is not None
        module.__init__(module.in_features, module.out_features, bias)
    elif isinstance(module, nn.Conv2d):
        module.__init__(2, 2, 1)
    elif isinstance(module, nn.Embedding):
        module.__init__(3, 2)
    elif isinstance(module, nn.BatchNorm1d):
        module.__init__(2)
    else:
        module.__init__()


def reset(module):
    getattr(module, 'reset_parameters', module.state_dict)()


def replaced(entry):
    held = entry.owner._parameters
    if entry.key not in held:
        held = entry.owner._buffers
    held[entry.key] = copy.deepcopy(entry.value)
    held[entry.key].data.fill_(6)


def in_a_thread(tensor):
    thread = threading.Thread(target=tensor.data.fill_, args=(8,))
    thread.start()
    thread.join()


def other_memory(tensor, shape=None):
    tensor.data = torch.full(shape or tensor.shape, 4).to(tensor)


def fail():
    raise OSError('halfway')


# What one does to an entry of the model, wherever it is; what is held was
# taken before anything was written.
MISCHIEF = {
    'nn.init': lambda entry, held: nn.init.constant_(entry.value, 5),
    'view': lambda entry, held: entry.value.data.view(-1)[:1].fill_(5),
    'numpy': lambda entry, held: entry.value.detach().numpy().fill(9),
    'thread': lambda entry, held: in_a_thread(entry.value),
    'data': lambda entry, held: other_memory(entry.value),
    'form': lambda entry, held: other_memory(entry.value, [5]),
    'held': lambda entry, held: held.fill_(7),
    'held numpy': lambda entry, held: held.numpy().fill(7),
    'replace': lambda entry, held: replaced(entry),
    'delete': lambda entry, held: delattr(entry.owner, entry.key),
    'add': lambda entry, held: entry.owner.register_parameter(
        'more', nn.Parameter(torch.ones(1))
    ),
    'buffer': lambda entry, held: entry.owner.register_buffer(
        'steps2', torch.ones(1)
    ),
    'module': lambda entry, held: entry.owner.add_module('new', nn.ReLU()),
    'anew': lambda entry, held: again(entry.owner),
    'reset': lambda entry, held: reset(entry.owner),
    'fail': lambda entry, held: fail(),
}


class Mischief:
    """A function for ``Apply``: writes in a style, and at its first call does
    some of the above; goes on after what stops it, or does not.
    """

    def __init__(self, style, acts, goes_on):
        self.style, self.acts, self.goes_on = style, acts, goes_on

    def __call__(self, module):
        acts, self.acts = self.acts, []
        self.style(module)
        for act in acts:
            try:
                act()
            except Exception:
                if not self.goes_on:
                    raise


class Direct(Mischief):
    """The same as an initializer of a user's own."""

    def __init__(self, fn):
        super().__init__(fn.style, fn.acts, fn.goes_on)


@st.composite
def mischievous_rules(draw, model):
    """Rules of which some reach out, and others know what they write."""
    entries = ModelTree(model).entries
    rules = draw(rule_lists())
    for rule in rules:
        if not entries or draw(st.integers(0, 5)) == 0:
            continue
        if draw(st.booleans()):  # else few rules have a match
            place = draw(st.sampled_from(entries)).path
            rule['path'] = place.rpartition('.')[0] or place
        acts = []
        for _ in range(draw(st.integers(1, 3))):
            entry = draw(st.sampled_from(entries))
            kind = draw(st.sampled_from(sorted(MISCHIEF)))
            act = partial(MISCHIEF[kind], entry, entry.value.data)
            acts.append(act)
        style = draw(st.sampled_from(STYLES))
        fn = Mischief(style, acts, draw(st.booleans()))
        form = draw(st.sampled_from(['Apply', 'own', 'list']))
        rule['init_cfg'] = dict(type='Apply', fn=fn)
        if form == 'own':
            rule['init_cfg'] = dict(type=Direct, fn=fn)
        elif form == 'list':
            rule['init_cfg'] = [dict(type='Normal'), rule['init_cfg']]
    return rules


def hangs(model):
    """What hangs where in a model, and where its state lies."""
    hung = [
        (name, kind, key, id(value))
        for name, module in model.named_modules(remove_duplicate=False)
        for kind in ('_parameters', '_buffers', '_modules')
        for key, value in getattr(module, kind).items()
    ]
    state = model.state_dict()
    return hung, {name: state[name].data_ptr() for name in state}


@given(st.data())
def test_whatever_an_initializer_does_nothing_loaded_differs_unsaid(data):
    model = data.draw(models())
    names = aliases(model)
    drawn = data.draw(st.sets(st.sampled_from(sorted(names) or ['none'])))
    loaded = set().union(*(names.get(name, set()) for name in drawn))
    rules = data.draw(mischievous_rules(model))
    before, hung, state = snapshot(model), hangs(model), random_state()
    try:
        plan = plan_init(model, rules, loaded=loaded)
    except RuleError:
        plan = None
    said = set()
    try:
        if plan is not None:
            plan.apply(1)
    except RuleError as error:
        for finding in error.findings:
            assert finding.level == 'error'
            said.update(*(names.get(name, ()) for name in finding.names))
    assert hangs(model) == hung
    assert random_state() == state
    must_keep = set(before)
    for match in plan.matches if plan else ():
        must_keep -= set().union(*(names[e.path] for e in match.new))
    assert must_keep >= loaded or any(rule['overwrite'] for rule in rules)
    for name, value in model.state_dict().items():
        if name in must_keep and name not in said:
            assert same(value, before[name]), name
