"""What lies outside of a match stays, however an initializer reaches it."""

import ctypes
import gc
import threading

import pytest
import torch
import torch.nn as nn
from torch.utils._python_dispatch import TorchDispatchMode
from toy import same, snapshot

from mmpartinit import RuleError, init_modules
from mmpartinit.writing.outside import Outside

FIXED = dict(type='Constant', val=2.0)


def a_model():
    """A part that is loaded, and a new head."""
    body = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    return nn.ModuleDict({'body': body, 'head': nn.Linear(3, 3)})


def once(write):
    """A function for ``Apply`` that calls another one, besides what it does
    to its own layer.
    """

    def fn(module):
        nn.init.ones_(module.weight)
        write()

    return dict(type='Apply', fn=fn)


def apply(model, write):
    return once(write)


def init_weights(model, write):
    model['head'].init_weights = write
    return dict(type='InitWeights')


def own(model, write):
    class Own:
        def __call__(self, module):
            write()

    return dict(type=Own)


def outcome(model, init_cfg, **others):
    """The error of a rule on the head, and the names of what then differs."""
    before, places = snapshot(model), pointers(model)
    rule = dict(path='head', init_cfg=init_cfg)
    with pytest.raises(RuleError) as error:
        init_modules(model, [rule], loaded='body', **others)
    after = model.state_dict()
    assert list(after) == list(before)
    assert pointers(model) == places
    body = [name for name in before if name.startswith('body')]
    return error.value, [n for n in body if not same(after[n], before[n])]


def pointers(model):
    return [(id(t), t.data_ptr()) for t in tensors(model)]


def tensors(model):
    return model.state_dict(keep_vars=True).values()


# --- through torch


IN_PLACE = {
    'nn.init': nn.init.normal_,
    'fill_': lambda t: t.data.fill_(7),
    'view': lambda t: t.detach()[1:].zero_(),
    'copy_': lambda t: t.data.copy_(torch.ones(3, 3)),
    'out': lambda t: torch.mul(t.detach(), 2, out=t.detach()),
    'foreach': lambda t: torch._foreach_add_([t.data], 1.5),
    'set_': lambda t: t.data.set_(torch.ones(3, 3)),
}


@pytest.mark.parametrize('kind', [apply, init_weights, own])
@pytest.mark.parametrize('way', IN_PLACE)
def test_a_write_of_torchs_is_stopped_before_it_happens(kind, way):
    model = a_model()
    cfg = kind(model, lambda: IN_PLACE[way](model['body'][0].weight))
    error, differs = outcome(model, cfg)
    assert not differs
    (found,) = error.findings
    assert (found.code, found.rule, found.path) == ('outside', 0, 'head')
    assert found.names == ['body.0.weight']
    assert 'would also write body.0.weight' in found.message
    assert 'was stopped' in found.message


@pytest.mark.parametrize('kind', [apply, init_weights, own])
def test_also_where_the_function_goes_on_after_that(kind):
    def write():
        for tensor in tensors(model['body']):
            try:
                tensor.data.zero_()
            except Exception:
                continue

    model = a_model()
    cfg = kind(model, write)
    error, differs = outcome(model, cfg)
    assert not differs
    assert error.findings[0].code == 'outside'
    assert 'body.0.weight' in error.findings[0].names


@pytest.mark.parametrize('reset', ['reset_parameters', 'reset_running_stats'])
def test_a_layer_outside_is_not_reset(reset):
    model = a_model()
    model['body'][1].running_mean.fill_(5)
    error, differs = outcome(model, once(getattr(model['body'][1], reset)))
    assert not differs
    assert error.findings[0].names == ['body.1.running_mean']


# --- past torch


def by_numpy(tensor):
    tensor.detach().numpy()[0] += 1


def by_storage(tensor):
    storage = getattr(tensor, 'untyped_storage', tensor.storage)()
    ctypes.memset(storage.data_ptr(), 1, 4)


def by_thread(tensor):
    thread = threading.Thread(target=nn.init.constant_, args=(tensor, 7))
    thread.start()
    thread.join()


@pytest.mark.parametrize('kind', [apply, init_weights, own])
@pytest.mark.parametrize('way', [by_numpy, by_storage, by_thread])
@pytest.mark.parametrize('name', ['0.weight', '1.running_var'])
def test_a_write_past_torch_is_an_error_that_names_it(kind, way, name):
    model = a_model()
    tensor = dict(model['body'].state_dict(keep_vars=True))[name]
    error, differs = outcome(model, kind(model, lambda: way(tensor)))
    assert differs == [f'body.{name}']
    (found,) = error.findings
    assert (found.code, found.rule, found.path) == ('outside', 0, 'head')
    assert found.names == differs
    assert differs[0] in found.message
    assert found.message.startswith("rule 0 (path 'head'): ")
    assert 'build it again' in found.message


