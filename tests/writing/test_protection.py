"""Loaded tensors come out bit for bit, however an initializer writes."""

import gc

import pytest
import torch
import torch.nn as nn
from styles import STYLES
from toy import SE_ZERO, ToyModel, build_runner, pretrained, same, snapshot

from mmpartinit import RuleError, init_modules, plan_init

NORMAL = dict(type='Normal', layer='Linear')


@pytest.mark.parametrize('style', STYLES)
def test_modules_loaded_in_part_get_their_new_tensors_only(style):
    model = ToyModel()
    before = snapshot(model)
    floats = {k for k, v in before.items() if v.is_floating_point()}
    loaded = {*list(before)[::2], *(set(before) - floats)}
    loaded |= {'head.weight', 'backbone.layer1.0.bn.running_mean'}
    loaded -= {'head.bias', 'backbone.layer1.0.bn.running_var'}
    storages = {k: v.data_ptr() for k, v in model.state_dict().items()}
    rule = dict(path='**', init_cfg=dict(type='Apply', fn=style))
    report = init_modules(model, [rule], loaded=loaded)
    after = model.state_dict()
    for name in loaded:
        assert same(after[name], before[name]), name
        assert after[name].data_ptr() == storages[name], name
    for name in set(before) - loaded:
        assert not same(after[name], before[name]), name
    # Every write was seen, and attributed.
    assert set(report.rules[0].wrote) == set(before) - loaded
    assert set(report.rules[0].kept) == loaded


@pytest.mark.parametrize('style', STYLES)
def test_overwrite_lifts_it_for_that_rule(style):
    model = ToyModel()
    before = snapshot(model)
    apply = dict(type='Apply', fn=style)
    rules = [
        dict(path='head', init_cfg=apply, overwrite=True),
        dict(path='backbone.stem', init_cfg=apply),
    ]
    report = init_modules(model, rules, loaded=set(before))
    for name, value in model.state_dict().items():
        assert same(value, before[name]) is not name.startswith('head'), name
    codes = [finding.code for finding in report.findings]
    assert codes == ['nothing-new', 'overwritten']
    assert report.rules[0].wrote == ['head.weight', 'head.bias']


def test_reset_statistics_of_a_loaded_batch_norm_stay():
    class Statistics(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm1d(3)

    def reset(module):
        if isinstance(module, nn.BatchNorm1d):
            module.reset_parameters()

    model = Statistics()
    loaded = {'bn.running_mean', 'bn.running_var', 'bn.num_batches_tracked'}
    for name in loaded:
        model.get_buffer(name).fill_(5)
    nn.init.constant_(model.bn.weight, 5)
    rule = dict(path='bn', init_cfg=dict(type='Apply', fn=reset))
    init_modules(model, [rule], loaded=loaded)
    assert all(model.get_buffer(name).eq(5).all() for name in loaded)
    assert model.bn.weight.eq(1).all()


def test_special_values_and_layouts_come_back():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.new = nn.Parameter(torch.zeros(2))
            self.weight = nn.Parameter(
                torch.tensor([[float('nan'), -0.0], [float('inf'), 1e-45]])
            )
            self.bias = nn.Parameter(torch.randn(4, 3, 2).permute(2, 0, 1))
            half = torch.randn(5).half()
            self.register_buffer('sixteen', half)
            self.register_buffer('integers', torch.arange(6)[::2])
            self.register_buffer('imaginary', torch.randn(3) * 1j)
            self.register_buffer('nothing', torch.zeros(0))
            self.register_buffer('mask', torch.tensor([True, False]))

    def write_all(module):
        module.new.data.fill_(1)
        for tensor in module.state_dict().values():
            tensor.fill_(1)

    model = nn.Sequential(Odd())
    before = snapshot(model)
    strides = {k: v.stride() for k, v in model.state_dict().items()}
    rule = dict(path='0', init_cfg=dict(type='Apply', fn=write_all))
    init_modules(model, [rule], loaded=set(before) - {'0.new'})
    for name, value in model.state_dict().items():
        assert same(value, before[name]) is (name != '0.new'), name
        assert value.stride() == strides[name]


def test_tied_weights_are_loaded_under_all_their_names():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 3)
            self.decoder = nn.Linear(3, 5)
            self.decoder.weight = self.embed.weight

    for name in ('embed.weight', 'decoder.weight'):
        model = Tied()
        before = snapshot(model)
        rules = [
            dict(path='decoder', init_cfg=dict(type='Normal')),
            dict(path='embed', init_cfg=dict(type='Normal')),
        ]
        init_modules(model, rules, loaded={name})
        assert same(model.embed.weight, before['embed.weight'])
        assert not same(model.decoder.bias, before['decoder.bias'])
        assert model.decoder.weight is model.embed.weight


