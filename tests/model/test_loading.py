"""Recording: the names of exactly those tensors that a checkpoint supplied."""

import copy
import gc
import pickle
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn as nn
from hypothesis import given
from hypothesis import strategies as st
from mmengine.hooks import EMAHook
from mmengine.model import initialize, revert_sync_batchnorm
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import load_state_dict
from stacks import filled_in, since_torch
from toy import (
    SE_ZERO,
    ToyModel,
    build_runner,
    hooks,
    pretrained,
    same,
    start_of,
)

from mmpartinit import init_modules, record_loads
from mmpartinit.model import loading
from mmpartinit.model.deciding import find_origins
from mmpartinit.model.loading import recorded
from mmpartinit.model.whole import WholeModel
from mmpartinit.plan import make_plan


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / 'weights.pth'
    state = pretrained(path)
    return str(path), state


def others(model):
    """A state dict as a checkpoint has it: of other values, all unlike."""
    return {
        key: torch.randn_like(value)
        if value.is_floating_point()
        else value + 5
        for key, value in model.state_dict().items()
    }


def by_torch(model, path, state):
    model.load_state_dict(state, strict=False)


def by_torch_assign(model, path, state):
    model.load_state_dict(state, strict=False, assign=True)


def by_mmengine(model, path, state):
    load_state_dict(model, state)


def by_file(model, path, state):
    load_checkpoint(model, path)


def by_pretrained(model, path, state):
    initialize(model, dict(type='Pretrained', checkpoint=path))


def by_parts(model, path, state):
    for part in ('backbone', 'head'):
        cfg = dict(type='Pretrained', checkpoint=path, prefix=part)
        initialize(getattr(model, part), cfg)


def in_a_wrapper(model, path, state):
    nn.DataParallel(model).load_state_dict(
        {f'module.{k}': v for k, v in state.items()}, strict=False
    )


@pytest.mark.parametrize(
    'load',
    [
        by_torch,
        pytest.param(by_torch_assign, marks=since_torch('2.1')),
        by_mmengine,
        by_file,
        by_pretrained,
        by_parts,
        in_a_wrapper,
    ],
)
def test_every_way_to_load_is_recorded(weights, load):
    model = ToyModel()
    with record_loads(model) as loaded:
        assert loaded == set()
        load(model, *weights)
        assert loaded == set(weights[1])
    model.load_state_dict(others(model))  # no longer recorded
    assert loaded == set(weights[1])


def test_its_own_state_dict_brings_a_model_nothing(weights):
    """Its values come from where they came from before."""
    model = ToyModel()
    with record_loads(model) as loaded:
        model.load_state_dict(model.state_dict())
        model.head.load_state_dict(model.head.state_dict())
    assert loaded == set()
    origins = origins_of(model)
    assert not (origins.files or origins.checkpoints)
    by_torch(model, *weights)
    model.load_state_dict(model.state_dict())
    assert loaded_names(model) == set(weights[1])


def test_a_part_alone(weights):
    model = ToyModel()
    with record_loads(model) as loaded:
        cfg = dict(type='Pretrained', checkpoint=weights[0], prefix='head')
        initialize(model.head, cfg)
    assert loaded == {'head.weight', 'head.bias'}


def test_a_tensor_of_another_shape_was_not_loaded():
    model, other = ToyModel(), ToyModel()
    other.head = nn.Linear(8, 5)
    with record_loads(model) as loaded:
        load_state_dict(model, other.state_dict())
    assert set(other.state_dict()) - loaded == {'head.weight', 'head.bias'}


