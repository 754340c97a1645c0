"""What README and docs tell users to paste does what they say."""

import re
from pathlib import Path

import pytest
import torch.nn as nn
from mmengine.model import BaseModule
from mmengine.registry import HOOKS
from toy import ToyModel

from mmpartinit import plan_init

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]


def blocks(page):
    return re.findall(r'```python\n(.*?)```', page.read_text(), re.DOTALL)


def run(block, **names):
    exec(compile(block, 'block', 'exec'), names)
    return names


def rules_of(names):
    if 'modules' in names:
        return names['modules']
    for hook in names.get('custom_hooks', []):
        if hook['type'] == 'CustomModuleInitHook':
            return hook['modules']
    return None


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_every_rule_in_the_docs_can_be_built(page):
    for block in blocks(page):
        if '[...]' in block or 'import ' in block:
            continue
        rules = rules_of(run(block))
        if rules is not None:
            HOOKS.build(dict(type='CustomModuleInitHook', modules=rules))


def test_the_config_of_the_readme_fits_a_resnet_with_context_blocks():
    from mmdet.models import ResNet

    block = next(b for b in blocks(PAGES[0]) if 'custom_hooks' in b)
    plugin = dict(
        cfg=dict(type='ContextBlock', ratio=1 / 16),
        stages=(False, True, True, True),
        position='after_conv3',
    )
    model = BaseModule()
    model.backbone = ResNet(50, plugins=[plugin])
    plan = plan_init(model, rules_of(run(block)))
    assert [match.rule.index for match in plan.matches] == [0] * 13 + [1] * 13


def test_the_functions_of_the_readme(capsys):
    block = next(b for b in blocks(PAGES[0]) if 'init_modules(' in b)
    model = ToyModel()
    checkpoint = ToyModel(new=False).state_dict()
    names = run(block, model=model, checkpoint=checkpoint)
    assert names['report'].origins()['checkpoint'] == len(checkpoint)
    assert model.backbone.layer1[0].se.fc2.bias.eq(4).all()
    assert 'from checkpoint' in capsys.readouterr().out


def test_the_list_init_cfg_of_the_readme_is_enough_on_a_plain_backbone(
    tmp_path,
):
    """Where the README says that MMEngine alone will do, it does."""
    import torch
    from mmdet.models import ResNet

    block = next(b for b in blocks(PAGES[0]) if 'init_cfg = [' in b)
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


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r'\]\(([^)#:]+)\)', page.read_text()):
            assert (page.parent / link).exists(), f'{page.name}: {link}'