@pytest.mark.parametrize('kind', ['fails', 'replaces'])
def test_an_error_loses_no_loaded_tensor(kind):
    def init(module):
        if isinstance(module, nn.Linear):
            module.weight.data.zero_()
            if kind == 'fails':
                raise OSError('disk full')
            module.weight = nn.Parameter(torch.ones(3, 8))

    model = ToyModel()
    before, weight = snapshot(model), model.head.weight
    rule = dict(path='head', init_cfg=dict(type='Apply', fn=init))
    words = 'disk full' if kind == 'fails' else 'replaced weight by'
    with pytest.raises(RuleError, match=words):
        init_modules(model, [rule], loaded={'head.weight'})
    assert model.head.weight is weight
    assert same(model.head.weight, before['head.weight'])


def test_a_replaced_module_comes_back_with_its_loaded_tensors():
    def init(module):
        if hasattr(module, 'fc1'):
            nn.init.zeros_(module.fc2.weight)
            module.fc1 = nn.Linear(8, 4)

    model = ToyModel()
    block, before = model.backbone.layer1[0].se, snapshot(model)
    fc1, path = block.fc1, 'backbone.layer1.0.se'
    rule = dict(path=path, init_cfg=dict(type='Apply', fn=init))
    with pytest.raises(RuleError, match='replaced fc1 by'):
        init_modules(model, [rule], loaded={f'{path}.fc1.weight'})
    assert block.fc1 is fc1
    for key in ('weight', 'bias'):
        name = f'{path}.fc1.{key}'
        assert same(model.state_dict()[name], before[name])


def test_after_a_failure_the_same_things_hang_in_the_same_order():
    def fail(module):
        if isinstance(module, nn.Linear):
            del module.weight
            module.extra = nn.Parameter(torch.zeros(2))
            module.register_buffer('mask', torch.zeros(2))
            raise OSError('disk full')

    model = nn.Sequential(nn.Linear(2, 2))
    before = snapshot(model)
    rule = dict(path='0', init_cfg=dict(type='Apply', fn=fail))
    with pytest.raises(RuleError, match='disk full'):
        init_modules(model, [rule])
    assert list(model.state_dict()) == list(before)


@pytest.mark.parametrize('fails', [False, True])
def test_script_modules_are_as_others(fails):
    def fill(module):
        for parameter in module.parameters(recurse=False):
            nn.init.ones_(parameter)
        if fails and not module._parameters:
            raise OSError('disk full')

    block = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model = nn.Sequential(torch.jit.script(block))
    before = snapshot(model)
    rule = dict(path='0', init_cfg=dict(type='Apply', fn=fill))
    if fails:
        with pytest.raises(RuleError, match='disk full'):
            init_modules(model, [rule], loaded={'0.0.weight'})
    else:
        init_modules(model, [rule], loaded={'0.0.weight'})
        before.update({k: torch.ones(3) for k in ('0.0.bias', '0.1.bias')})
    for name, value in before.items():
        assert same(model.state_dict()[name], value), name


def test_memory_that_a_loaded_tensor_shares_is_loaded():
    model = nn.ModuleDict({'a': nn.Linear(2, 2), 'b': nn.Linear(2, 2)})
    model['b'].weight.data = model['a'].weight.data
    before = snapshot(model)
    rule = dict(path='b', init_cfg=dict(type='Normal'))
    report = init_modules(model, [rule], loaded={'a.weight'})
    assert same(model['a'].weight, before['a.weight'])
    assert report.rules[0].kept == ['b.weight']


def test_a_list_may_hold_what_only_loaded_layers_need():
    """A recipe for a whole backbone fits variants of it."""
    model = ToyModel()
    loaded = {n for n in model.state_dict() if '.bn.' in n}
    cfg = [
        dict(type='Kaiming', layer='Linear'),
        dict(type='Constant', layer='BatchNorm1d', val=1),
        dict(
            type='Constant',
            val=0,
            override=dict(type='Constant', name='bn', val=5),
        ),
    ]
    rule = dict(path='backbone.layer1.0', init_cfg=cfg)
    report = init_modules(model, [rule], loaded=loaded)
    assert set(report.rules[0].kept) <= loaded
    assert not set(report.rules[0].wrote) & loaded


def test_values_of_new_tensors_do_not_depend_on_what_was_loaded():
    model, other = ToyModel(), ToyModel()
    rule = dict(path='backbone', init_cfg=dict(NORMAL, bias=1))
    init_modules(model, [rule], loaded={'backbone.stem.weight'})
    init_modules(other, [rule])
    for name, value in model.backbone.layer2.state_dict().items():
        if 'linear' in name or 'fc' in name:
            assert same(value, other.backbone.layer2.state_dict()[name]), name