class Renaming(nn.Module):
    """Takes weights under an old name, as many models do."""

    def __init__(self, by_hook):
        super().__init__()
        self.new = nn.Linear(2, 2)
        if by_hook:
            self._register_load_state_dict_pre_hook(self.rename)
        self.by_hook = by_hook

    def rename(self, state_dict, prefix, *args):
        for key in list(state_dict):
            if key.startswith(prefix + 'old.'):
                new = key.replace(prefix + 'old.', prefix + 'new.')
                state_dict[new] = state_dict.pop(key)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if not self.by_hook:
            self.rename(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


@pytest.mark.parametrize('by_hook', [True, False])
@pytest.mark.parametrize('load', [by_torch, by_mmengine])
def test_keys_that_the_model_renames(by_hook, load):
    model = nn.Sequential(Renaming(by_hook))
    state = {'0.old.weight': torch.ones(2, 2), '0.old.bias': torch.ones(2)}
    with record_loads(model) as loaded:
        load(model, None, state)
    assert loaded == {'0.new.weight', '0.new.bias'}
    assert model[0].new.weight.eq(1).all()


@since_torch('2.2')  # before, batch norm loads a counter of its own
def test_a_counter_that_batch_norm_fills_in_was_not_loaded():
    model = nn.Sequential(nn.BatchNorm2d(2))
    old = {k: v for k, v in others(model).items() if 'num' not in k}
    with record_loads(model) as loaded:
        model.load_state_dict(old)
    assert loaded == set(old)


@since_torch('2.0')
def test_names_are_those_without_wrappers(weights):
    model = ToyModel()
    model.backbone.layer1 = torch.compile(model.backbone.layer1)
    with record_loads(nn.DataParallel(model)) as loaded:
        model.load_state_dict(others(model))
    assert loaded == set(ToyModel().state_dict())


def test_a_tensor_loaded_under_one_name_is_loaded_under_all():
    model = nn.ModuleDict({'a': nn.Linear(2, 2), 'b': nn.Linear(2, 2)})
    model['b'].weight = model['a'].weight
    with record_loads(model) as loaded:
        model.load_state_dict({'a.weight': torch.ones(2, 2)}, strict=False)
    rule = dict(path='b', init_cfg=dict(type='Normal'))
    report = init_modules(model, [rule], loaded=loaded)
    assert model['a'].weight.eq(1).all()
    assert report.rules[0].kept == ['b.weight']
    origins = {t.name: t.origin for t in report.tensors}
    assert origins == {
        'a.weight': 'file',
        'b.weight': 'file',
        'a.bias': 'built',
        'b.bias': 'rule',
    }


def test_two_recordings_may_overlap_and_end_in_any_order():
    model, other = ToyModel(), ToyModel()
    first, second = record_loads(model), record_loads(other)
    names, other_names = first.__enter__(), second.__enter__()
    model.head.load_state_dict(others(model.head))
    first.__exit__(None, None, None)
    model.load_state_dict(others(model))
    other.load_state_dict(others(other))
    second.__exit__(None, None, None)
    assert names == {'head.weight', 'head.bias'}
    assert other_names == set(other.state_dict())


def test_nothing_stays_when_an_exception_ends_it():
    model = ToyModel()
    before = copy.copy(model.head.__dict__)
    with pytest.raises(ZeroDivisionError), record_loads(model) as loaded:
        load_state_dict(model.head, others(model.head))
        1 / 0  # noqa: B018
    assert model.head.__dict__.keys() == before.keys()
    assert not model.head._load_state_dict_pre_hooks
    assert loaded == {'head.weight', 'head.bias'}


def test_copies_made_meanwhile_carry_nothing():
    model = ToyModel()
    with record_loads(model) as loaded:
        twin = copy.deepcopy(model)
        pickled = pickle.loads(pickle.dumps(model))
        twin.load_state_dict(model.state_dict())
        pickled.load_state_dict(model.state_dict())
        assert loaded == set()
    for a, b in zip(model.modules(), twin.modules()):
        assert a.__dict__.keys() == b.__dict__.keys()
        assert not b._load_state_dict_pre_hooks


def origins_of(model):
    """What is known by what was recorded alone."""
    whole = WholeModel(model)
    return find_origins(whole, recorded(whole.tree), 'none is made', {})


def loaded_names(model):
    return set(origins_of(model).files)


def test_what_was_loaded_is_known_from_the_import_on():
    model = ToyModel()
    assert loaded_names(model) == set()
    model.head.load_state_dict(others(model.head))
    assert loaded_names(model) == {'head.weight', 'head.bias'}


def test_a_copy_inside_of_a_model_is_loaded_as_far_as_what_it_is_of():
    student = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    student[0].load_state_dict(others(student[0]))
    pair = nn.ModuleDict(dict(a=student, b=copy.deepcopy(student)))
    assert loaded_names(pair) == {
        *('a.0.weight', 'a.0.bias', 'b.0.weight', 'b.0.bias'),
    }


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16])
def test_moving_and_converting_a_model_loses_nothing(dtype):
    model = nn.Sequential(nn.SyncBatchNorm(3), nn.Linear(3, 3))
    model.load_state_dict(others(model))
    model = revert_sync_batchnorm(model).to(dtype)
    assert type(model[0]) is not nn.SyncBatchNorm
    assert loaded_names(model) == set(model.state_dict())
    model = model.float()
    assert loaded_names(model) == set(model.state_dict())
    model[1].weight = nn.Parameter(torch.randn(3, 3))  # this one is new
    assert loaded_names(model) == set(model.state_dict()) - {'1.weight'}
    model[0] = nn.BatchNorm2d(3)  # and all of this
    assert loaded_names(model) == {'1.bias'}


