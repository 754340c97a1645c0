"""`mmpartinit plan` on real config files, some of it as a process."""

import copy
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn as nn
from as_process import TOY, run, said
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from stacks import since_torch
from toy import SE_ZERO, ToyModel, build_runner, pretrained, report_of
from work import Work

from mmpartinit import InitReport
from mmpartinit.command.look import look, read_config
from mmpartinit.command.planning import plan_config
from mmpartinit.command.reading import Nothing, weights_only

ROOT = Path(__file__).parents[2]
GCNET = 'mmdet::gcnet/mask-rcnn_r50-syncbn-gcb-r16-c3-c5_fpn_1x_coco.py'
NORMAL = dict(
    path='backbone.**.se', init_cfg=dict(type='Normal', layer='Linear')
)
OVER = dict(
    path='backbone.layer2.0',
    init_cfg=dict(type='Xavier', layer='Linear'),
    overwrite=True,
)
COPY = dict(path='backbone.layer1.1', copy_from='backbone.layer1.0')


def hook(*modules, **others):
    return dict(type='CustomModuleInitHook', modules=list(modules), **others)


def values(tensor):
    """What a record of a tensor says, but for the name of the file, and for
    what nothing but the model's own code drew, and for what an optimizer
    has to say of it.
    """
    built = dict(mean=None, std=None) if tensor.origin == 'built' else {}
    return replace(tensor, file=None, trains=None, **built)


@pytest.fixture
def toy(tmp_path):
    """A folder with weights, and a function that writes a config into it."""
    pretrained(tmp_path / 'weights.pth')

    def write(*hooks, name='config.py', text=''):
        (tmp_path / name).write_text(f'{TOY}custom_hooks = {hooks}\n{text}')
        return tmp_path

    return write


def test_the_plan_is_what_training_does(toy, work_dir):
    modules = [NORMAL, SE_ZERO, OVER, COPY]
    folder = toy(hook(*modules), text='randomness = dict(seed=3)\n')
    before = sorted(folder.iterdir())
    done = run('plan', 'config.py', '--json', 'plan.json', cwd=folder)
    assert done.returncode == 0, done.stderr
    # Nothing else is written: no work_dir, no log.
    made = {path.name for path in set(folder.iterdir()) - set(before)}
    assert made == {'plan.json'}

    runner = build_runner(
        work_dir,
        custom_hooks=[hook(*modules)],
        load_from=str(folder / 'weights.pth'),
    )
    runner.train()
    report = report_of(runner)
    plan = InitReport.load(str(folder / 'plan.json'))
    assert plan.rules == report.rules
    assert [rule.wrote != [] for rule in plan.rules] == [True] * 4
    # What was written and kept, with the values that were drawn.
    assert plan.seed == report.seed == 3
    assert [values(t) for t in plan.tensors] == [
        values(t) for t in report.tensors
    ]
    assert [f.code for f in plan.findings] == [f.code for f in report.findings]
    for rule in plan.rules:
        (row,) = [
            line
            for line in done.stdout.splitlines()
            if line.split()[:2] == [str(rule.index), rule.path[0]]
        ]
        counts = [len(rule.matched), len(rule.wrote), len(rule.kept)]
        assert row.split()[-3:] == list(map(str, counts))
    assert 'warning [uncovered]' in done.stdout
    assert 'neck.adapter' in done.stdout
    assert plan.summary() in done.stdout


