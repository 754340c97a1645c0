"""What of a config's base files is lost, what it imports, what it resumes."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from as_process import TOY, run
from mmengine.config import Config
from toy import SE_ZERO, ToyModel, build_runner, pretrained

from mmpartinit.command.bases import replaced
from mmpartinit.command.hooks import _is_imported
from mmpartinit.command.look import look, read_config
from mmpartinit.command.planning import plan_config

OURS = "dict(type='CustomModuleInitHook', modules=[])"
BASE = """\
custom_imports = dict(imports=['json', 'toy'])
custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='Witness')]
"""


def inherited(folder, text, base=BASE):
    """A config of a file that has a base file."""
    (folder / 'base.py').write_text(base)
    (folder / 'config.py').write_text(f"_base_ = './base.py'\n{text}")
    return Config.fromfile(str(folder / 'config.py'))


def test_hooks_that_a_list_replaces_are_named(tmp_path):
    cfg = inherited(tmp_path, f'custom_hooks = [{OURS}]\n')
    (found,) = replaced(cfg)
    assert (found.level, found.code) == ('warning', 'replaced-hooks')
    assert 'EMAHook, Witness will not run' in found.message
    # What it says keeps them.
    kept = found.message.partition('to keep them: ')[2].replace('...', OURS)
    assert replaced(inherited(tmp_path, kept)) == []
    assert [h.type for h in cfg.custom_hooks] == ['CustomModuleInitHook']


@pytest.mark.needs_mmdet
def test_hooks_of_a_base_in_a_package_are_named(tmp_path):
    file = tmp_path / 'config.py'
    base = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
    file.write_text(f'_base_ = {base!r}\ncustom_hooks = [{OURS}]\n')
    (found,) = replaced(Config.fromfile(file))
    assert 'so that EMAHook, PipelineSwitchHook will not run' in found.message


def test_hooks_that_are_left_out_one_by_one(tmp_path):
    text = f"custom_hooks = [dict(type='Witness'), {OURS}]\n"
    (found,) = replaced(inherited(tmp_path, text))
    assert 'that EMAHook will not run' in found.message


def test_imports_that_are_replaced_are_named(tmp_path):
    text = "custom_imports = dict(imports=['mmpartinit'])\n"
    (found,) = replaced(inherited(tmp_path, text))
    assert (found.level, found.code) == ('warning', 'replaced-imports')
    assert 'json, toy will not be imported' in found.message
    kept = found.message.partition('to keep them: ')[2]
    cfg = inherited(tmp_path, kept)
    assert cfg.custom_imports.imports == ['json', 'toy', 'mmpartinit']
    assert replaced(cfg) == []


@pytest.mark.parametrize(
    'text',
    [
        '',
        "model = dict(type='ToyModel')\n",
        "custom_hooks = [*_base_.custom_hooks, dict(type='IterTimerHook')]\n",
    ],
)
def test_nothing_is_said_where_nothing_is_lost(tmp_path, text):
    assert replaced(inherited(tmp_path, text)) == []


def test_nothing_is_said_of_configs_without_base_files(tmp_path):
    file = tmp_path / 'config.py'
    file.write_text(f'custom_hooks = [{OURS}]\n')
    assert replaced(Config.fromfile(str(file))) == []
    assert replaced(Config(dict(custom_hooks=[]))) == []


def test_nothing_is_said_of_pure_python_configs(tmp_path):
    (tmp_path / 'base.py').write_text(
        'from mmengine.hooks import EMAHook\n'
        'custom_hooks = [dict(type=EMAHook)]\n'
    )
    (tmp_path / 'config.py').write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n    from .base import *\n'
        'custom_hooks = []\n'
    )
    cfg = Config.fromfile(str(tmp_path / 'config.py'))
    assert cfg.custom_hooks == []
    assert replaced(cfg) == []


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Modules of a user's own, of which some lead to the package."""
    name = f'own_{uuid.uuid4().hex}'
    files = dict(
        near='from mmpartinit import CustomModuleInitHook\n',
        whole='import mmpartinit\n',
        far=f'from {name}_near import CustomModuleInitHook as hook\n',
        further=f'import {name}_far\n',
        none='import json\n',
    )
    for key, text in files.items():
        (tmp_path / f'{name}_{key}.py').write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for key in files:
        sys.modules.pop(f'{name}_{key}', None)


@pytest.mark.parametrize(
    'key, is_imported',
    [
        ('near', True),
        ('whole', True),
        ('far', True),
        ('further', True),
        ('none', False),
    ],
)
def test_whether_a_config_imports_the_package(modules, key, is_imported):
    name = f'{modules}_{key}'
    text = f'custom_imports = dict(imports=[{name!r}])\n'
    cfg = Config.fromstring(text, '.py')
    assert _is_imported(cfg) == is_imported


def test_a_config_that_imports_the_package_itself():
    for imports in ('mmpartinit', ['mmpartinit'], ['json', 'mmpartinit.hook']):
        assert _is_imported(Config(dict(custom_imports=dict(imports=imports))))
    for custom in ({}, dict(imports=[]), dict(imports=['json'])):
        assert not _is_imported(Config(dict(custom_imports=custom)))
    assert not _is_imported(Config(dict(model=dict(type='ToyModel'))))