def test_modules_with_nothing_new_are_skipped():
    calls = []
    model = ToyModel()
    loaded = set(model.backbone.layer1.state_dict(prefix='backbone.layer1.'))
    rule = dict(
        path='backbone.layer*', init_cfg=dict(type='Apply', fn=calls.append)
    )
    plan = plan_init(model, [rule], loaded=loaded)
    with pytest.raises(RuleError, match='wrote none'):
        plan.apply()  # this function writes nothing
    assert model.backbone.layer2 in calls
    assert model.backbone.layer1 not in calls


def test_private_memory_is_of_one_match_only():
    """Bytes that torch holds while an initializer runs, beside the model."""
    model = nn.Sequential(*[nn.Linear(256, 256) for _ in range(8)])
    size = 256 * 256 * 4

    def tensors():
        gc.collect()
        found = [t for t in gc.get_objects() if isinstance(t, torch.Tensor)]
        return {id(t): t for t in found}

    def measure(module):
        sizes = {
            t.data_ptr(): t.numel() * t.element_size()
            for number, t in tensors().items()
            if number not in before and t.data_ptr() not in homes
        }
        held.append(sum(sizes.values()))
        module.bias.data.fill_(1)

    before, held = tensors(), []  # kept, so that no number is given again
    homes = {parameter.data_ptr() for parameter in model.parameters()}
    rule = dict(path='*', init_cfg=dict(type='Apply', fn=measure))
    for loaded in (set(), {f'{i}.weight' for i in range(8)}):
        init_modules(model, [rule], loaded=loaded)
    assert len(held) == 16
    assert 0.9 * size < min(held) <= max(held) < 1.2 * size


@pytest.mark.parametrize('loaded', [(), ['0.0.weight', '0.1.bias']])
def test_after_a_failure_the_model_is_as_it_was(loaded):
    def fail_halfway(module):
        if isinstance(module, nn.Linear):
            return
        nn.init.ones_(module[0].weight)
        module[1].bias.detach().numpy()[...] = 5
        module[1].weight.data = torch.ones(2, 2)
        raise OSError('disk full')

    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    before = snapshot(model)
    places = {k: v.data_ptr() for k, v in model.state_dict().items()}
    rule = dict(
        path='0',
        init_cfg=[
            dict(type='Constant', val=3.0),
            dict(type='Normal', std=-1.0),
        ],
    )
    with pytest.raises(RuleError, match='std -1'):
        init_modules(model, [rule], loaded=loaded)
    rule['init_cfg'] = dict(type='Apply', fn=fail_halfway)
    with pytest.raises(RuleError, match='disk full'):
        init_modules(model, [rule], loaded=loaded)
    for name, value in model.state_dict().items():
        assert same(value, before[name]), name
        assert value.data_ptr() == places[name], name


def test_an_error_says_what_earlier_rules_have_written():
    model = ToyModel()
    rules = [
        dict(path='head', init_cfg=dict(type='Constant', val=1.0)),
        dict(path='neck', init_cfg=dict(type='Normal', std=-1.0)),
    ]
    words = r'std -1.*left so: head.weight, head.bias\)'
    with pytest.raises(RuleError, match=words):
        init_modules(model, rules)
    assert model.head.weight.eq(1).all()


@pytest.mark.parametrize('is_last', [False, True])
def test_a_few_elements_written_around_torch_are_seen(is_last):
    """Behind the back of torch, whatever a list holds before or after."""

    def few(module):
        module.weight.detach().numpy()[0, 1:4] = 9.0

    model = nn.Sequential(nn.Linear(64, 64))
    items = [dict(type='Normal'), dict(type='Apply', fn=few)]
    rule = dict(path='0', init_cfg=items if is_last else items[1])
    report = init_modules(model, [rule])
    assert '0.weight' in report.rules[0].wrote
    assert not [f for f in report.findings if f.code == 'unused-item']
    assert model[0].weight[0, 1:4].eq(9).all()


def test_columns_of_one_matrix_are_written_apart():
    """Their spans of memory overlap, their elements do not."""
    matrix = torch.zeros(4, 4)
    model = nn.ModuleDict({'a': nn.Linear(2, 4), 'b': nn.Linear(2, 4)})
    model['a'].weight.data, model['b'].weight.data = matrix.split(2, dim=1)
    rule = dict(path='b', init_cfg=dict(type='Constant', val=7.0))
    init_modules(model, [rule], loaded={'a.weight', 'a.bias'})
    assert matrix.tolist() == [[0.0, 0.0, 7.0, 7.0]] * 4


