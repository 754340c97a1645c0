"""What the tables and lists of the pages say is so, in each language."""

import ast
import inspect
import json
import re
import sys
from importlib import import_module

import mmengine.model
import pytest
import torch
import torch.nn as nn
import ways_changed
import ways_modules
import ways_whole
import ways_without
from benchmarks.blocks.criteria import count
from benchmarks.blocks.pages import filled
from benchmarks.blocks.program import SAVED, load
from mmengine.registry import HOOKS
from pages import PAGES, ROOT, codes
from stacks import since_torch
from test_docs_code import pages
from toy import same
from ways import WAYS

from mmpartinit import (
    CustomModuleInitHook,
    RuleError,
    init_modules,
    module_seed,
    plan_init,
)
from mmpartinit.model.tree import ModelTree
from mmpartinit.rules.patterns import parse_pattern
from mmpartinit.rules.rule import KEYS, parse_rules
from mmpartinit.rules.selection import Selector

# Importing them makes the ways known.
FILES = (ways_changed, ways_modules, ways_whole, ways_without)
# What makes a finding: where among its arguments the level and the code are.
# `RuleError.of` and `Collector.add` make errors; `remarks` are notes.
MAKERS = dict(of=(None, 0), add=(None, 0), Finding=(0, 1))
MAKERS.update(found=(0, 1), finding=(0, 1))
# An error that ends the training, which has its code behind that.
RAISED = 'mmpartinit.errors.RuleError: '


def sources():
    """The package's files, parsed."""
    for path in sorted((ROOT / 'mmpartinit').rglob('*.py')):
        yield ast.parse(path.read_text(encoding='utf-8'))


def findings_made():
    """Codes in the package's sources, and the levels that can be read."""
    made = {}
    for node in (node for tree in sources() for node in ast.walk(tree)):
        level, code = made_by(node) or (None, None)
        if code:
            made.setdefault(code, set()).update({level} - {None})
    return made


def made_by(node):
    """Level and code of the finding that a call makes; None where they are
    no constants."""
    if not isinstance(node, ast.Call):
        return None
    of = getattr(getattr(node.func, 'value', None), 'id', None)
    name = getattr(node.func, 'attr', getattr(node.func, 'id', None))
    if (of, name) == ('remarks', 'append'):
        return 'note', node.args[0].elts[0].value
    if name not in MAKERS:
        return None
    constants = [
        argument.value if isinstance(argument, ast.Constant) else None
        for argument in node.args
    ]
    level, code = MAKERS[name]
    return 'error' if level is None else constants[level], constants[code]


def messages_of(page):
    """The messages on the page, by the codes that have an entry."""
    told = {}
    for number, heading in enumerate(page.headings()):
        if heading.startswith('### `'):
            (code,) = codes(heading)
            assert code not in told
            told[code] = re.search(
                r'```text\n(.*?)```', page.section(number), re.DOTALL
            )[1]
    return told


def findings_told():
    """Codes that the page of messages has, and their levels there."""
    (page,) = (p for p in PAGES['en'] if p.name == 'messages')
    return {
        code: set(re.findall(rf'(?m)^(\w+) \[{code}\] ', text)) or {'error'}
        for code, text in messages_of(page).items()
    }


@pages('messages')
def test_the_messages_are_those_that_there_are(page):
    told, made = messages_of(page), findings_made()
    assert told.keys() == made.keys()
    for code, levels in made.items():
        # That of one is worked out when it is made.
        expected = levels or {'warning', 'note'}
        beginnings = {f'{level} [{code}] ' for level in expected}
        raised = f'{RAISED}[{code}] '
        lines = [line for line in told[code].splitlines() if line[0] != ' ']
        assert all(line.startswith((*beginnings, raised)) for line in lines)
        assert raised in told[code] or all(b in told[code] for b in beginnings)
    assert [code for code, levels in made.items() if not levels] == [
        'unused-layer'
    ]