@pytest.mark.parametrize('which', ['all', 'one', 'constants'])
def test_statistics_stay_loaded_where_parameters_move_to_another_module(which):
    """`revert_sync_batchnorm` hangs them into new modules."""
    model = nn.Sequential(nn.SyncBatchNorm(3))
    state = others(model)
    if which == 'one':
        state = {'0.weight': state['0.weight']}
    if which == 'constants':
        state['0.bias'] = torch.zeros(3)
        del state['0.running_mean'], state['0.num_batches_tracked']
    model.load_state_dict(state, strict=False)
    model = revert_sync_batchnorm(model)
    assert type(model[0]) is not nn.SyncBatchNorm
    loaded = loaded_names(model)
    assert loaded - filled_in(loaded, state) == set(state)


def test_a_new_tensor_is_not_taken_for_one_that_is_gone():
    """Python gives the same `id()` again."""
    for _ in range(100):
        old = [nn.BatchNorm1d(2) for _ in range(20)]
        for module in old:
            module.load_state_dict(others(module))
        gone = {id(module.weight) for module in old}
        del old, module
        gc.collect()
        model = nn.Sequential(*[nn.BatchNorm1d(2) for _ in range(20)])
        assert loaded_names(model) == set()
        weights = {f'{i}.weight': torch.ones(2) for i in range(20)}
        model.load_state_dict(weights, strict=False)
        loaded = loaded_names(model)
        assert loaded - filled_in(loaded, weights) == set(weights)
        if gone & {id(module.weight) for module in model}:
            return
    pytest.fail('no `id()` came again, so that nothing was tested')


def test_records_are_gone_with_what_they_are_about():
    def count():
        gc.collect()
        return len(loading._records), len(loading._loads)

    before = count()
    model = ToyModel()
    for _ in range(20):
        model.load_state_dict(others(model))
    assert all(now > then for now, then in zip(count(), before))
    assert len(loading._loads[model]) <= loading._MOST_LOADS
    del model
    assert count() == before


def test_norms_that_share_weights_do_not_share_statistics():
    model = nn.ModuleDict({'a': nn.BatchNorm1d(3), 'b': nn.BatchNorm1d(3)})
    model['b'].weight, model['b'].bias = model['a'].weight, model['a'].bias
    state = {k: v for k, v in others(model).items() if k[0] == 'a'}
    model.load_state_dict(state, strict=False)
    loaded = loaded_names(model)
    assert loaded - filled_in(loaded, state) == {
        *state,
        'b.weight',
        'b.bias',
    }


@since_torch('2.1')  # where parameters can be swapped
def test_loaded_parameters_can_be_swapped():
    """As subclasses of tensors and FSDP2 do: nobody refers to them."""
    layer = nn.Linear(2, 2)
    layer.load_state_dict(others(layer))
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert layer.weight.dtype == torch.float64
    assert loaded_names(layer) == {'weight', 'bias'}


@pytest.mark.parametrize('inside', [False, True])
def test_a_script_module_loads_and_keeps_what_it_loaded(inside):
    script = torch.jit.script(nn.Sequential(nn.Linear(2, 2)))
    model = nn.ModuleDict({'net': script}) if inside else script
    state = {k: torch.ones_like(v) for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    assert loaded_names(model) == set(state)
    rule = dict(path='**', init_cfg=dict(type='Constant', val=2.0))
    report = init_modules(model, [rule], loaded={next(iter(state))})
    values = [value.unique().tolist() for value in model.state_dict().values()]
    assert values == [[1.0], [0.0]]
    assert len(report.rules[0].wrote) == 1


def test_where_a_checkpoint_was_loaded_as_a_whole():
    model = ToyModel()
    assert origins_of(model).loaded_into == set()
    model.head.load_state_dict(others(model.head))
    assert origins_of(model).loaded_into == {'head'}
    state = others(model)
    state.update({f'head.{k}': v for k, v in model.head.state_dict().items()})
    state = {f'module.{k}': v for k, v in state.items()}
    nn.DataParallel(model).load_state_dict(state)
    assert origins_of(model).loaded_into == {'', 'head'}
    model.load_state_dict(others(model))  # nothing of the first is left
    assert origins_of(model).loaded_into == {''}


@pytest.mark.parametrize(
    'path, change, words',
    [
        ('head', 'model.head.', "with prefix='model.head.' 2 would"),
        ('', '-head.', '2 would fit head'),
        ('head', 'x', 'its names are others'),
    ],
)
def test_a_checkpoint_of_which_nothing_fits(path, change, words):
    def told():
        origins = origins_of(model)
        found = make_plan(WholeModel(model), [], origins).findings
        kept = [f.message for f in found if f.code == 'nothing-loaded']
        return origins.loaded_into, kept

    model = ToyModel()
    state = others(model.head)
    if not change.startswith('-'):
        state = {change + key: value for key, value in state.items()}
    module = model.get_submodule(path)
    module.load_state_dict(state, strict=False)
    whole, (text,) = told()
    assert whole == set()
    assert text == (
        f'none of the 2 tensors of a checkpoint fits {path or "the model"}, '
        f'into which it was loaded; {words}'
    )
    module.load_state_dict(others(module))  # then something fits
    assert told() == ({path}, [])


def test_no_model_is_kept_alive():
    model = ToyModel()
    model.load_state_dict(others(model))
    gone = [weakref.ref(model), weakref.ref(model.head.weight)]
    del model
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


@MODELS.register_module()
class LoadsItself(ToyModel):
    """Loads when it is built, as wrappers of timm's models do."""

    def __init__(self, path) -> None:
        super().__init__()
        load_checkpoint(self, path)


@pytest.mark.parametrize('way', ['constructor', 'by hand', 'between'])
def test_what_was_loaded_before_training_is_kept(work_dir, weights, way):
    path, state = weights
    everything = dict(path='**', init_cfg=dict(type='Constant', val=0.125))
    runner = build_runner(
        work_dir,
        model=dict(type='LoadsItself', path=path)
        if way == 'constructor'
        else dict(type='ToyModel'),
        custom_hooks=hooks(everything),
    )
    if way == 'between':
        runner.val()
    if way != 'constructor':
        load_checkpoint(runner.model, path)
    runner.train()
    for name, value in state.items():
        assert same(start_of(runner)[name], value), name


def test_a_scalar_from_a_very_old_checkpoint_was_loaded():
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(1.0))
    model.bias = nn.Parameter(torch.zeros(3))
    state = dict(scale=torch.tensor([7.0]), bias=torch.ones(1, 3))
    with record_loads(model) as loaded:
        load_state_dict(model, state, logger='silent')
    assert loaded == {'scale'}
    assert model.scale == 7 and model.bias.eq(0).all()


