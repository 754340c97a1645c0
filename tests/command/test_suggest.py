"""`mmpartinit suggest`: what it prints, pasted into the config, does it."""

import ast
import random
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from as_process import TOY, run, said
from mmengine.config import Config
from mmengine.model import BaseModel, BaseModule
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from suggestions import findings, replanned, suggested, words
from toy import (
    SE_ZERO,
    ToyModel,
    pretrained,
    report_of,
    runner_cfg,
    same,
    snapshot,
)

from mmpartinit import init_modules, plan_init
from mmpartinit.command import trying
from mmpartinit.command.generalize import skeleton
from mmpartinit.command.look import Look, look, read_config
from mmpartinit.command.paste import as_code, suggest
from mmpartinit.command.trying import Values
from mmpartinit.model.origins import Origins
from mmpartinit.model.second import Source
from mmpartinit.model.whole import WholeModel

CONFIGS = Path(__file__).parents[2] / 'configs'
ADAPTERS = [
    'backbone.stages.*.blocks.*.ffn.adapter',
    'backbone.stages.*.blocks.*.ffn.adapter.up',
]


def test_suggest_paste_plan_train(tmp_path, work_dir, command):
    state = pretrained(tmp_path / 'weights.pth')
    config = tmp_path / 'config.py'
    config.write_text(TOY)
    done = run('suggest', 'config.py', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ast.parse(done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= 79
    assert "imports=['toy', 'mmpartinit']" in done.stdout
    assert suggested(done.stdout) == [
        dict(
            path='backbone.layer*.*.se',
            init_cfg=[
                dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
                dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
            ],
        ),
        dict(
            path='backbone.layer*.*.se.fc2',
            init_cfg=dict(type='Constant', val=0.0, bias=4.0),
        ),
        # Nothing was loaded there, but into the whole model.
        dict(path='neck.adapter', init_cfg=dict(type='InitWeights')),
        dict(path='neck.adapter.up', init_cfg=dict(type='Constant', val=0.0)),
    ]
    said = ' '.join(done.stdout.replace('#', '').split())
    # Each says what was seen; what its code starts at 1 is left as it is.
    assert 'Its gate starts open. Tried: later parts change by 1.8 %' in said
    assert 'all 4 parameters learn' in said
    assert 'Parameter of shape (8,). Kept as its own code starts it.' in said

    config.write_text(TOY + done.stdout)
    plan = command('plan', 'config.py', cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    assert 'warning' not in plan.stdout and 'error' not in plan.stdout
    again = command('suggest', 'config.py', cwd=tmp_path)
    assert again.stdout.startswith('# Nothing to suggest')

    cfg = Config.fromfile(str(config))
    cfg.merge_from_dict(
        {
            key: value
            for key, value in runner_cfg(work_dir).items()
            if key not in ('model', 'custom_hooks')
        }
    )
    cfg.load_from = str(tmp_path / 'weights.pth')
    runner = Runner.from_cfg(cfg)
    runner.train()
    report = report_of(runner)
    assert not findings(report)
    origins = {
        t.name: t.origin for t in report.tensors if 'backbone' in t.name
    }
    assert origins.pop('backbone.gamma') == 'built'
    assert set(origins.values()) == {'file', 'rule'}
    assert {n for n, o in origins.items() if o == 'file'} == {
        name for name in state if name.startswith('backbone')
    }


def test_rules_for_what_the_rules_of_the_config_leave(tmp_path):
    pretrained(tmp_path / 'weights.pth')
    hook = dict(type='CustomModuleInitHook', modules=[SE_ZERO])
    config = tmp_path / 'config.py'
    text = TOY.replace('weights.pth', str(tmp_path / 'weights.pth'))
    config.write_text(f'{text}custom_hooks = [{hook}]\n')
    answer = suggest(look(read_config(str(config))))
    assert answer.startswith('# Add these rules to `modules` of the')
    assert [rule['path'] for rule in suggested(answer)] == [
        'backbone.layer*.*.se.norm',
        'backbone.layer*.*.se.fc1',
        'neck.adapter',
        'neck.adapter.up',
    ]
    hook['modules'] = [SE_ZERO, *suggested(answer)]
    plan = replanned(config, f'custom_hooks = [{hook}]')
    assert not findings(plan)


@pytest.mark.parametrize('form', ['[{}]', '{}', '[[{}]]'])
def test_other_hooks_of_the_config_are_kept(tmp_path, form):
    """Also where they are in no plain list, which a Runner wants."""
    pretrained(tmp_path / 'weights.pth')
    config = tmp_path / 'config.py'
    text = TOY.replace('weights.pth', str(tmp_path / 'weights.pth'))
    ema = dict(type='EMAHook', momentum=0.001, priority=49)
    config.write_text(f'{text}custom_hooks = {form.format(ema)}\n')
    names = {}
    exec(suggest(look(read_config(str(config)))), names)
    assert names['custom_hooks'][0] == ema
    assert len(names['custom_hooks']) == 2


def test_keys_for_another_learning_rate(tmp_path):
    """As MMEngine reads them, all that is new has it and nothing else."""
    pretrained(tmp_path / 'weights.pth')
    config = tmp_path / 'config.py'
    text = TOY.replace('weights.pth', str(tmp_path / 'weights.pth'))
    config.write_text(text)
    seen = look(read_config(str(config)))
    comment = suggest(seen).partition('# optim_wrapper')[2]
    names = {}
    exec(f'optim_wrapper{comment}'.replace('\n#', '\n'), names)
    cfg = names['optim_wrapper']
    assert len(cfg['paramwise_cfg']['custom_keys']) == 3
    cfg['optimizer'] = dict(type='SGD', lr=0.01)
    built = build_optim_wrapper(seen.whole.model, cfg)
    fast = {id(g['params'][0]) for g in built.param_groups if g['lr'] > 0.05}
    old = ToyModel(new=False).state_dict()
    for name, parameter in seen.whole.model.named_parameters():
        assert (id(parameter) in fast) is (name not in old), name


def test_a_config_that_loads_nothing_has_nothing_new(tmp_path, command):
    (tmp_path / 'config.py').write_text(TOY)
    options = ['--cfg-options', 'load_from=None']
    done = command('suggest', 'config.py', *options, cwd=tmp_path)
    assert done.returncode == 0
    assert 'the config loads no weights' in done.stdout
    missing = command('suggest', 'config.py', cwd=tmp_path)
    assert 'weights.pth can not be found' in said(missing)


class Mixer(nn.Module):
    """Layers and parameters of many kinds."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.position = nn.Parameter(torch.randn(4, 8))
        self.table = nn.Embedding(5, 8)
        self.conv = nn.Conv1d(8, 8, 1)
        self.norm = nn.BatchNorm1d(8)


class Knowing(BaseModule):
    def __init__(self):
        super().__init__(dict(type='Normal', layer='Linear', std=0.1))
        self.linear = nn.Linear(8, 8)


class Coded(nn.Module):
    """Knows in code how its classifiers start."""

    def __init__(self, classes):
        super().__init__()
        self.shared = nn.Linear(8, 8)
        self.classify = nn.ModuleList(nn.Linear(8, classes) for _ in range(3))

    def init_weights(self):
        for layer in self.classify:
            nn.init.constant_(layer.bias, -4.6)


class Configured(BaseModule):
    """Has an init_cfg that names its classifier."""

    def __init__(self, classes):
        super().__init__(
            dict(
                type='Normal',
                layer='Linear',
                std=0.3,
                override=dict(type='Xavier', name='classify', bias_prob=0.01),
            )
        )
        self.shared = nn.Linear(8, 8)
        self.classify = nn.Linear(8, classes)
        self.regress = nn.Linear(8, 4 * classes)


@MODELS.register_module()
class Zoo(BaseModel):
    def __init__(self, classes=5, new=True):
        super().__init__()
        self.body = nn.Module()
        self.body.stages = nn.ModuleList()
        if new:
            self.body.register_buffer('anchors', torch.ones(3))
        for stage in range(12):
            block = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
            if new and stage in (1, 3, 10):
                block.mixer = Mixer()
            if new and stage % 2:
                block.adapter = Knowing()
            self.body.stages.append(block)
        if new:
            self.body.extras = nn.ModuleList(Knowing() for _ in range(2))
        self.coded = Coded(classes)
        self.configured = Configured(classes)

    def forward(self, inputs):
        return inputs


@pytest.fixture
def zoo(tmp_path):
    torch.manual_seed(5)
    torch.save(Zoo(7, new=False).state_dict(), tmp_path / 'zoo.pth')
    config = tmp_path / 'config.py'
    config.write_text(
        f"model = dict(type='Zoo')\nload_from = '{tmp_path}/zoo.pth'\n"
    )
    return config


def test_modules_of_every_kind(zoo):
    text = suggest(look(read_config(str(zoo))))
    rules = {str(rule['path']): rule['init_cfg'] for rule in suggested(text)}
    own = dict(type='InitWeights')
    mixers = 'body.stages.*.mixer'
    small = dict(type='TruncNormal', std=0.02)
    assert rules == {
        mixers: [
            dict(type='Kaiming', layer='Conv1d', bias=0.0),
            dict(
                type='TruncNormal',
                layer=['Linear', 'Embedding'],
                std=0.02,
                bias=0.0,
            ),
            dict(type='Constant', layer='BatchNorm1d', val=1.0, bias=0.0),
        ],
        f'{mixers}.scale': dict(type='Constant', val=0.5),
        f'{mixers}.position': small,
        f'{mixers}.attn.in_proj_weight': small,
        f'{mixers}.attn.in_proj_bias': dict(type='Constant', val=0.0),
        'body.stages.*.adapter': own,
        'body.extras.*': own,
        'coded': own,
        'coded.classify.*.weight': small,
        'configured.classify': dict(type='Xavier', bias_prob=0.01),
        'configured.regress': dict(type='Normal', layer='Linear', std=0.3),
    }
    said = 'are new, and that no rule can write: body.anchors'
    assert said in text.replace('\n# ', ' ')
    plan = replanned(zoo, text)
    assert [f.names for f in findings(plan)] == [['body.anchors']]
    assert {f.code for f in plan.findings} <= {
        'uncovered',
        'kept',
        'rewritten',
        'shape',
        'not-written',
    }


def test_a_head_for_other_classes_starts_as_the_head_has_it(zoo):
    seen = look(read_config(str(zoo)))
    rules = suggested(suggest(seen))
    model, state = Zoo(), torch.load(zoo.parent / 'zoo.pth')
    fits = {k: v for k, v in state.items() if 'classify' not in k}
    fits = {k: v for k, v in fits.items() if 'regress' not in k}
    model.load_state_dict(fits, strict=False)
    init_modules(model, rules, loaded=set(fits))
    for layer in model.coded.classify:
        assert layer.bias.eq(-4.6).all()
    assert same(model.coded.shared.weight, state['coded.shared.weight'])
    # bias_prob=0.01, as focal loss wants it
    assert model.configured.classify.bias.sub(-4.595).abs().max() < 1e-3
    assert 0.2 < model.configured.regress.weight.std() < 0.4


@pytest.mark.needs_mmdet
@pytest.mark.parametrize(
    'name, checkpoint, paths',
    [
        (
            'retinanet_swin-t-adapter_fpn_coco',
            'backbone.',
            ADAPTERS,
        ),
        # Its blocks start their last layer at zero by themselves.
        ('faster-rcnn_r50_fpn_gcb_coco', '', []),
    ],
)
def test_detectors(name, checkpoint, paths, tmp_path):
    """Configs of ours, without their hook."""
    cfg = Config.fromfile(str(CONFIGS / f'{name}.py'))
    plain = dict(cfg.model.backbone, init_cfg=None)
    plain.pop('plugins', None)
    plain.pop('adapter_dims', None)
    with DefaultScope.overwrite_default_scope('mmdet'):
        plain['type'] = plain['type'].replace('WithAdapters', 'Transformer')
        state = MODELS.build(plain).state_dict()
    torch.save(
        {checkpoint + key: value for key, value in state.items()},
        tmp_path / 'backbone.pth',
    )
    cfg.custom_hooks = []
    if checkpoint:  # saved as mmdet names it
        cfg.model.backbone.convert_weights = False
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'backbone.pth')
    cfg.dump(str(tmp_path / 'config.py'))
    config = tmp_path / 'config.py'
    text = suggest(look(read_config(str(config))))
    if not paths:
        assert text.startswith('# Nothing to suggest')
        return
    assert [rule['path'] for rule in suggested(text)] == paths
    assert not findings(replanned(config, text))


def test_code_is_what_it_was_written_from():
    value = dict(
        a=[1, 2.5, 'x' * 60, None, True],
        b=dict(c=(1,), d={'not a name': 1, 'e': [dict(f='y' * 50)] * 2}),
    )
    text = as_code(value)
    assert ast.literal_eval(repr(eval(text))) == value
    assert max(map(len, text.splitlines())) <= 79
    assert as_code(nn.Linear) == "'torch.nn.modules.linear.Linear'"


def test_a_bias_that_was_drawn_is_not_said_to_stay():
    model = BaseModule()
    model.drawn, model.zero = nn.Linear(4, 4), nn.Linear(4, 4)
    nn.init.zeros_(model.zero.bias)
    files = dict.fromkeys(('drawn.weight', 'zero.weight'), Source())
    text = suggest(Look(Config(), WholeModel(model), Origins(files), []))
    assert [rule['path'] for rule in suggested(text)] == [
        'drawn.bias',
        'zero.bias',
    ]
    assert all(r['init_cfg']['val'] == 0 for r in suggested(text))
    drawn, zero = text.split('drawn.bias')
    assert 'it was built with' in zero and 'it was built with' not in drawn


class NormedLinear(nn.Linear):
    """As mmdet's, which is a linear layer by what it holds."""


def test_a_layer_that_norms_what_it_takes_is_no_norm():
    model = BaseModule()
    model.head = nn.Sequential(nn.Linear(4, 4), NormedLinear(4, 4))
    files = dict.fromkeys(('head.0.weight', 'head.0.bias'), Source())
    text = suggest(Look(Config(), WholeModel(model), Origins(files), []))
    start = dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0)
    assert suggested(text) == [dict(path='head.1', init_cfg=start)]


class Owner(BaseModule):
    """Says in code how a layer of it starts that has a name of its own."""

    def __init__(self, name, kind):
        super().__init__()
        self.old, self.kind = nn.Linear(4, 4), kind
        self.add_module(name, nn.Linear(4, 4))

    def init_weights(self):
        if self.kind == 'fails':
            raise OSError('no such file')
        for name, layer in self.named_children():
            if self.kind == 'writes' or (self.kind, name) == ('misses', 'old'):
                nn.init.zeros_(layer.weight)


def test_what_owners_write_is_found_out_together(monkeypatch):
    kinds = dict(ant='writes', bee='misses', cat='writes', dog='fails')
    kinds['elk'] = 'idle'
    model = BaseModule()
    for name, kind in kinds.items():
        model.add_module(f'of_{name}', Owner(name, kind))
    files = [name for name in model.state_dict() if '.old.' in name]
    origins = Origins(files=dict.fromkeys(files, Source()))
    seen = Look(Config(), WholeModel(model), origins, [])
    before, calls = snapshot(model), []

    def counted(*args, **kwargs):
        calls.append(args)
        return init_modules(*args, **kwargs)

    monkeypatch.setattr(trying, 'init_modules', counted)
    values = Values(seen, origins.kept)
    rules = [
        dict(path=f'of_{name}', init_cfg=dict(type='InitWeights'))
        for name in kinds
    ]
    assert values.written_by(rules) == [
        {'of_ant.ant.weight'},
        set(),
        {'of_cat.cat.weight'},
        set(),
        set(),
    ]
    assert len(calls) == 3  # less one that fails, less one that is idle
    assert all(same(v, before[k]) for k, v in model.state_dict().items())
    alone = [values.write([rule]) or set() for rule in rules]
    assert alone == values.written_by(rules)
    del calls[:]
    text = suggest(seen)
    own = [r for r in suggested(text) if 'InitWeights' in str(r['init_cfg'])]
    assert [rule['path'] for rule in own] == ['of_ant', 'of_cat']
    assert len(calls) == 3


@pytest.mark.needs_mmdet
def test_any_new_parts_of_a_detector_are_covered():
    """Parts of a real model taken for new at random, pattern after pattern."""
    name = 'mmdet::gcnet/mask-rcnn_r50-syncbn-gcb-r16-c3-c5_fpn_1x_coco.py'
    cfg = read_config(name, {'model.backbone.init_cfg': None})
    whole = look(cfg).whole
    model, tree = whole.model, whole.tree
    generator = random.Random(7)
    kinds = sorted({skeleton(path) for path in tree.index if '.' in path})
    asked = 0
    for _ in range(5):
        chosen = generator.sample(kinds, 3)
        new = {
            entry.path
            for node in tree.nodes
            if skeleton(node.path) in chosen and generator.random() < 0.8
            for entry in node.tensors()
        }
        loaded = {entry.path for entry in tree.entries} - new
        origins = Origins(dict.fromkeys(loaded, Source()))
        text = suggest(Look(cfg, whole, origins, []))
        if text.startswith('# Nothing to suggest'):
            continue
        allowed = {'frozen'}
        if 'as built.' in words(text):  # no rule is better
            allowed.add('uncovered')
        asked += 1
        rules = suggested(text)
        plan = plan_init(model, rules, loaded=loaded)
        codes = {f.code for f in findings(plan.preview())}
        assert codes <= allowed, chosen
        report = init_modules(model, rules, loaded=loaded)
        named = {path for rule in report.rules for path in rule.matched}
        assert named <= {
            node.path
            for node in tree.nodes
            if {entry.path for entry in node.tensors()} & new
        }
    assert asked > 1