def test_a_failure_hides_no_write_before_it():
    def write():
        by_numpy(model['body'][0].weight)
        model['body'][0].bias.data = torch.zeros(3)
        model['body'][0].extra = nn.Identity()
        raise OSError('disk full')

    model = a_model()
    error, differs = outcome(model, once(write))
    codes = [found.code for found in error.findings]
    assert codes == ['failed', 'replaced', 'outside', 'outside']
    names = [found.names for found in error.findings[1:]]
    assert names == [['body.0.extra'], ['body.0.bias'], ['body.0.weight']]
    assert differs == ['body.0.weight']


def test_one_of_several_rules_did_it_and_the_error_names_them():
    model = a_model()
    model['tail'], model['last'] = nn.Linear(3, 3), nn.Linear(3, 3)
    reaches = once(lambda: by_numpy(model['body'][0].weight))
    rules = [
        dict(path='head', init_cfg=once(int)),
        dict(path='tail', init_cfg=FIXED),
        dict(path='last', init_cfg=reaches),
    ]
    with pytest.raises(RuleError) as error:
        init_modules(model, rules, loaded='body')
    (found,) = error.value.findings
    assert found.message.startswith('one of the rules 0, 2: it wrote body.0.w')
    assert (found.code, found.names) == ('outside', ['body.0.weight'])
    assert found.rule is None
    assert 'left so: head.weight, tail.weight' in found.message


def test_what_the_match_keeps_is_out_of_reach_from_elsewhere_too():
    """NumPy has the model's own memory, not what the function is given."""
    model = a_model()
    array = model['head'].bias.detach().numpy()
    rule = dict(path='head', init_cfg=once(lambda: array.fill(7)))
    with pytest.raises(RuleError, match='it wrote head.bias') as error:
        init_modules(model, [rule], loaded='head.bias')
    assert error.value.findings[0].code == 'outside'


# --- what is given other memory, replaced or added


@pytest.mark.parametrize('kind', [apply, init_weights, own])
@pytest.mark.parametrize('value', [torch.ones(3, 3), torch.ones(2).half()])
def test_memory_that_was_given_away_comes_back(kind, value):
    def write():
        model['body'][0].weight.data = value

    model = a_model()
    error, differs = outcome(model, kind(model, write))
    assert not differs
    (found,) = error.findings
    assert (found.code, found.rule) == ('outside', 0)
    assert found.names == ['body.0.weight']
    assert '.data = ' in found.message


def test_so_does_that_of_what_another_rule_writes():
    def write():
        model['tail'].weight.data = torch.zeros(3, 3)

    model = a_model()
    model['tail'] = nn.Linear(3, 3)
    home = model['tail'].weight.data_ptr()
    rules = [
        dict(path='head', init_cfg=once(write)),
        dict(path='tail', init_cfg=FIXED),
    ]
    with pytest.raises(RuleError, match='other memory .* to tail.weight'):
        init_modules(model, rules, loaded='body')
    assert model['tail'].weight.data_ptr() == home


def parameter(body):
    body[0].weight = nn.Parameter(torch.ones(3, 3))


def buffer(body):
    body[1].running_mean = torch.ones(3)


def module(body):
    body[0] = nn.Linear(3, 3)


def without(body):
    del body[0].bias


def anew(body):
    body[0].__init__(3, 3)


def renamed(body):
    own = body[0]._parameters
    own['factor'] = own.pop('bias')


def more_parameters(body):
    body[0].gain = nn.Parameter(torch.ones(3))


def more_buffers(body):
    body[1].register_buffer('steps', torch.ones(3))


def more_modules(body):
    body.add_module('extra', nn.Linear(3, 3))


CHANGES = {
    parameter: ['body.0.weight'],
    buffer: ['body.1.running_mean'],
    module: ['body.0'],
    without: ['body.0.bias'],
    anew: ['body.0.weight', 'body.0.bias'],
    renamed: ['body.0.bias', 'body.0.factor'],
    more_parameters: ['body.0.gain'],
    more_buffers: ['body.1.steps'],
    more_modules: ['body.extra'],
}


