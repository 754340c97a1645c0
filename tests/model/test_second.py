"""What a second start tells, and that nothing else notices it."""

import copy
import gc
import sys
import weakref

import pytest
import torch
import torch.nn as nn
from mmengine.logging import MessageHub
from toy import same, snapshot

from mmpartinit import RuleError, init_modules, plan_init
from mmpartinit.functions import origins_of
from mmpartinit.model.values import drawn_elements
from mmpartinit.model.whole import WholeModel
from mmpartinit.seeding import random_state_kept, seed_everything
from mmpartinit.start import build_again, names_checkpoint

CONSTANT = dict(type='Constant', val=0.5, bias=0.25)


def origins(model, build='an object'):
    return origins_of(WholeModel(model), build, {})


class Formula(nn.Module):
    """Layers with a formula's bias, beside some without."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
        for layer in self.layers:
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.gate = nn.Parameter(torch.arange(4.0))
        self.head = nn.Linear(4, 2)


def test_copies_of_what_was_loaded_lie_where_the_file_lay(tmp_path):
    layer = nn.Linear(512, 512, bias=False)
    torch.save(layer.state_dict(), tmp_path / 'x.pth')
    for _ in range(5):
        model = nn.Module()
        model.student = nn.Linear(512, 512, bias=False)
        model.student.load_state_dict(torch.load(tmp_path / 'x.pth'))
        # The memory of the state dict is free again.
        model.teacher = copy.deepcopy(model.student)
        assert set(origins(model).files) == {
            'student.weight',
            'teacher.weight',
        }


def test_a_teacher_that_is_drawn_as_its_student_is_not_loaded():
    model = nn.Module()
    model.student, model.teacher = nn.Linear(4, 4), nn.Linear(4, 4)
    model.teacher.load_state_dict(model.student.state_dict())
    assert not origins(model).kept


@pytest.mark.parametrize('error', [SystemExit, RuntimeError])
def test_a_second_build_that_fails_or_exits(error):
    def build():
        raise error('no')

    found = origins(nn.Linear(4, 4), build)
    assert found.known_by == (
        'recorded loads only: the model cannot be built again '
        f'({error.__name__}: no)'
    )


def seeding():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4))


def no_memory():
    raise MemoryError('none')


@pytest.mark.parametrize(
    'build, why',
    [
        (None, 'what is built again is the model itself'),
        (no_memory, 'cannot be built again .MemoryError: none'),
        (seeding, "the model's code seeds the random numbers itself"),
    ],
)
def test_a_build_that_tells_nothing_is_an_error(build, why):
    """Or rules would write over what it was to tell of."""
    model = seeding()
    before = snapshot(model)
    rules = [dict(path='0', init_cfg=CONSTANT)]
    for function in (plan_init, init_modules):
        with pytest.raises(RuleError, match=rf'\[build\] .*{why}'):
            function(model, rules, build=build or (lambda: model))
    assert all(same(v, before[k]) for k, v in model.state_dict().items())


def test_parts_given_as_objects_are_not_built_again():
    part = dict(type='Toy', necks=[dict(type='Neck'), nn.Linear(4, 4)])
    assert 'object' in build_again(dict(model=part))
    assert callable(build_again(dict(model=dict(type='Toy'))))


def test_nothing_is_printed_and_nothing_logged(capfd):
    hub = MessageHub.get_current_instance()
    hub.update_scalar('loss', 1.0)

    def build():
        print('out')
        print('err', file=sys.stderr)
        hub.update_scalar('loss', 2.0)
        hub.update_info('built', 2)
        return nn.Linear(4, 4)

    origins(nn.Linear(4, 4), build)
    assert capfd.readouterr() == ('', '')
    assert list(hub.get_scalar('loss').data[0]) == [1.0]
    assert 'built' not in hub.runtime_info


def test_devices_are_seeded_without_being_entered(monkeypatch):
    """From CUDA 12 on, each process would take memory on all of them."""
    generators = [torch.Generator() for _ in range(2)]
    monkeypatch.setattr(torch.cuda, 'default_generators', generators)
    with random_state_kept([]):
        seed_everything(7, [0, 1])
    assert [g.initial_seed() for g in generators] == [7, 7]


def test_models_that_hold_themselves_are_gone():
    built = []

    def build():
        model = nn.Sequential(nn.Linear(4, 4))
        object.__setattr__(model[0], 'parent', model)
        built.append(weakref.ref(model))
        return model

    gc.disable()
    try:
        origins(nn.Sequential(nn.Linear(4, 4)), build)
    finally:
        gc.enable()
    assert built[0]() is None


def test_a_pasted_rule_writes_all_that_was_put_in():
    rule = dict(path='layers.*', init_cfg=dict(type='Constant', val=0.5))
    [finding] = [
        found
        for found in plan_init(Formula(), [rule], build=Formula).findings
        if found.code == 'put-in'
    ]
    pasted = eval(finding.message.partition('writes them: ')[2])
    report = init_modules(Formula(), [rule, pasted], build=Formula)
    assert len(pasted['path']) == 6
    assert report.origins()['rule'] == 12


def test_a_pasted_rule_names_a_bare_parameter_and_nothing_around_it():
    rule = dict(path='gate', init_cfg=dict(type='Constant', val=0.5))
    model = nn.Sequential(Formula())
    plan = plan_init(
        model,
        [dict(rule, path='0.gate')],
        build=lambda: nn.Sequential(Formula()),
    )
    [finding] = [found for found in plan.findings if found.code == 'put-in']
    assert "dict(path=['0.gate']," in finding.message


def test_what_code_put_in_is_not_said_to_be_loaded():
    rule = dict(path='layers', init_cfg=dict(type='Constant', val=0.5))
    plan = plan_init(Formula(), [rule], build=Formula)
    messages = {found.code: found.message for found in plan.findings}
    assert 'all that it names was loaded or put in' in messages['nothing-new']
    assert 'kept' not in messages


def test_one_row_that_was_drawn_is_found_in_what_was_loaded(tmp_path):
    """One class more than in the file: few values of it would be looked at."""
    torch.save(nn.Linear(64, 80).state_dict(), tmp_path / 'x.pth')

    def build():
        model = nn.Linear(64, 81)
        state = torch.load(tmp_path / 'x.pth')
        for name, value in model.state_dict().items():
            state[name] = torch.cat([state[name], value[80:]])
        model.load_state_dict(state)
        return model

    found = origins(build(), build)
    assert found.drawn == {'weight': 64, 'bias': 1}
    assert found.code == {'weight', 'bias'}


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_numbers_of_half_precision_coincide(dtype):
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.rand(300, generator=generator).mul(2).sub(1).to(dtype)

    assert all(drawn_elements(draw(), draw()) == 300 for _ in range(1000))


@pytest.mark.parametrize(
    'shape', [(300_000,), (512, 512), (512, 64, 3, 3), (2, 100_000)]
)
def test_parts_of_large_tensors_are_found(shape):
    drawn, other = torch.randn(shape), torch.randn(shape)
    assert drawn_elements(drawn, other) == drawn.numel()
    assert drawn_elements(drawn, drawn.clone()) == 0
    share = other.clone()
    some = torch.rand(shape) < 3e-3
    share[some] = drawn[some]
    assert drawn_elements(drawn, share) == int((~some).sum())
    if len(shape) > 1:
        rows = other.clone()
        rows[:, -1] = drawn[:, -1]
        rest = drawn.numel() - drawn[:, -1].numel()
        if shape[0] > 2:
            assert drawn_elements(drawn, rows) == rest


def test_numbers_of_eight_bits_can_be_looked_at():
    kind = getattr(torch, 'float8_e4m3fn', None)
    if kind is None:
        pytest.skip('torch has none')
    drawn, other = (torch.randn(600, 600).to(kind) for _ in range(2))
    assert drawn_elements(drawn, other) == drawn.numel()
    assert drawn_elements(drawn, drawn.clone()) == 0


@pytest.mark.parametrize(
    'cfg, names',
    [
        (dict(load_from='x.pth'), True),
        (dict(model=dict(init_cfg=dict(type='Pretrained'))), False),
        (dict(model=dict(type='PretrainedLike', checkpoint=None)), False),
        (
            dict(
                model=[dict(init_cfg=[dict(type='Pretrained', checkpoint=1)])]
            ),
            True,
        ),
    ],
)
def test_which_configs_name_a_file_of_weights(cfg, names):
    assert names_checkpoint(cfg) is names