@pages('messages')
def test_messages_are_worded_as_the_code_words_them(page):
    """Most of each is in the sources, or in the tables that are run below."""
    (tables,) = (p for p in PAGES['en'] if p.name == 'config')
    pieces = {
        node.value
        for node in (node for tree in sources() for node in ast.walk(tree))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    pieces |= {codes(row[2])[0] for row in tables.rows() if is_rule(row[0])}
    pieces = {' '.join(piece.split()) for piece in pieces}
    known = sorted((p for p in pieces if len(p) > 8), key=len, reverse=True)
    for code, text in messages_of(page).items():
        lines = re.sub(r'(?m)^  (?! ).*\n', '', text)  # without the tensors
        start = rf'(?m)^(?:\w+|{RAISED[:-1]}) \[{code}\] '
        for message in re.split(start, lines)[1:]:
            message = re.sub(r"^rule \d \(path '.*?'\)", '', message)
            rest = ' '.join(message.split())
            most = len(rest) / 2
            for piece in known:
                rest = rest.replace(piece, '')
            assert len(rest) < most, (code, rest)


@pages('messages')
def test_what_to_paste_can_be_read(page):
    for block in page.blocks('python'):
        names: dict = {}
        exec(block, names)
        parse_rules(names.get('modules', []))
        for hook in names.get('custom_hooks', []):
            HOOKS.build(hook)
        for name in names.get('custom_imports', {}).get('imports', []):
            import_module(name)


@pages('paths')
def test_patterns_act_on_what_the_examples_say(page):
    (paths,) = page.blocks('text')
    tree = tree_of(paths.split())
    examples = [row for row in page.rows() if len(row) == 3]
    assert len(examples) > 15
    for pattern, on, not_on in examples:
        nodes = Selector(tree).select(parse_pattern(*codes(pattern)))
        found = [node.path for node in tree.outermost(nodes)]
        assert found == codes(on), pattern
        (other,) = codes(not_on)
        assert other in tree.index and other not in codes(on)


@pages('paths')
def test_what_follows_for_paths_is_so(page):
    """The other sentences of the page are held in test_paths.py."""
    tree = tree_of(page.blocks('text')[0].split())
    near = Selector(tree).nearest('se')[0]
    assert near == 'backbone.layer1.0.se'
    assert f'`{near}`' in page.prose
    (node,) = tree.outermost(Selector(tree).select(parse_pattern('**')))
    assert node.path == ''


def tree_of(paths):
    model = nn.Module()
    for path in paths:
        module = model
        for segment in path.split('.'):
            if segment not in module._modules:
                module.add_module(segment, nn.Module())
            module = module._modules[segment]
    return ModelTree(model)


@pages('config')
def test_keys_and_defaults_are_those_that_there_are(page):
    rows = [row for row in page.rows() if len(row) == 4]
    told = [(codes(row[0])[0], codes(row[2])) for row in rows]
    parameters = inspect.signature(CustomModuleInitHook).parameters
    hook = [
        (name, [] if p.default is p.empty else [repr(p.default)])
        for name, p in parameters.items()
    ]
    assert told[: len(hook)] == hook
    rule = told[len(hook) :]
    assert [key for key, _ in rule] == list(KEYS)
    plain = parse_rules([dict(path='a', copy_from='b')])[0]
    for key, default in rule[-2:]:
        assert default == [repr(getattr(plain, key))]


@since_torch('2.1')  # which the page's example imports from
@pytest.mark.skipif(
    sys.version_info < (3, 10),
    reason='needs Python 3.10, which names the class of a missing argument',
)
@pages('config')
def test_errors_are_what_the_tables_say(page):
    """Each in the phase that its table is about."""
    definitions = page.blocks('python')[2]
    rows = [row for row in page.rows() if is_rule(row[0])]
    told = [[codes(cause)[0], *codes(c), *codes(t)] for cause, c, t in rows]
    phases = []
    for cause, code, text in told:
        names: dict = {}
        exec(definitions, names)
        config = eval(cause, names)
        phase, error = error_of(config, names['model'])
        assert [finding.code for finding in error.findings] == [code]
        message = str(error)
        start, beginning = f'[{code}] ', message[: -len(text)]
        assert message.endswith(text), message
        assert beginning.startswith(start)
        beginning = beginning[len(start) :]
        assert re.fullmatch(r'(rule 0( \(path .*\))?:? )?', beginning)
        phases.append(phase)
    assert len(phases) > 40
    assert phases == sorted(phases)
    assert set(phases) == {1, 2, 3}
    # The example above the tables is whole.
    (whole,) = page.blocks('text')
    assert any(whole.strip().endswith(text) for _, _, text in told)


def is_rule(cell):
    return re.match(r"`(dict\(|'head')", cell)


def error_of(config, model):
    """The error that a rule or a hook ends in: when the hook is built (1),
    before anything is written (2), or afterwards (3)."""
    is_hook = 'modules' in config
    hook = config if is_hook else dict(modules=[config])
    try:
        HOOKS.build(dict(type='CustomModuleInitHook', **hook))
    except RuleError as error:
        return 1, error
    try:
        plan = plan_init(model, [config])
    except RuleError as error:
        return 2, error
    with pytest.raises(RuleError) as info:
        plan.apply()
    return 3, info.value


@pages('migrate')
def test_functions_of_mmcv_have_an_init_cfg_each(page):
    rows = [row for row in page.rows() if len(row) == 2]
    assert len(rows) >= 10
    names = {**vars(mmengine.model), 'nn': nn}
    for function, init_cfg in rows:
        expected, layer = nn.Linear(6, 4), nn.Linear(6, 4)
        layer.load_state_dict(expected.state_dict())
        torch.manual_seed(module_seed(0, 'new'))
        eval(codes(function)[0], {**names, 'm': expected})
        (cfg,) = codes(init_cfg)
        rule = dict(path='new', init_cfg=eval(cfg))
        init_modules(nn.ModuleDict({'new': layer}), [rule])
        assert same(layer.weight, expected.weight), function
        if 'orthogonal_' not in function:
            assert same(layer.bias, expected.bias), function


@pages('report')
def test_the_example_has_every_finding_that_one_process_can_have(page):
    told = findings_told()
    errors = {code for code, levels in told.items() if levels == {'error'}}
    assert len(errors) > 10
    shown = set(re.findall(r'\[([a-z-]+)\]', page.blocks('text')[-1]))
    plans = {'no-hook', 'several-hooks', 'no-weights', 'resume'}
    plans |= {'replaced-hooks', 'replaced-imports', 'not-resumed'}
    plans |= {'not-called'}
    # Of several processes, of what was recorded, of a second start, of what
    # other hooks do, of files, and of large models.
    others = {'ranks-differed', 'nothing-loaded', 'shape', 'renamed', 'lost'}
    others |= {'put-in', 'partly', 'seeds-itself', 'frozen-new'}
    others |= {'changed-since', 'not-frozen', 'classes', 'memory'}
    assert shown == told.keys() - errors - plans - others


@pages('loaders')
def test_the_page_of_loaders_has_every_way_that_was_tried(page):
    """What the report says of each is held in test_ways.py."""
    made = {name.partition('@')[0]: made for name, made in WAYS.items()}
    told = []
    for _, _, says, remarks in page.rows():
        if says[0].isdigit():  # of another package, tried by hand
            continue
        names = codes(re.split('[;；]', remarks)[0])
        told += names
        has_file = any(made[name].has_file for name in names)
        assert has_file or 'file' not in codes(says), names
    assert sorted(told) == sorted(made)


@pages('benchmarks')
def test_ratios_on_the_page_are_those_that_were_saved(page):
    saved = json.loads(
        (ROOT / 'tests' / 'benchmarks' / 'table.json').read_text()
    )
    numbers = [
        [
            f'{row["ratio"]:.2f}',
            f'{row["runs"][0]:.2f}–{row["runs"][-1]:.2f}',
            '–' if row['limit'] is None else f'{row["limit"]}',
            f'{row["ours"]:.1f} / {row["peer"]:.1f} {row["unit"]}',
        ]
        for row in saved['rows']
    ]
    assert [row[2:] for row in page.rows() if len(row) == 6] == numbers


@pages('why')
def test_blocks_on_the_page_are_those_that_were_measured(page):
    table = load(SAVED)
    assert filled(page.text, table, page.language) == page.text
    assert f' {len({row.block for row in table["rows"]})} ' in page.text
    assert not any(count(table['rows'], table['pretrained'][0]).values())