def test_a_slice_of_a_loaded_tensor_is_refused():
    rows = torch.zeros(4, 2)
    model = nn.ModuleDict({'a': nn.Linear(2, 4), 'b': nn.Linear(2, 2)})
    model['a'].weight.data, model['b'].weight.data = rows, rows[2:]
    rule = dict(path='**', init_cfg=dict(type='Constant', val=7.0))
    with pytest.raises(RuleError, match='b.weight lies in the memory of a.'):
        init_modules(model, [rule], loaded={'a.weight'})
    assert rows.eq(0).all()


@pytest.mark.parametrize('path, loaded', [('a', 'b'), ('b', 'a')])
def test_so_is_one_that_the_path_does_not_name(path, loaded):
    rows = torch.zeros(4, 2)
    model = nn.ModuleDict({'a': nn.Linear(2, 4), 'b': nn.Linear(2, 2)})
    model['a'].weight.data, model['b'].weight.data = rows, rows[2:]
    rule = dict(path=path, init_cfg=dict(type='Constant', val=7.0))
    with pytest.raises(RuleError, match=f'{path}.weight lies in the memory'):
        plan_init(model, [rule], loaded={f'{loaded}.weight'})
    rule['overwrite'] = True
    with pytest.raises(RuleError, match=f'{path}.weight lies in the memory'):
        plan_init(model, [rule], loaded={f'{loaded}.weight'})
    rule['path'] = ['a', 'b']
    init_modules(model, [rule], loaded={f'{loaded}.weight'})
    assert rows.eq(7).all()


@pytest.mark.parametrize('is_loaded', [False, True])
def test_what_shares_memory_without_being_a_parameter_shares_its_fate(
    is_loaded,
):
    """The weight of ``spectral_norm`` until the first forward pass, views."""

    def fill(module):
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 7)
            module.row.fill_(5)
            nn.init.ones_(module.bias)

    model = nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 3)))
    assert model[0].weight.data_ptr() == model[0].weight_orig.data_ptr()
    row = model[0].weight_orig.data[1]
    model[0].register_buffer('row', row, persistent=False)
    places = [t.data_ptr() for t in (model[0].weight, row)]
    before = snapshot(model)
    loaded = {'0.weight_u', '0.weight_v'}
    loaded |= {'0.weight_orig'} if is_loaded else set()
    rule = dict(path='0', init_cfg=dict(type='Apply', fn=fill))
    report = init_modules(model, [rule], loaded=loaded)
    assert model[0].bias.eq(1).all()
    if is_loaded:
        assert same(model[0].weight_orig, before['0.weight_orig'])
        assert report.rules[0].wrote == ['0.bias']
    else:
        assert model[0].weight_orig[:, 0].tolist() == [7, 5, 7]
        assert report.rules[0].wrote == ['0.bias', '0.weight_orig']
    assert [t.data_ptr() for t in (model[0].weight, row)] == places


MASK = dict(type='Constant', val=7.0, bias=5.0)