def test_the_plan_says_what_would_be_frozen(toy, command):
    folder = toy(
        hook(NORMAL, SE_ZERO, freeze='loaded'), hook(freeze='neck.adapter')
    )
    words = ('plan', 'config.py', '--json', 'plan.json')
    done = command(*words, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Trains: at most 25 of 49 tensors, 376 of 837 par' in done.stdout
    plan = InitReport.load(str(folder / 'plan.json'))
    still = {t.name for t in plan.tensors if t.trains is False}
    assert len(still) == 24 and 'head.bias' in still
    # Nothing is known to be loaded; what paths name is frozen all the same.
    done = command(*words, '--no-weights', cwd=folder)
    assert done.returncode == 0 and 'Trains' not in done.stdout
    wrong = toy(hook(NORMAL, freeze='backbone.layer3'), hook(freeze='**'))
    done = command(*words, cwd=wrong)
    assert done.returncode == 1
    assert '`freeze`: no module and no parameter matches' in done.stdout


def test_all_errors_of_all_rules_and_hooks_come_at_once(toy, command):
    typo = dict(SE_ZERO, path='backbone.**.se.fc9')
    wrong = dict(NORMAL, init_cfg=dict(type='Normal', layer='Conv2d'))
    unknown = dict(NORMAL, init_cfg=dict(type='Nirmal', layer='Linear'))
    folder = toy(
        hook(SE_ZERO, typo, unknown), hook(wrong, dict(path='a..b'), seed='x')
    )
    done = command('plan', 'config.py', '--json', 'plan.json', cwd=folder)
    assert done.returncode == 1, done.stderr
    plan = json.loads((folder / 'plan.json').read_text())
    errors = [f['message'] for f in plan['findings'] if f['level'] == 'error']
    expected = [
        "rule 2 (path 'backbone.**.se'): init_cfg: no initializer",
        "rule 4 (path 'a..b'): a rule needs `init_cfg`",
        "rule 4 (path 'a..b'): 'a..b' has an empty segment",
        'the hook cannot be built: `seed` must be an int',
        "rule 1 (path 'backbone.**.se.fc9'): no module and no parameter",
        "rule 3 (path 'backbone.**.se'): init_cfg",
    ]
    assert len(errors) == len(expected)
    for error, start in zip(errors, expected):
        assert error.startswith(start)
    assert done.stdout.count('error [') == len(expected)
    # What is right is planned all the same.
    assert [rule['index'] for rule in plan['rules']] == [0, 1, 3]
    assert len(plan['rules'][0]['wrote']) == 8
    assert 'several-hooks' in [f['code'] for f in plan['findings']]


BROKEN = [
    (['none.py'], "there is no config file 'none.py'"),
    (['syntax.py'], 'the config syntax.py cannot be read'),
    (['base.py'], 'has no `model`'),
    (['mmseg::a/x.py'], 'mmsegmentation is not installed'),
    (['config.py', 'load_from=x.pth'], 'x.pth can not be found'),
    (
        [
            'config.py',
            'model.backbone.init_cfg.type=Pretrained',
            'model.backbone.init_cfg.checkpoint=y.pth',
        ],
        'y.pth can not be found',
    ),
    (['config.py', 'model.type=Tyo'], 'Tyo is not in the'),
    (['import.py'], "No module named 'no_such_package'"),
    (['config.py', 'load_from'], 'write KEY=VALUE'),
]


@pytest.mark.parametrize('words, sentence', BROKEN)
def test_a_plan_that_cannot_be_made_is_one_sentence(
    toy, command, words, sentence
):
    folder = toy()
    (folder / 'syntax.py').write_text('model = dict(\n')
    (folder / 'base.py').write_text('seed = 1\n')
    (folder / 'import.py').write_text(
        TOY.replace("'toy'", "'no_such_package'")
    )
    options = ['--cfg-options', *words[1:]] if words[1:] else []
    done = command('plan', words[0], *options, cwd=folder)
    assert sentence in said(done)


@pytest.mark.needs_mmdet
def test_where_pkg_resources_is_gone_the_way_out_is_said(
    toy, command, monkeypatch
):
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    done = command('plan', 'mmdet::a/x.py', cwd=toy())
    assert "pip install 'setuptools<81'" in said(done)


def test_hooks_with_different_seeds(toy):
    folder = toy(hook(SE_ZERO, seed=1), hook(NORMAL, seed=2))
    report = plan_config(
        look(
            read_config(
                str(folder / 'config.py'),
                dict(load_from=str(folder / 'weights.pth')),
            )
        )
    )
    (error,) = [f for f in report.findings if f.level == 'error']
    assert 'must have the same `seed`, not 1, 2' in error.message


def test_verbose_shows_the_traceback(toy):
    options = ['--cfg-options', 'load_from=x.pth', '--verbose']
    done = run('plan', 'config.py', *options, cwd=toy())
    assert done.returncode == 2
    assert 'Traceback' in done.stderr
    (line,) = [s for s in done.stderr.splitlines() if 'x.pth' in s][-1:]
    assert line == done.stderr.strip().splitlines()[-1]
    assert line.startswith('mmpartinit.command.look.LookError: cannot load')


def test_no_weights_reads_nothing_and_needs_none(toy, command):
    other = dict(
        path='neck', init_cfg=dict(type='Pretrained', checkpoint='away.pth')
    )
    folder = toy(hook(SE_ZERO, other), text='resume = True\n')
    (folder / 'weights.pth').unlink()
    done = command(
        *['plan', 'config.py', '--no-weights', '--json', 'plan.json'],
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    plan = InitReport.load(str(folder / 'plan.json'))
    assert plan.origins() == dict(
        file=0, code=0, rule=12, built=len(ToyModel().state_dict()) - 12
    )
    codes = [finding.code for finding in plan.findings]
    assert codes == ['no-weights', 'resume']
    with_weights = command('plan', 'config.py', cwd=folder)
    assert 'weights.pth can not be found' in said(with_weights)


class Intruder:
    """Code in a checkpoint, which `weights_only` does not run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


@pytest.mark.parametrize('way', ['load_from', 'Pretrained'])
def test_checkpoints_are_read_without_running_them(
    toy, command, monkeypatch, way
):
    folder = toy()
    state = dict(torch.load(folder / 'weights.pth'), x=Intruder('intruder'))
    torch.save(state, folder / 'bad.pth')
    assert pickle.loads(pickle.dumps(Intruder(str(folder / 'test')))).name
    options = ['load_from=bad.pth']
    if way == 'Pretrained':
        options = [
            'load_from=None',
            'model.init_cfg.type=Pretrained',
            'model.init_cfg.checkpoint=bad.pth',
        ]
    # Also where the user has told torch to trust all files.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    words = ['plan', 'config.py', '--cfg-options', *options]
    done = command(*words, cwd=folder)
    assert 'holds more than tensors' in said(done)
    assert not (folder / 'intruder').exists()


class Getter:
    """A call of `getattr`, which onedl-mmengine would let happen."""

    def __reduce__(self):
        return getattr, (np.ndarray, 'sum')


@since_torch('2.6')
def test_no_function_that_a_checkpoint_names_is_called(tmp_path):
    path = str(tmp_path / 'calls.pth')
    torch.save(dict(state_dict={}, x=Getter()), path)
    assert torch.load(path, weights_only=False)['x'] is np.ndarray.sum
    with weights_only():
        read = load_checkpoint(nn.Module(), path)
    assert type(read['x']) is Nothing


@since_torch('2.6')  # before, weights_only allows nothing more
def test_checkpoints_of_mmengine_itself_can_be_read(
    toy, command, monkeypatch, work_dir
):
    folder = toy(hook(SE_ZERO))
    runner = build_runner(
        work_dir,
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
    )
    runner.train()
    checkpoint = work_dir / 'epoch_2.pth'
    full = torch.load(checkpoint, weights_only=False)
    assert 'train/loss' in full['message_hub']['log_scalars']
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    options = ['--cfg-options', f'load_from={checkpoint}']
    done = command('plan', 'config.py', *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    count = len(full['state_dict'])
    assert f'{count} from files, 0 put in by code, 0 from rules' in done.stdout
    assert 'warning [nothing-new]' in done.stdout


@pytest.mark.needs_mmdet
@pytest.mark.parametrize(
    'name',
    [
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
        ROOT / 'configs' / 'retinanet_r50-se_fpn_coco_pure.py',
        ROOT / 'configs' / 'faster-rcnn_r50_fpn_gcb_coco.py',
    ],
    ids=['packaged', 'pure', 'classic'],
)
def test_configs_of_every_kind(name, tmp_path):
    done = run(
        *['plan', name, '--no-weights', '--json', 'plan.json'], cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    plan = InitReport.load(str(tmp_path / 'plan.json'))
    codes = [finding.code for finding in plan.findings]
    if 'mmdet::' in str(name):
        assert codes == ['no-hook', 'no-weights']
    else:
        assert [len(rule.matched) for rule in plan.rules] == [
            len(plan.rules[0].matched)
        ] * 2
        assert len(plan.rules[0].matched) in (13, 16)


@MODELS.register_module()
class Preprocessing(BaseModel):
    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.linear = nn.Linear(2, 2)

    def forward(self, inputs):
        return self.linear(inputs)


def test_the_model_is_built_as_runner_builds_it():
    cfg = Config(
        dict(
            model=dict(type='Preprocessing'),
            data_preprocessor=dict(
                type='ImgDataPreprocessor', mean=[1, 2, 3], std=[1, 1, 1]
            ),
        )
    )
    before = copy.deepcopy(cfg.to_dict())
    model = look(cfg).model
    assert model.data_preprocessor.mean.flatten().tolist() == [1, 2, 3]
    assert cfg.to_dict() == before


@pytest.mark.needs_mmdet
def test_planning_a_detector_takes_little_more_than_building_it(tmp_path):
    """It is built twice; to compare both takes little beside."""
    from mmdet.models import ResNet

    torch.save(ResNet(50).state_dict(), tmp_path / 'r50.pth')
    options = {
        'model.backbone.init_cfg.checkpoint': str(tmp_path / 'r50.pth'),
        'custom_hooks': [
            hook(
                dict(
                    path='backbone.**.context_block',
                    init_cfg=dict(type='Kaiming', layer='Conv2d'),
                )
            )
        ],
    }
    name = str(tmp_path / 'config.py')
    Path(name).write_text(f'_base_ = {GCNET!r}\n')

    def build():
        cfg = Config.fromfile(name)
        cfg.merge_from_dict(options)
        init_default_scope('mmdet')
        MODELS.build(cfg.model).init_weights()

    def plan():
        report = plan_config(look(read_config(name, options)))
        assert report.text().count('backbone.**.context_block') == 1
        return report

    MMLogger.get_instance('quiet', log_level='ERROR')
    build()
    assert len(plan().rules[0].matched) == 13
    with Work() as building:
        build()
    with Work() as planning:
        plan()
    assert 1000 < 2 * building.operators < planning.operators
    assert planning.operators < 4 * building.operators
    assert 10_000 < building.calls < planning.calls < 3.5 * building.calls
