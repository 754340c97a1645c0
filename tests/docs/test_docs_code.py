"""The code on README and pages does what the pages say, in each language."""

import re
import subprocess
import sys
import types
from pathlib import Path

import as_process
import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import (
    HOOKS,
    MODELS,
    WEIGHT_INITIALIZERS,
    init_default_scope,
)
from pages import ALL, ROOT, codes
from rich.console import Console
from toy import ToyModel, build_runner, same, snapshot, start_of

from mmpartinit import RuleError, init_modules, module_seed, plan_init
from mmpartinit.command.cli import main
from mmpartinit.demo.comparison import ARMS, make_table
from mmpartinit.demo.digits import DigitsClassifier


def pages(*names):
    """A parametrization over some pages, in each language that has them."""
    found = [page for page in ALL if page.name in names]
    return pytest.mark.parametrize('page', found, ids=str)


def run(block, names=None):
    """Run a block, on the names that those before it have left."""
    names = {} if names is None else names
    exec(compile(block, 'block', 'exec'), names)
    return names


def timeless(text):
    """What is printed, with the same time for every second start."""
    return re.sub(r'(second start) \(\d+\.\d s\)', r'\1 (0.0 s)', text)


def unmeasured(text):
    """A text without shares in per cent, which depend on the weights."""
    text = ' '.join(text.replace('#', ' ').split())
    text = re.sub(r'[<\d.]+ %', '# %', re.sub('─+', '─', text))
    return re.sub(r'and \S+ the furthest', 'and # the furthest', text)


def as_logged(text):
    """What the log has of what the command prints, and the other way round:
    no line for each checkpoint, none of what an optimizer moves.
    """
    return re.sub(
        r'(?m)^Trains: .*\n|^.*, loaded into .*\n(    .*\n)*', '', text
    )


def rules_of(names):
    if 'modules' in names:
        return names['modules']
    for hook in names.get('custom_hooks', []):
        if hook['type'] == 'CustomModuleInitHook':
            return hook['modules']
    return None


DETECTOR = ROOT / 'configs' / 'digits_detection' / 'finetune_se_hook.py'
# How many blocks of Python each page has. All of them are run below, or in
# test_docs_tables.py (`config`) and test_docs_recipes.py.
PYTHON = dict(
    README=2,
    command=3,
    config=3,
    faq=1,
    functions=11,
    messages=6,
    migrate=6,
    **{'own-block': 4},
    quickstart=3,
    recipes=18,
    report=1,
    why=3,
)


@pytest.mark.parametrize('page', ALL, ids=str)
def test_a_new_block_needs_a_test(page):
    assert len(page.blocks('python')) == PYTHON.get(page.name, 0)


@pytest.mark.needs_mmdet
@pages('README')
def test_the_config_of_the_readme_fits_a_resnet_with_se_blocks(page):
    from mmdet.models import ResNet

    from mmpartinit.demo.blocks import SE

    block = next(b for b in page.blocks('python') if 'custom_hooks' in b)
    plugin = dict(
        cfg=dict(type=SE, ratio=16),
        stages=(True, True, True, True),
        position='after_conv3',
    )
    model = BaseModule()
    model.backbone = ResNet(50, plugins=[plugin])
    plan = plan_init(model, rules_of(run(block)))
    assert [match.rule.index for match in plan.matches] == [0] * 16 + [1] * 16
    # It is the hook of the detector whose log and figures follow.
    cfg = Config.fromfile(DETECTOR)
    assert cfg.custom_hooks[0].to_dict()['modules'] == rules_of(run(block))


@pages('README')
def test_the_functions_of_the_readme(page, capsys):
    block = next(b for b in page.blocks('python') if 'init_modules(' in b)
    model = ToyModel()
    checkpoint = ToyModel(new=False).state_dict()
    names = run(block, dict(model=model, checkpoint=checkpoint))
    assert names['report'].origins()['file'] == len(checkpoint)
    assert model.backbone.layer1[0].se.fc2.bias.eq(4).all()
    assert 'from files' in capsys.readouterr().out


@pytest.mark.needs_mmdet
@pages('README')
def test_the_log_of_the_readme(page, tmp_path, monkeypatch, capsys):
    """It is the table of the detector's config, as a run has it."""
    monkeypatch.chdir(tmp_path)
    init_default_scope('mmdet')
    model = MODELS.build(Config.fromfile(DETECTOR.parent / 'base.py').model)
    # Trained: nothing is as it was built, the counts and statistics included.
    state = {name: t + 1 for name, t in model.state_dict().items()}
    torch.save(state, 'weights.pth')
    main(['plan', str(DETECTOR), '--cfg-options', 'load_from=weights.pth'])
    first, _, table = timeless(page.blocks('text')[0]).partition('\n')
    assert first == 'Where the weights come from:'
    assert table == as_logged(timeless(capsys.readouterr().out))


