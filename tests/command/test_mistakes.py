"""Configs with one mistake each: what `plan` says, and that a start agrees."""

import json
import re
import shutil
import uuid

import mistakes
import mistakes_started
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toy import pretrained, runner_cfg

TABLE = {
    f'{kind.lower()}-{name}': mistake
    for where, kinds in (
        (mistakes, ('HOOKS', 'RULES', 'PATHS')),
        (mistakes_started, ('INITIALIZERS', 'FILES')),
    )
    for kind in kinds
    for name, mistake in getattr(where, kind).items()
}
RIGHT = mistakes_started.RIGHT
FUNCTIONS = """\
import torch
import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from toy import ToyModel

NUMBER = 3
MADE = []


@MODELS.register_module(force=True)
class KnownModel(ToyModel):
    def __init__(self):
        super().__init__()
        MADE.append(self)


@HOOKS.register_module(force=True)
class AddsToCheckpoint(Hook):
    def after_load_checkpoint(self, runner, checkpoint):
        state = checkpoint['state_dict']
        for name, value in runner.model.state_dict().items():
            if '.se.' in name:
                state[name] = torch.full_like(value, 0.5)


@HOOKS.register_module(force=True)
class RefusesCheckpoint(Hook):
    def after_load_checkpoint(self, runner, checkpoint):
        raise RuntimeError('not this one')


@HOOKS.register_module(force=True)
class AsksForData(Hook):
    def after_load_checkpoint(self, runner, checkpoint):
        assert len(runner.train_dataloader)


def zero(module):
    for parameter in module.parameters(recurse=False):
        nn.init.zeros_(parameter)


def fail(module):
    raise RuntimeError('no such luck')


def nothing(module):
    pass


def outside(module):
    for model in MADE:
        nn.init.zeros_(model.head.bias)
    zero(module)


def replace(module):
    if isinstance(module, nn.Linear):
        module.weight = nn.Parameter(module.weight * 0)
"""
LATE = """\
from mmengine.registry import MODELS
from toy import ToyModel


@MODELS.register_module(force=True)
class LateModel(ToyModel):
    pass
"""


class StartedError(Exception):
    """The first iteration was reached."""


class Stop(Hook):
    priority = 'LOWEST'

    def before_train_iter(self, runner, *args, **others):
        raise StartedError


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A folder with what the configs name."""
    folder = tmp_path_factory.mktemp('files')
    state = pretrained(folder / 'weights.pth')
    torch.save({'weight': torch.ones(5, 9)}, folder / 'other.pth')
    torch.save(state, folder / 'bare.pth')
    (folder / 'text.pth').write_text('no weights\n')
    meta = dict(epoch=1, iter=2, experiment_name='x')
    hub = dict.fromkeys(('log_scalars', 'runtime_info', 'resumed_keys'), {})
    torch.save(
        dict(state_dict=state, meta=meta, message_hub=hub),
        folder / 'epoch_1.pth',
    )
    (folder / 'functions.py').write_text(FUNCTIONS)
    (folder / 'late.py').write_text(LATE)
    cfg = runner_cfg(
        folder / 'work', load_from='weights.pth', log_level='ERROR'
    )
    del cfg['custom_hooks'], cfg['experiment_name']
    lines = [f'{key} = {value!r}\n' for key, value in cfg.items()]
    (folder / 'whole.py').write_text(mistakes.IMPORTS + ''.join(lines))
    return folder


@pytest.fixture
def folder(files, tmp_path, monkeypatch):
    """A copy of it, to be in."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write(folder, text, base=None):
    whole = (folder / 'whole.py').read_text()
    if base is None:
        text = whole + text
    else:
        (folder / 'base.py').write_text(whole + base)
        text = "_base_ = ['base.py']\n" + text
    (folder / 'config.py').write_text(text)


def start(folder):
    """What a start ends with: an error's text, or nothing."""
    try:
        cfg = Config.fromfile('config.py')
        cfg.work_dir = str(folder / 'work')
        cfg.experiment_name = f'run_{uuid.uuid4().hex}'
        runner = Runner.from_cfg(cfg)
        runner.register_hook(Stop())
        runner.train()
    except StartedError:
        return ''
    except BaseException as error:
        return ' '.join(f'{type(error).__name__} {error}'.split())
    raise AssertionError('it did not train')


def planned(command, folder):
    done = command('plan', 'config.py', '--json', 'plan.json', cwd=folder)
    text = done.stdout + done.stderr
    assert 'Traceback' not in text
    if (folder / 'plan.json').exists():
        findings = json.loads((folder / 'plan.json').read_text())['findings']
        text = '\n'.join(
            f'{f["level"]} [{f["code"]}] {f["message"]}' for f in findings
        )
    return done.returncode, ' '.join(text.split())


@pytest.mark.parametrize('name', TABLE)
def test_a_mistake_is_said_and_the_start_agrees(name, folder, command):
    mistake = TABLE[name]
    write(folder, mistake.text, mistake.base)
    status, said = planned(command, folder)
    ends = start(folder)
    assert re.search(mistake.said, said), said
    assert status == mistake.status, said
    assert bool(ends) == bool(status), ends or said
    cause = mistake.said if mistake.start is None else mistake.start
    assert re.search(cause, ends), ends


@pytest.mark.parametrize('name', RIGHT)
def test_what_is_right_passes_and_starts(name, folder, command):
    write(folder, RIGHT[name])
    status, said = planned(command, folder)
    assert status == 0, said
    assert 'error [' not in said
    assert start(folder) == ''


def test_what_a_hook_adds_to_the_checkpoint_is_seen(folder, command):
    write(folder, mistakes.ADDS + mistakes.rule() + 'custom_hooks += others')
    planned(command, folder)
    assert start(folder) == ''
    told = [
        json.loads(path.read_text())
        for path in (folder / 'plan.json', *folder.glob('work/*/*.json'))
        if path.name in ('plan.json', 'init_report.json')
    ]
    plan, report = (
        {tensor['name']: tensor['origin'] for tensor in one['tensors']}
        for one in told
    )
    assert plan == report
    assert {plan[name] for name in plan if '.se.' in name} == {'file'}


def test_a_hook_that_needs_a_run_is_left_out(folder, command):
    text = mistakes.ADDS.replace('AddsToCheckpoint', 'AsksForData')
    write(folder, text + mistakes.rule() + 'custom_hooks += others')
    status, said = planned(command, folder)
    assert 'warning [not-called] AsksForData.after_load_checkpoint' in said
    assert (status, start(folder)) == (0, '')


def test_the_table_is_long():
    assert len(TABLE) >= 60
    assert len(RIGHT) >= 10