@pytest.mark.parametrize('load', [by_torch, by_mmengine])
def test_what_has_no_shape_yet_was_not_loaded(load):
    """A lazy module takes the state of another one, and stays lazy."""
    model = nn.Sequential(nn.LazyLinear(3))
    with record_loads(model) as loaded:
        load(model, None, nn.Sequential(nn.LazyLinear(3)).state_dict())
        assert loaded == set()
        load(model, None, nn.Sequential(nn.Linear(2, 3)).state_dict())
    assert loaded == {'0.weight', '0.bias'}
    assert model[0].weight.shape == (3, 2)


def test_the_copy_of_ema_hook_is_not_the_model(work_dir, weights):
    runner = build_runner(
        work_dir,
        load_from=weights[0],
        custom_hooks=[
            dict(type='EMAHook'),
            dict(type='CustomModuleInitHook', modules=[SE_ZERO]),
        ],
    )
    runner.train()
    hook = next(h for h in runner.hooks if hasattr(h, 'report'))
    ema = next(h for h in runner.hooks if isinstance(h, EMAHook))
    assert hook.report.origins()['file'] == len(weights[1])
    for module in ema.ema_model.modules():
        assert not module._load_state_dict_pre_hooks
        assert '_load_from_state_dict' not in module.__dict__


@given(st.data())
def test_exactly_the_keys_that_fit_are_recorded(data):
    model = ToyModel()
    state = others(model)
    chosen = data.draw(st.sets(st.sampled_from(sorted(state))))
    wrong = data.draw(st.sets(st.sampled_from(sorted(state))))
    checkpoint = {
        name: torch.ones(3, 1, 2) if name in wrong else state[name]
        for name in chosen
    }
    checkpoint['no.such.key'] = torch.ones(1)
    with record_loads(model) as loaded:
        load_state_dict(model, checkpoint, logger='silent')
    assert loaded - filled_in(loaded, checkpoint) == chosen - wrong


def test_loading_takes_no_longer_for_each_of_many_tensors():
    lists = [
        nn.ParameterList(nn.Parameter(torch.ones(4)) for _ in range(n))
        for n in (500, 4000)
    ]
    seconds = []
    for many in lists:
        state = {
            key: value.clone() for key, value in many.state_dict().items()
        }
        begun = time.perf_counter()
        many.load_state_dict(state)
        seconds.append(time.perf_counter() - begun)
    assert seconds[1] < 30 * seconds[0]


def test_what_was_read_into_the_models_own_state_dict(tmp_path):
    """As `torch.distributed.checkpoint` does: in place, and back again."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with record_loads(model) as loaded:
        state = model.state_dict()
        state['0.weight'].copy_(torch.ones(4, 4))
        model.load_state_dict(state)
    assert loaded == {'0.weight'}


def test_threads_load_for_themselves():
    models = [nn.Sequential(*(nn.Linear(4, 4),) * 8) for _ in range(8)]
    states = [
        {key: torch.rand_like(t) for key, t in model.state_dict().items()}
        for model in models
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(nn.Module.load_state_dict, models, states))
    for model in models:
        [(path, load)] = recorded(WholeModel(model).tree).loads
        assert (path, load.records.keys()) == ('', load.shapes.keys())