@pages('README')
def test_what_to_write_for_what_you_have(page, monkeypatch):
    project = types.ModuleType('my_project.init')
    project.gate_init = nn.init.zeros_
    monkeypatch.setitem(sys.modules, 'my_project', types.ModuleType('m'))
    monkeypatch.setitem(sys.modules, 'my_project.init', project)
    rows = page.rows()
    assert len(rows) == 5
    for have, write in rows:
        rule = eval(codes(write)[0])
        if 'path' not in rule:
            rule = dict(path='a', init_cfg=rule)
        HOOKS.build(dict(type='CustomModuleInitHook', modules=[rule]))
        for kind in codes(have) if ':' in have or '：' in have else ():
            assert WEIGHT_INITIALIZERS.get(kind), kind


@pytest.mark.needs_mmdet
@pytest.mark.parametrize(
    'name', ['SwinTransformer', 'PyramidVisionTransformer']
)
def test_backbones_that_refuse_a_list(name):
    """The pages why and questions say so of mmdet's Swin and PVT."""
    import mmdet.models

    init_cfg = [dict(type='Pretrained', checkpoint='none.pth')]
    backbone = getattr(mmdet.models, name)(init_cfg=init_cfg)
    with pytest.raises(AssertionError, match='Only support specify'):
        backbone.init_weights()


@pytest.mark.needs_mmdet
def test_a_backbone_that_refuses_adapted_pretrained():
    """The questions say so of mmdet's DetectoRS."""
    from mmdet.models.backbones.detectors_resnet import DetectoRS_ResNet

    init_cfg = dict(type='AdaptedPretrained', checkpoint='none.pth')
    with pytest.raises(AssertionError, match='loading a pretrained model'):
        DetectoRS_ResNet(depth=50, init_cfg=init_cfg)


@pytest.mark.needs_mmdet
@pages('faq')
def test_a_list_is_enough_on_a_plain_backbone(page, tmp_path):
    """Where the questions say that MMEngine alone will do, it does."""
    from mmdet.models import ResNet

    block = next(b for b in page.blocks('python') if 'init_cfg = [' in b)
    init_cfg = run(block)['init_cfg']
    plain = ResNet(18).state_dict()
    torch.save(plain, tmp_path / 'r18.pth')
    init_cfg[1]['checkpoint'] = str(tmp_path / 'r18.pth')
    backbone = ResNet(18, init_cfg=init_cfg)
    backbone.layer1[0].extra = nn.Conv2d(4, 4, 1)
    nn.init.ones_(backbone.layer1[0].extra.bias)
    backbone.init_weights()
    assert backbone.layer1[0].extra.bias.eq(0).all()
    for name, value in plain.items():
        assert backbone.state_dict()[name].equal(value), name


@pages('config')
def test_an_initializer_of_your_own(page):
    """It says itself what it writes, and where it cannot be used."""
    try:
        run(page.blocks('python')[1])
        layers = {'new': nn.Linear(10, 10), 'norm': nn.BatchNorm1d(10)}
        model = nn.ModuleDict(layers)
        init_cfg = dict(type='Sparse', sparsity=0.9)
        plan = plan_init(model, [dict(path='new', init_cfg=init_cfg)])
        assert plan.preview().rules[0].wrote == ['new.weight']
        plan.apply()
        assert model['new'].weight.eq(0).sum(0).eq(9).all()
        with pytest.raises(RuleError) as info:
            plan_init(model, [dict(path='**', init_cfg=init_cfg)])
    finally:
        WEIGHT_INITIALIZERS.module_dict.pop('Sparse', None)
    (finding,) = info.value.findings
    assert finding.code == 'unsuitable'
    (told,) = re.findall(r'`(norm\.weight .+?)`', page.prose)
    assert told in finding.message