PLAIN = """\
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn


@MODELS.register_module()
class Plain(BaseModel):
    def __init__(self):
        super().__init__()
        self.new = nn.Linear(2, 2)

    def forward(self, inputs):
        return self.new(inputs)
"""
START = """\
from mmengine.config import Config
from mmengine.runner import Runner
Runner.from_cfg(Config.fromfile('{}'))
"""
RULE = "[dict(path='new', init_cfg=dict(type='Constant', val=0.0))]"


def test_what_is_not_imported_is_an_error_and_a_start_fails(tmp_path, command):
    """The start in a process of its own, in which nothing else imports it."""
    (tmp_path / 'plain.py').write_text(PLAIN)
    text = (
        "custom_imports = dict(imports=['plain'])\n"
        "model = dict(type='Plain')\nwork_dir = 'work'\n"
        f"custom_hooks = [dict(type='CustomModuleInitHook', modules={RULE})]\n"
    )
    (tmp_path / 'without.py').write_text(text)
    done = run('plan', 'without.py', cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    (line,) = [
        part
        for part in ' '.join(done.stdout.split()).split('error ')
        if part.startswith('[not-imported]')
    ]
    remedy = line.partition('custom_imports = ')[2].partition(')')[0] + ')'
    (tmp_path / 'with.py').write_text(f'{text}custom_imports = {remedy}\n')
    done = run('plan', 'with.py', cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    for name, words in (
        ('without.py', 'CustomModuleInitHook is not in the'),
        ('with.py', ''),
    ):
        done = started(START.format(name), tmp_path)
        assert words in done.stderr
        assert bool(done.returncode) == bool(words), done.stderr


def started(code, folder):
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(folder)])
    return subprocess.run(
        [sys.executable, '-c', code],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
    )


# --- resuming

HUB = dict.fromkeys(('log_scalars', 'runtime_info', 'resumed_keys'), {})


def checkpoint(file, state, iteration=2):
    meta = dict(epoch=1, iter=iteration, experiment_name='x')
    saved = dict(state_dict=state, meta=meta, message_hub=HUB)
    torch.save(saved, str(file))


def planned(folder, text):
    """Findings of the plan of a config that resumes."""
    hooks = [dict(type='CustomModuleInitHook', modules=[SE_ZERO])]
    text = TOY.replace('load_from', '# load_from') + text
    (folder / 'config.py').write_text(f'{text}custom_hooks = {hooks}\n')
    report = plan_config(look(read_config(str(folder / 'config.py'))))
    assert [f for f in report.findings if f.level == 'error'] == []
    return {finding.code: finding for finding in report.findings}


@pytest.mark.parametrize('where', ['load_from', 'work_dir'])
@pytest.mark.parametrize('is_whole', [True, False])
def test_a_resume_is_foretold(tmp_path, where, is_whole):
    state = pretrained(tmp_path / 'weights.pth')
    if is_whole:
        state = ToyModel().state_dict()
    work = tmp_path / 'work'
    work.mkdir()
    file = work / 'epoch_1.pth'
    checkpoint(file, state)
    text = f'resume = True\nwork_dir = {str(work)!r}\n'
    if where == 'load_from':
        text = f'resume = True\nload_from = {str(file)!r}\n'
    else:
        (work / 'last_checkpoint').write_text(str(file))
    found = planned(tmp_path, text)
    assert str(file) in found['resume'].message
    assert 'at iteration 2' in found['resume'].message
    assert ('not-resumed' in found) == (not is_whole)
    if not is_whole:
        warning = found['not-resumed']
        assert (warning.level, warning.rule) == ('warning', 0)
        assert len(warning.names) == 8
        assert all('.se.fc2.' in name for name in warning.names)
        assert 'start anew with load_from' in warning.message


def test_a_resume_that_finds_nothing_is_a_fresh_start(tmp_path):
    work = str(tmp_path / 'work')
    found = planned(tmp_path, f'resume = True\nwork_dir = {work!r}\n')
    assert 'a run that finds a checkpoint' in found['resume'].message
    assert 'not-resumed' not in found


def test_a_resume_at_iteration_0_is_a_fresh_start(tmp_path):
    state = pretrained(tmp_path / 'weights.pth')
    file = str(tmp_path / 'iter_0.pth')
    checkpoint(file, state, 0)
    found = planned(tmp_path, f'resume = True\nload_from = {file!r}\n')
    assert 'not-resumed' not in found


@pytest.mark.parametrize('is_whole', [True, False])
def test_a_real_resume_logs_what_is_not_resumed(tmp_path, work_dir, is_whole):
    state = pretrained(tmp_path / 'weights.pth')
    if is_whole:
        state = ToyModel().state_dict()
    checkpoint(tmp_path / 'epoch_1.pth', state)
    runner = build_runner(
        work_dir, load_from=str(tmp_path / 'epoch_1.pth'), resume=True
    )
    runner.train()
    (log,) = work_dir.glob('*/*.log')
    assert ('[not-resumed] rule 0' in log.read_text()) == (not is_whole)