@pytest.mark.parametrize('has_more', [False, True])
def test_a_buffer_that_is_in_no_state_dict_is_not_written(has_more):
    """GPT-2's attention calls its mask ``bias``; it may be a view as well."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Module())
    model[1].gate = nn.Parameter(torch.ones(1))
    model[1].register_buffer('bias', model[0].weight.data[0], persistent=False)
    if has_more:
        model[1].weight = nn.Parameter(torch.ones(2))
    before = snapshot(model)
    rule = dict(path='1', init_cfg=MASK)
    loaded = {'0.weight', '0.bias'}
    if has_more:
        init_modules(model, [rule], loaded=loaded)
        assert model[1].weight.eq(7).all()
    else:
        with pytest.raises(RuleError, match='nothing under 1 has either'):
            init_modules(model, [rule], loaded=loaded)
    assert same(model[0].weight, before['0.weight'])
    assert model[1].bias.data_ptr() == model[0].weight.data_ptr()


@pytest.mark.parametrize('more', [{}, dict(layer='Sequential')])
def test_nor_is_it_through_an_override(more):
    """Nor is a number that an activation calls ``bias``."""
    model = nn.Sequential(nn.Sequential(nn.Sequential(nn.Module(), nn.Tanh())))
    part = model[0][0]
    part[0].weight = nn.Parameter(torch.ones(2))
    part[0].register_buffer('bias', torch.ones(2), persistent=False)
    part[1].bias = 3.0
    cfg = dict(type='Constant', val=1, override=dict(MASK, name='0'), **more)
    init_modules(model, [dict(path='0', init_cfg=cfg)])
    assert part[0].weight.eq(7).all()
    assert part[0].bias.eq(1).all()
    assert part[1].bias == 3.0


def test_a_write_to_memory_that_is_not_seen_at_the_match_is_an_error():
    def fill(module):
        if isinstance(module, nn.Linear):
            views[0].fill_(7)
            nn.init.ones_(module.bias)

    model = nn.Sequential(nn.Linear(2, 3))
    views = [model[0].weight.data[1]]
    rule = dict(path='0', init_cfg=dict(type='Apply', fn=fill))
    with pytest.raises(RuleError, match='also write 0.weight, outside'):
        init_modules(model, [rule])


def test_what_is_quantized_comes_back():
    values = torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.quint8)
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].register_buffer('int8', values)
    model[0].register_buffer('turned', values.t())

    def fill(module):
        if isinstance(module, nn.Linear):
            nn.init.ones_(module.weight)
            module.int8.copy_(torch.zeros(3, 3))

    rule = dict(path='0', init_cfg=dict(type='Apply', fn=fill))
    init_modules(model, [rule], loaded={'0.int8', '0.turned'})
    assert model[0].int8.dequantize().equal(torch.eye(3))
    assert model[0].weight.eq(1).all()


@pytest.mark.parametrize('which', ['first', 'second'])
def test_a_neighbour_in_the_same_storage_is_not_written(which):
    """The one's memory begins where the other's ends."""

    def reach_out(module):
        nn.init.ones_(module.weight)
        others[which].data.fill_(1)

    both = torch.zeros(8)
    others = nn.ParameterDict(
        {
            'first': nn.Parameter(both[:4]),
            'second': nn.Parameter(both[4:]),
        }
    )
    model = nn.ModuleDict({'others': others, 'head': nn.Linear(2, 2)})
    rule = dict(path='head', init_cfg=dict(type='Apply', fn=reach_out))
    with pytest.raises(RuleError, match=f'also write others.{which}, outside'):
        init_modules(model, [rule])


def test_through_a_real_runner_with_load_from(work_dir, tmp_path):
    state = pretrained(tmp_path / 'weights.pth')
    everything = dict(path='**', init_cfg=dict(type='Constant', val=0.125))
    runner = build_runner(
        work_dir,
        load_from=str(tmp_path / 'weights.pth'),
        custom_hooks=[
            dict(type='EMAHook'),
            dict(type='CustomModuleInitHook', modules=[everything, SE_ZERO]),
            dict(type='Witness'),
        ],
    )
    runner.train()
    start = next(h for h in runner.hooks if hasattr(h, 'starts')).starts[0]
    for name, value in start.items():
        if name in state:
            assert same(value, state[name]), name
        elif name.endswith('.weight') and 'fc2' not in name:
            assert value.eq(0.125).all(), name


def anew(module):
    if isinstance(module, nn.Linear):
        module.__init__(module.in_features, module.out_features)


def grown(module):
    nn.init.ones_(module.weight)
    module.gain = nn.Parameter(torch.ones(3))
    module.register_buffer('steps', torch.ones(1))
    module.extra = nn.Identity()


@pytest.mark.parametrize(
    'fn, words',
    [(anew, 'replaced weight, bias by'), (grown, 'added gain, steps, extra')],
)
@pytest.mark.parametrize('loaded', [[], ['0.weight']])
def test_a_layer_is_neither_made_anew_nor_added_to(fn, words, loaded):
    model = nn.Sequential(nn.Linear(3, 3))
    before = snapshot(model)
    kept = [model[0].weight, model[0].bias]
    rule = dict(path='0', init_cfg=dict(type='Apply', fn=fn))
    with pytest.raises(RuleError, match=words):
        init_modules(model, [rule], loaded=loaded)
    assert [id(p) for p in model.parameters()] == [id(p) for p in kept]
    assert list(model.modules()) == [model, model[0]]
    for name, value in model.state_dict().items():
        assert same(value, before[name]), name


def test_a_tensor_of_which_a_slice_is_loaded_is_refused():
    """Both begin at one address, and one ends before the other."""
    rows = torch.zeros(4, 2)
    model = nn.ModuleDict({'a': nn.Linear(2, 2), 'b': nn.Linear(2, 4)})
    model['a'].weight.data, model['b'].weight.data = rows[:2], rows
    rule = dict(path='b', init_cfg=dict(type='Constant', val=7.0))
    with pytest.raises(RuleError, match='b.weight lies in the memory of a.'):
        init_modules(model, [rule], loaded='a.weight')
    assert rows.eq(0).all()