@pages('command')
def test_the_path_of_the_commands_page(page, tmp_path):
    """Config, suggest, paste, plan, train, figure: each output as shown."""
    kinds = ['python', 'text', 'python', 'text', 'python', 'text', 'text']
    assert [kind for kind, _ in page.fences] == kinds
    config, before, hook, after, train, *_ = (text for _, text in page.fences)

    def output(*words):
        done = as_process.run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return timeless(done.stdout)

    # As in a checkout after `make demo`, with weights that nobody trained.
    (tmp_path / 'mmpartinit').symlink_to(ROOT / 'mmpartinit')
    weights = tmp_path / 'work_dirs/digits/pretrain_seed0/weights.pth'
    weights.parent.mkdir(parents=True)
    model = DigitsClassifier(dict(type='SmallResNet'))
    torch.save(dict(state_dict=model.state_dict()), weights)

    (tmp_path / 'my_se.py').write_text(config)
    assert output('plan', 'my_se.py') == timeless(before)
    assert unmeasured(output('suggest', 'my_se.py')) == unmeasured(hook)
    pasted = config + hook
    (tmp_path / 'my_se.py').write_text(pasted)
    assert output('plan', 'my_se.py') == timeless(after)

    (tmp_path / 'train.py').write_text(train)
    done = subprocess.run(
        [sys.executable, 'train.py'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = {p.parent for p in tmp_path.rglob('init_report.json')}
    (log,) = folder.glob('*.log')
    told = f'Where the weights come from:\n{as_logged(timeless(after))}'
    assert told in as_logged(timeless(log.read_text()))
    figures = {p.name for p in folder.rglob('*.png')}
    assert figures == {'init_report.png', 'init_report_0.png'}
    shown = output('show', folder / 'init_report.json')
    trains, count = re.subn(r'(?m)^Trains: 71 of 71 tensors.*\n', '', shown)
    assert (trains, count) == (timeless(after), 1)


@pages('command')
def test_the_check_of_the_commands_page(page, tmp_path, command):
    """But for the numbers, which are those of weights that were trained."""
    (tmp_path / 'mmpartinit').symlink_to(ROOT / 'mmpartinit')
    weights = tmp_path / 'work_dirs/digits/pretrain_seed0/weights.pth'
    weights.parent.mkdir(parents=True)
    torch.manual_seed(0)
    model = DigitsClassifier(dict(type='SmallResNet'))
    torch.save(dict(state_dict=model.state_dict()), weights)
    prose = ' '.join(page.prose.split())
    said = [c.split()[1:] for c in codes(prose) if '_se_hook.py' in c]
    said = [words for words in said if words[0] == 'check']
    assert ['--base' in words for words in said] == [False, True]
    for words, shown in zip(said, page.blocks('text')[-2:]):
        done = command(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert unmeasured(shown) == unmeasured(done.stdout)


@pages('functions', 'report')
def test_a_page_that_is_one_program(page, tmp_path, monkeypatch, capsys):
    """Blocks run one after the other, and print what stands below them."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for fence, below in zip(page.fences, [*page.fences[1:], None]):
        if fence.kind == 'python':
            run(fence.text, names)
            shown = below.text if below and below.kind == 'text' else ''
            assert capsys.readouterr().out == shown
    # Loaded tensors came through all of it, and the resumed run kept its own.
    for name, value in names.get('checkpoint', {}).items():
        assert names['model'].state_dict()[name].equal(value), name
    if page.name == 'functions':
        assert names['finished']['step'] == 3


@pytest.mark.needs_mmdet
@pages('why')
def test_what_is_said_of_mmengine_is_so(page):
    """The blocks hold their own asserts."""
    names = {}
    for block in page.blocks('python'):
        assert 'assert ' in block
        run(block, names)


@pages('migrate')
def test_a_rule_instead_of_a_private_hook(page, work_dir):
    before, after = page.blocks('python')[:2]
    try:
        old = run(before)['custom_hooks'] + [dict(type='Witness')]
        new = run(after)['custom_hooks'] + [dict(type='Witness')]
        starts, resumed = [], []
        for number, custom_hooks in enumerate((old, new)):
            folder = work_dir / str(number) / work_dir.name
            runner = build_runner(folder, custom_hooks=custom_hooks)
            runner.train()
            starts.append(start_of(runner))
            trained = snapshot(runner.model)
            again = build_runner(
                folder,
                custom_hooks=custom_hooks,
                resume=True,
                train_cfg=dict(by_epoch=True, max_epochs=3),
            )
            again.train()
            gate = 'backbone.layer1.0.se.fc2.bias'
            resumed.append(same(start_of(again)[gate], trained[gate]))
    finally:
        HOOKS.module_dict.pop('InitGates', None)
    assert starts[0].keys() == starts[1].keys()
    for name, value in starts[0].items():
        assert same(value, starts[1][name]), name
    assert resumed == [False, True]


@pages('migrate')
def test_a_function_given_to_apply(page):
    names = run(page.blocks('python')[2])
    model, by_hand = ToyModel(), ToyModel()
    init_modules(model, names['modules'], seed=3)
    for block in ('layer1.0', 'layer1.1', 'layer2.0', 'layer2.1'):
        path = f'backbone.{block}.se.fc2'
        gate = by_hand.get_submodule(path)
        torch.manual_seed(module_seed(3, path))
        gate.apply(names['gate_init'])
        assert same(model.get_submodule(path).weight, gate.weight)
        assert gate.bias.eq(4).all()


@pages('migrate')
def test_rules_instead_of_init_weights(page):
    _, _, _, before, after, own = page.blocks('python')
    names = run(before)
    rules = run(after)['modules']
    model, by_hand = nn.ModuleDict(), nn.ModuleDict()
    model['neck'], by_hand['neck'] = names['Neck'](), names['Neck']()
    by_hand['neck'].load_state_dict(model['neck'].state_dict())
    torch.manual_seed(module_seed(0, 'neck.adapter.down'))
    by_hand['neck'].init_weights()
    init_modules(model, rules, seed=0)
    for name, value in by_hand.state_dict().items():
        assert same(value, model.state_dict()[name]), name
    # And the method itself, run again.
    nn.init.ones_(model['neck'].adapter.up.weight)
    init_modules(model, run(own)['modules'])
    assert model['neck'].adapter.up.weight.eq(0).all()


@pytest.mark.needs_mmdet
@pages('quickstart')
def test_the_path_of_the_quick_start(
    page, tmp_path, monkeypatch, capsys, my_blocks
):
    """With a stand-in for the checkpoint that cannot be downloaded here."""
    from mmdet.models import ResNet

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(ResNet(50).state_dict(), 'r50.pth')
    checkpoint = 'model.backbone.init_cfg.checkpoint=r50.pth'
    blocks, config, hook = page.blocks('python')
    _, before, after, checked, error = page.blocks('text')

    my_blocks.write_text(blocks)

    def output(*words, status=0):
        assert main([*words, '--cfg-options', checkpoint]) == status
        return timeless(capsys.readouterr().out)

    Path('my_config.py').write_text(config)
    assert output('plan', 'my_config.py') == timeless(before)
    assert unmeasured(output('suggest', 'my_config.py')) == unmeasured(hook)
    config += hook
    Path('my_config.py').write_text(config)
    assert output('plan', 'my_config.py') == timeless(after)
    assert unmeasured(output('check', 'my_config.py')) == unmeasured(checked)

    wrong = config.replace(".*.se_block'", ".se_block'")
    assert wrong != config
    Path('my_config.py').write_text(wrong)
    shown = output('plan', 'my_config.py', status=1)
    assert ' '.join(error.split()) in ' '.join(shown.split())


@pages('own-block')
def test_a_block_of_your_own(page, tmp_path, command, my_blocks):
    """Class, config, suggest, paste, check, train: each output as shown."""
    (tmp_path / 'mmpartinit').symlink_to(ROOT / 'mmpartinit')
    weights = tmp_path / 'work_dirs/digits/pretrain_seed0/weights.pth'
    weights.parent.mkdir(parents=True)
    torch.manual_seed(0)
    model = DigitsClassifier(dict(type='SmallResNet'))
    torch.save(dict(state_dict=model.state_dict()), weights)
    blocks, config, hook, train = page.blocks('python')
    checked, beside = page.blocks('text')
    my_blocks.write_text(blocks)
    (tmp_path / 'my_net.py').write_text(config)

    words = ['check', 'my_net.py']
    assert command(*words, cwd=tmp_path).returncode == 1
    done = command('suggest', 'my_net.py', cwd=tmp_path)
    assert unmeasured(done.stdout) == unmeasured(hook)
    (tmp_path / 'my_net.py').write_text(config + hook)
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert unmeasured(done.stdout) == unmeasured(checked)
    base = 'mmpartinit/demo/configs/finetune.py'
    done = command(*words, '--base', base, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert unmeasured(done.stdout) == unmeasured(beside)
    run(train)
    assert list((tmp_path / 'work_dirs/my_net').rglob('init_report.json'))


@pytest.fixture
def my_blocks(tmp_path, monkeypatch):
    """A module that can be imported, and is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / 'my_blocks.py'
    sys.modules.pop('my_blocks', None)
    for registry in (MODELS, *MODELS.children.values()):
        for name in ('SEBlock', 'MyResNet'):
            registry.module_dict.pop(name, None)


@pages('quickstart')
def test_the_demo_prints_what_the_quick_start_shows(page):
    """But for the numbers, which test_demo.py holds."""
    shown = page.blocks('text')[0]
    curve = [(0, 99.2), (10, 98.8), (60, 98.4)]
    curves = {name: [curve] for name, _, _ in ARMS}
    title = 'Accuracy (%) while fine-tuning on 100 images'
    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as capture:
        console.print(make_table(curves, title, [0, 10, 60]))

    def form(text):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return [re.sub(r'[\d.]+', '#', re.sub(' +', ' ', x)) for x in lines]

    assert form(shown)[1:] == form(capture.get())


@pages('faq')
def test_a_hook_that_is_not_imported(page):
    """MMEngine's error is the one that the page explains."""
    (told,) = re.findall(r'^## .*`(.* is not in the .*)`', page.text, re.M)
    build = "HOOKS.build(dict(type='CustomModuleInitHook'))"
    done = subprocess.run(
        [sys.executable, '-c', f'from mmengine.registry import *\n{build}'],
        capture_output=True,
        text=True,
    )
    beginning, end = told.split('...')
    assert re.search(f'{beginning}.*{end}', done.stderr), done.stderr