@pytest.mark.parametrize('kind', [apply, init_weights, own])
@pytest.mark.parametrize('change', CHANGES)
def test_what_hangs_elsewhere_hangs_there_again(kind, change):
    model = a_model()
    modules = [*model.modules()]
    error, differs = outcome(model, kind(model, lambda: change(model['body'])))
    assert not differs
    assert [*model.modules()] == modules
    (found,) = error.findings
    assert (found.code, found.rule) == ('replaced', 0)
    assert found.names == CHANGES[change]


@pytest.mark.parametrize('path', ['head', 'body'])
def test_a_layer_made_anew_has_its_hooks_and_hidden_buffers_again(path):
    def write():
        layer.__init__(3, 3)

    model = a_model()
    layer = model['body'][0]
    layer.register_buffer('hidden', torch.ones(1), persistent=False)
    layer.register_forward_hook(lambda *args: torch.zeros(1))
    before = list(model.state_dict())
    rule = dict(path=path, init_cfg=own(model, write))
    with pytest.raises(RuleError, match='replaced .*weight'):
        init_modules(model, [rule])
    assert list(model.state_dict()) == before
    assert layer(torch.ones(2, 3)).tolist() == [0.0]


# --- what is no such write


def test_tensors_that_share_elements_with_new_ones_are_theirs():
    rows = torch.zeros(4, 3)
    model = a_model()
    model['tied'], model['some'] = nn.Linear(3, 3), nn.Linear(3, 2)
    model['tied'].weight = model['head'].weight
    model['head'].weight.data, model['some'].weight.data = rows[:3], rows[1:3]
    rule = dict(path='head', init_cfg=once(int))
    report = init_modules(model, [rule], loaded='body')
    assert report.rules[0].wrote == ['head.weight']
    assert rows[:3].eq(1).all() and rows[3].eq(0).all()


def test_columns_beside_a_loaded_one_are_no_write_to_it():
    columns = torch.zeros(3, 6)
    model = a_model()
    model['body'][0].weight.data = columns[:, ::2]
    model['head'].weight.data = columns[:, 1::2]
    rule = dict(path='head', init_cfg=once(int))
    init_modules(model, [rule], loaded='body')
    assert columns.tolist() == [[0.0, 1.0] * 3] * 3


def test_script_modules_and_odd_tensors_beside_it_are_no_hindrance():
    model = a_model()
    model['body'].add_module('two', torch.jit.script(nn.Linear(3, 3)))
    for name, value in {
        'one': torch.tensor(2.0),
        'single': torch.ones(5)[::5],
        'hollow': torch.tensor(2.0).expand(3, 3),
        'none': torch.zeros(0, 3),
        'wide': torch.ones(3, 1).expand(3, 5),
        'imaginary': torch.randn(3) * 1j,
        'sparse': torch.eye(3).to_sparse(),
        'mask': torch.tensor([True, False]),
    }.items():
        model['body'].register_buffer(name, value)
    rule = dict(path='head', init_cfg=once(int))
    init_modules(model, [rule], loaded='body')
    assert model['head'].weight.eq(1).all()


# --- what it costs


@pytest.mark.parametrize('known', [True, False])
def test_what_says_itself_what_it_writes_pays_nothing(known):
    class Own:
        def __call__(self, module):
            module.weight.data.fill_(1)
            made.extend(watches())

    def watches():
        return {id(o) for o in gc.get_objects() if type(o) is Outside}

    if known:
        Own.writes = ('weight',)
    gc.collect()
    before, made, model = watches(), [], a_model()
    init_modules(model, [dict(path='head', init_cfg=dict(type=Own))])
    assert model['head'].weight.eq(1).all()
    assert len(set(made) - before) == (0 if known else 1)


class Read(TorchDispatchMode):
    """Counts the bytes that operators are given, but those that give views."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not any(r.alias_info for r in func._schema.returns):
            for tensor in args:
                if isinstance(tensor, torch.Tensor):
                    self.bytes += tensor.numel() * tensor.element_size()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last]
)
@pytest.mark.parametrize('rules', [1, 5])
def test_the_rest_of_the_model_is_read_four_times_at_most(layout, rules):
    """More than where it is known what is written, and for all rules."""

    def read(init_cfg):
        heads = {f'head{i}': nn.Linear(3, 3) for i in range(rules)}
        model = nn.ModuleDict({'body': body, **heads})
        cfgs = [dict(path=name, init_cfg=init_cfg) for name in heads]
        with Read() as counts:
            init_modules(model, cfgs, loaded='body')
        return counts.bytes

    body = nn.Conv2d(64, 512, 3).to(memory_format=layout)
    size = sum(4 * parameter.numel() for parameter in body.parameters())
    more = read(once(int)) - read(FIXED)
    assert 3.9 * size < more < 4.1 * size
