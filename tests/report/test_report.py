"""The report: where each tensor came from, and what the user should see."""

import json
import re

import pytest
import torch
import torch.nn as nn
from stacks import since_torch
from toy import SE_ZERO, ToyModel, build_runner, hooks, pretrained, report_of

from mmpartinit import InitReport, init_modules, plan_init, record_loads
from mmpartinit.report import (
    CheckpointRecord,
    Finding,
    RuleRecord,
    TensorRecord,
)

NORMAL = dict(type='Normal', layer='Linear')
LINEAR = dict(path='backbone.**.se', init_cfg=NORMAL)


def codes(report):
    return [(f.level, f.code) for f in report.findings]


def finding(report, code):
    (found,) = [f for f in report.findings if f.code == code]
    return found


@pytest.fixture
def half_loaded(tmp_path):
    """A model with new modules, and the names that its weights supplied."""
    state = pretrained(tmp_path / 'weights.pth')
    model = ToyModel()
    with record_loads(model) as loaded:
        model.load_state_dict(state, strict=False)
    return model, loaded


def test_every_tensor_has_one_origin(half_loaded):
    model, loaded = half_loaded
    report = init_modules(model, [LINEAR, SE_ZERO], loaded=loaded, seed=4)
    assert [t.name for t in report.tensors] == list(model.state_dict())
    for record in report.tensors:
        tensor = model.state_dict()[record.name]
        assert record.shape == list(tensor.shape)
        assert f'torch.{record.dtype}' == str(tensor.dtype)
        if record.name in loaded:
            assert (record.origin, record.rule) == ('file', None)
        elif '.se.fc' in record.name:
            index = 1 if '.fc2.' in record.name else 0
            assert (record.origin, record.rule) == ('rule', index)
        else:
            assert (record.origin, record.rule) == ('built', None)
        if tensor.is_floating_point():
            assert record.mean == pytest.approx(tensor.mean().item())
            assert record.std == pytest.approx(
                tensor.std(unbiased=False).item(), abs=1e-7
            )
        else:
            assert record.mean is record.std is None
    assert sum(report.origins().values()) == len(model.state_dict())


def test_the_file_holds_the_whole_report(work_dir, tmp_path):
    state = pretrained(tmp_path / 'weights.pth')
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(SE_ZERO),
        load_from=str(tmp_path / 'weights.pth'),
    )
    runner.train()
    data = json.loads(open(f'{runner.log_dir}/init_report.json').read())
    assert data == json.loads(json.dumps(report_of(runner).to_dict()))
    assert list(data) == [
        'version',
        'seed',
        'tensors',
        'rules',
        'findings',
        'known_by',
        'checkpoints',
        'training',
    ]
    assert (data['version'], data['seed']) == (2, 3)
    origins = [tensor['origin'] for tensor in data['tensors']]
    assert len(origins) == len(runner.model.state_dict())
    assert origins.count('file') == len(state)
    assert origins.count('rule') == 8
    assert data['rules'][0]['matched'] == [
        f'backbone.layer{i}.{j}.se.fc2' for i in (1, 2) for j in (0, 1)
    ]


def test_no_file_without_report(work_dir):
    runner = build_runner(work_dir, custom_hooks=hooks(SE_ZERO, report=False))
    runner.train()
    assert report_of(runner) is not None
    assert not list(work_dir.rglob('init_report.*'))


def test_the_log_has_one_table_and_each_finding_once(work_dir, tmp_path):
    pretrained(tmp_path / 'weights.pth')
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(LINEAR, SE_ZERO),
        load_from=str(tmp_path / 'weights.pth'),
    )
    runner.train()
    (path,) = work_dir.rglob('*.log')
    log = path.read_text()
    assert log.count('Where the weights come from') == 1
    assert log.count('[uncovered]') == 1
    assert '[rewritten]' not in log
    lines = log[log.index('Where the weights') :].splitlines()[1:8]
    header = next(line for line in lines if 'init_cfg' in line)
    rows = [line for line in lines if 'backbone.**' in line]
    assert len(rows) == 2
    for row in rows:  # aligned in a plain file
        assert row.index('backbone') == header.index('path')
        assert len(row) <= 100
    assert '\x1b[' not in log[log.index('Where the weights') :]


def test_the_log_stays_within_30_lines(work_dir, tmp_path):
    """With as many rules and findings as a large detector may have."""
    pretrained(tmp_path / 'weights.pth')
    cfg = dict(type='Normal', layer=['Linear', 'LayerNrom', 'Conv2d'])
    many = [
        dict(path=f'backbone.layer{i}.{j}{end}', init_cfg=[cfg] * 3)
        for i in (1, 2)
        for j in (0, 1)
        for end in ('', '.se', '.se.fc1', '.s{e,f}', '.*.fc2')
        for _ in range(2)
    ]
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(*many),
        load_from=str(tmp_path / 'weights.pth'),
    )
    runner.train()
    assert len(report_of(runner).findings) > 40
    (path,) = work_dir.rglob('*.log')
    log = path.read_text()
    lines = log[log.index('Where the weights') :].splitlines()
    end = next(i for i, line in enumerate(lines) if 'mmengine - INFO' in line)
    assert 25 < end <= 30
    assert max(map(len, lines[1:end])) <= 100
    header = next(line for line in lines if 'init_cfg' in line)
    rows = [line for line in lines[:end] if 'Normal(' in line]
    assert len(rows) == 11
    assert all(
        row.index('Normal(') == header.index('init_cfg') for row in rows
    )
    assert 'and 29 more rules' in log
    assert '[uncovered]' in log  # warnings come first
    assert re.search(r'and \d+ more findings', lines[end - 1])
    # Everything is in the text that `mmpartinit show` prints.
    text = report_of(runner).text()
    assert text.count('[unused-layer]') > 40
    assert 'more rules' not in text


def test_uncovered_names_what_is_new_beside_loaded_things(half_loaded):
    model, loaded = half_loaded
    plan = plan_init(model, [SE_ZERO], loaded=loaded)
    (found,) = [f for f in plan.findings if f.code == 'uncovered']
    assert found.level == 'warning'
    expected = {
        name
        for name in model.state_dict()
        if name.startswith('backbone')
        and name not in loaded
        and '.fc2.' not in name
    }
    assert set(found.names) == expected  # not the neck: nothing loaded there
    text = plan.preview().text()
    assert 'backbone.layer*.*.se.fc1.{bias,weight} (8)' in text
    report = init_modules(
        model,
        [dict(path='backbone', init_cfg=dict(type='Constant', val=1))],
        loaded=loaded,
    )
    assert 'uncovered' not in [f.code for f in report.findings]


def test_a_shape_that_does_not_fit_shows_as_uncovered(tmp_path):
    model, other = ToyModel(), ToyModel()
    other.head = nn.Linear(8, 3, bias=False)
    state = {k: v for k, v in other.state_dict().items() if 'adapter' not in k}
    with record_loads(model) as loaded:
        model.load_state_dict(state, strict=False)
    rule = dict(path='neck.adapter', init_cfg=dict(type='InitWeights'))
    report = init_modules(model, [rule], loaded=loaded)
    assert finding(report, 'uncovered').names == ['head.bias']


def test_frozen_and_not_optimized(work_dir):
    runner = build_runner(work_dir, custom_hooks=hooks(LINEAR))
    layer1, layer2 = runner.model.backbone.layer1, runner.model.backbone.layer2
    layer1.requires_grad_(False)

    class LeaveOut:
        def __call__(self, model):
            from mmengine.optim import OptimWrapper
            from torch.optim import SGD

            known = [p for p in model.parameters() if p.requires_grad]
            known = [p for p in known if p is not layer2[0].se.fc1.bias]
            return OptimWrapper(SGD(known, lr=0.1))

    runner.optim_wrapper = LeaveOut()(runner.model)
    runner.train()
    report = report_of(runner)
    assert finding(report, 'frozen').level == 'warning'
    assert finding(report, 'frozen').names == [
        f'backbone.layer1.{j}.se.fc{k}.{key}'
        for j in (0, 1)
        for k in (1, 2)
        for key in ('weight', 'bias')
    ]
    assert finding(report, 'not-optimized').level == 'warning'
    assert finding(report, 'not-optimized').names == [
        'backbone.layer2.0.se.fc1.bias'
    ]


def test_frozen_is_said_of_drawn_values_only(tmp_path, half_loaded):
    """What a file or another part supplies is frozen on purpose."""
    model, loaded = half_loaded
    file = str(tmp_path / 'se.pth')
    torch.save(model.backbone.layer1[0].se.state_dict(), file)
    from_file = dict(type='Pretrained', checkpoint=file)
    ones = dict(type='Constant', layer='LayerNorm', val=1)
    at = [f'backbone.layer{i}.{j}.se' for i in (1, 2) for j in (0, 1)]
    rules = [
        dict(path=at[0], init_cfg=from_file),
        dict(path=at[1], copy_from=at[0]),
        # What the file has brought stays but for one layer, or not at all.
        dict(path=at[2], init_cfg=[from_file, ones]),
        dict(path=at[3], init_cfg=from_file),
        dict(LINEAR, path=at[3]),
    ]
    model.backbone.requires_grad_(False)
    drawn = [f'{at[2]}.norm.{key}' for key in ('weight', 'bias')] + [
        f'{at[3]}.fc{k}.{key}' for k in (1, 2) for key in ('weight', 'bias')
    ]
    plan = plan_init(model, rules, loaded=loaded)
    for report in (plan.preview(), plan.apply()):
        assert finding(report, 'frozen').names == drawn
        files = {t.name for t in report.tensors if t.file == file}
        assert files == {
            name
            for path in (at[0], at[2], at[3])
            for name in model.state_dict()
            if name.startswith(f'{path}.') and name not in drawn
        }


def test_notes_on_what_rules_left_or_wrote_over(half_loaded):
    model, loaded = half_loaded
    report = init_modules(
        model,
        [
            dict(path='backbone', init_cfg=dict(type='Constant', val=1)),
            SE_ZERO,
            dict(path='head', init_cfg=NORMAL),
            dict(path='head.weight', init_cfg=dict(NORMAL, layer=None)),
            dict(
                path='head.bias',
                init_cfg=dict(type='Constant', val=0),
                overwrite=True,
            ),
            dict(SE_ZERO, path='none.of.these', optional=True),
        ],
        loaded=loaded,
    )
    assert sorted(codes(report)) == [
        ('note', 'kept'),
        ('note', 'no-match'),
        ('note', 'not-written'),
        ('note', 'overwritten'),
        ('warning', 'nothing-new'),
        ('warning', 'nothing-new'),
    ]
    assert set(finding(report, 'kept').names) == {
        name for name in loaded if name.startswith('backbone')
    }
    assert finding(report, 'overwritten').names == ['head.bias']
    assert finding(report, 'not-written').names == ['backbone.gamma']
    by_name = {t.name: t for t in report.tensors}
    assert by_name['head.weight'].origin == 'file'
    assert by_name['head.bias'].rule == 4


def test_a_rule_of_which_nothing_is_left():
    narrow = dict(SE_ZERO, path='backbone.layer1.*.se.fc2')
    for rules, lost in (
        ([LINEAR, SE_ZERO], []),
        ([SE_ZERO, LINEAR], [0]),
        # Each of the two leaves something; both together do not.
        ([SE_ZERO, narrow, dict(SE_ZERO, path='backbone.layer2')], [0]),
        ([narrow, SE_ZERO, LINEAR], [0, 1]),
    ):
        report = init_modules(ToyModel(), rules)
        found = [f for f in report.findings if f.code == 'rewritten']
        assert [f.rule for f in found] == lost
        assert all(f.level == 'warning' for f in found)
        for each in found:
            assert set(each.names) == set(report.rules[each.rule].wrote)
    assert found[1].message.endswith('are written after it, by rule 2')


@pytest.mark.parametrize(
    'name, level', [('LayerNrom', 'warning'), ('Conv3d', 'note')]
)
def test_a_layer_that_is_not_there_beside_one_that_is(name, level):
    cfg = dict(type='Normal', layer=['Linear', name])
    report = init_modules(
        ToyModel(), [dict(path='backbone.**.se', init_cfg=cfg)]
    )
    assert codes(report)[0] == (level, 'unused-layer')
    assert name in report.findings[0].message


def test_300_names_read_as_few_lines():
    names = [
        f'backbone.layer{stage}.{block}.{part}.{key}'
        for stage in (1, 2, 3, 4)
        for block in range(6)
        for part in ('se.fc1', 'se.fc2', 'norm')
        for key in ('weight', 'bias')
    ] + [f'neck.lateral_convs.{i}.conv.weight' for i in range(156)]
    assert len(names) == 300
    assert lines_below(names) == [
        '  backbone.layer*.*.se.fc*.{bias,weight} (96)',
        '  backbone.layer*.*.norm.{bias,weight} (48)',
        '  neck.lateral_convs.*.conv.weight (156)',
    ]
    many = lines_below([f'{"x" * i}.weight' for i in range(1, 60)])
    assert len(many) == 40
    assert many[-1] == '  and 20 more such groups'


def lines_below(names):
    """What a report says below the sentence of a finding."""
    found = Finding('note', 'kept', 'Some are kept', names)
    return InitReport(0, [], [], [found]).text().splitlines()[2:]


def test_square_brackets_of_the_users_stay_as_they_are():
    rule = dict(path='backbone.layer[12].0.se', init_cfg=NORMAL)
    assert 'layer[12].0' in str(init_modules(ToyModel(), [rule]))


def test_scales_of_what_no_rule_wrote_come_from_a_sample():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1000, 1000), nn.Linear(30, 30))
    nn.init.normal_(model[0].weight, 3.0, 0.5)
    rules = [dict(path='1.bias', init_cfg=dict(type='Constant', val=2.0))]
    report = init_modules(model, rules, loaded={'0.weight', '1.weight'})
    large, _, small, new = report.tensors
    # A thousand values tell a mean to 3 %, a deviation to 2 %.
    assert large.mean == pytest.approx(3.0, abs=4 * 0.5 / 32)
    assert large.std == pytest.approx(0.5, rel=0.1)
    # All of them where there are no more.
    weight = model[1].weight.detach().double()
    assert small.mean == pytest.approx(weight.mean().item(), rel=1e-6)
    assert small.std == pytest.approx(weight.std(unbiased=False).item())
    assert (new.mean, new.std) == (2.0, 0.0)


def test_a_tensor_and_its_beginning_have_scales_of_their_own():
    def fill(module):
        if isinstance(module, nn.Linear):
            module.weight.copy_(torch.tensor([[1.0], [3.0]]))

    model = nn.ModuleList()
    for _ in range(10):
        model.append(nn.Linear(1, 2, bias=False))
        beginning = nn.Parameter(model[-1].weight.data[:1])
        model.append(nn.ParameterDict({'beginning': beginning}))
    rule = dict(path='**', init_cfg=dict(type='Apply', fn=fill))
    means = [tensor.mean for tensor in init_modules(model, [rule]).tensors]
    assert means == [2, 1] * 10


@since_torch('2.1')
def test_scales_of_eight_bit_numbers_beside_others():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    for layer, kind in ((0, 'float8_e4m3fn'), (1, 'float8_e5m2')):
        eight = torch.full((2, 2), 2.0).to(getattr(torch, kind))
        model[layer].weight = nn.Parameter(eight, requires_grad=False)
    rule = dict(path='2', init_cfg=dict(type='Constant', val=1.0))
    report = init_modules(model, [rule], loaded={'0.weight', '1.weight'})
    scales = {tensor.name: tensor.mean for tensor in report.tensors}
    assert scales['0.weight'] == scales['1.weight'] == 2
    assert scales['2.weight'] == 1


def test_keys_that_a_later_version_adds_are_no_matter(tmp_path):
    report = init_modules(ToyModel(), [LINEAR])
    data = report.to_dict()
    data['tensors'][0]['new_key'] = 1
    data['another'] = 2
    (tmp_path / 'report.json').write_text(json.dumps(data))
    assert InitReport.load(str(tmp_path / 'report.json')) == report


def known_report():
    """A report of all that can be known of files."""
    tensors = [
        TensorRecord(f'a.{i}', [2], 'float32', 'file', file=file, key=key)
        for i, (file, key) in enumerate(
            [
                ('weights/r50.pth', 'backbone.a.0'),
                ('weights/r50.pth', None),
                ('weights/neck.pth', 'a.2'),
                (None, None),
            ]
        )
    ]
    tensors.append(TensorRecord('b', [2], 'float32', 'code'))
    checkpoints = [
        CheckpointRecord(
            'backbone', 'weights/r50.pth', 5, 2, [['c', [2], [3]]], ['d', 'e']
        ),
        CheckpointRecord('', None, 1, 1),
    ]
    by = 'a second start (0.6 s)'
    return InitReport(0, tensors, [], [], by, checkpoints)


def test_what_is_known_of_files_is_kept_in_the_file(tmp_path):
    path = tmp_path / 'report.json'
    report = known_report()
    report.save(str(path))
    assert InitReport.load(str(path)) == report
    data = json.loads(path.read_text())
    assert data['known_by'] == 'a second start (0.6 s)'
    assert data['tensors'][0]['file'] == 'weights/r50.pth'
    assert data['tensors'][0]['key'] == 'backbone.a.0'
    assert data['checkpoints'][0] == dict(
        path='backbone',
        file='weights/r50.pth',
        tensors=5,
        used=2,
        shapes=[['c', [2], [3]]],
        unused=['d', 'e'],
    )


def test_the_file_has_a_line_for_each_record(tmp_path):
    """So that `diff` and `grep` tell of two starts where they differ."""
    path = tmp_path / 'report.json'
    report = known_report()
    report.save(str(path))
    lines = [line.strip(' ,') for line in path.read_text().splitlines()]
    data = report.to_dict()
    records = [*data['tensors'], *data['checkpoints']]
    assert len(records) == 7
    assert [json.loads(x) for x in lines if x.startswith('{"')] == records
    assert lines[0] == '{'
    assert '"rules": []' in lines


def test_the_text_says_how_it_is_known_and_names_the_files():
    report = known_report()
    known = [
        '5 tensors: 4 from files, 1 put in by code, 0 from rules, 0 as built',
        'Known by a second start (0.6 s)',
        '  weights/r50.pth: 2 tensors',
        '  weights/neck.pth: 1 tensors',
    ]
    assert str(report).splitlines() == known
    assert report.text().splitlines() == [
        *known,
        'weights/r50.pth, loaded into backbone: 2 of 5 tensors used, 2 '
        'unused, 1 of another shape',
    ]


def test_long_paths_that_differ_at_an_end_are_told_apart_in_the_log():
    middle = '.attention.relative_position_bias_table' * 3
    paths = [f'{a}{middle}{b}' for a in 'xy' for b in ('.fc1', '.fc2')]
    rules = [RuleRecord(i, [p], ['Normal()']) for i, p in enumerate(paths)]
    rows = str(InitReport(0, [], rules)).splitlines()[2:6]
    shown = [row.split()[1] for row in rows]
    assert len(set(shown)) == 4
    assert all('…' in path and len(path) < 80 for path in shown)


def test_names_are_not_torn_where_they_fit():
    path, item = 'backbone.layer{2,3,4}.*.se_block.fc2', 'Normal(std=0.02)'
    record = RuleRecord(0, [path], [f'{item[:-1]}, layer=Conv2d)'])
    lines = InitReport(0, [], [record]).text(width=70).splitlines()
    cells = [line[7:].split('   ')[0].strip() for line in lines[2:-1]]
    assert ''.join(cells) == path
    assert len(cells) > 1 and all(cell[0] == '.' for cell in cells[1:])
    assert '0.02,' in '\n'.join(lines)


def test_files_with_long_names_and_many_of_them_fit_the_log():
    tensors = [
        TensorRecord(f'{i}', [], 'float32', 'file', file=f'{"x/" * 80}{i}.pth')
        for i in range(9)
    ]
    report = InitReport(0, tensors, [])
    lines = report.text(width=60).splitlines()
    assert len(lines) == 2 + 9 and max(map(len, lines)) == 60
    assert lines[2].startswith('  …/x/x')
    assert lines[2].endswith('x/0.pth: 1 tensors')
    assert str(report).splitlines()[-1] == '  and 6 more files'
    assert len(str(report).splitlines()) == 1 + 4


def test_a_report_of_version_1_is_read_and_shown(tmp_path):
    """As mmpartinit 0.1.0 wrote them."""
    tensor = dict(
        name='a',
        shape=[2],
        dtype='float32',
        origin='checkpoint',
        rule=None,
        mean=0.0,
        std=1.0,
        source=None,
    )
    tensors = [
        tensor,
        dict(tensor, name='b', origin='rule', rule=0, source='a'),
        dict(tensor, name='c', origin='model'),
    ]
    rule = dict(index=0, path=['b'], init_cfg=[], copy_from='a')
    rule.update(matched=['b'], wrote=['b'], kept=[])
    found = dict(level='warning', code='uncovered', names=['c'])
    found.update(message='1 tensors keep what they have')
    data = dict(version=1, seed=0, tensors=tensors, rules=[rule])
    path = tmp_path / 'report.json'
    path.write_text(json.dumps(dict(data, findings=[found])))
    report = InitReport.load(str(path))
    assert [t.origin for t in report.tensors] == ['file', 'rule', 'built']
    assert report.tensors[1].source == 'a'
    assert (report.known_by, report.checkpoints) == ('', [])
    assert (report.findings[0].rule, report.findings[0].path) == (None, None)
    assert report.text().splitlines()[-3:] == [
        '3 tensors: 1 from files, 0 put in by code, 1 from rules, 1 as built',
        'warning [uncovered] 1 tensors keep what they have',
        '  c',
    ]
    report.save_figure(str(tmp_path / 'figure.png'))
    # Saved anew, it is of this version.
    report.save(str(path))
    assert json.loads(path.read_text())['version'] == 2
    assert InitReport.load(str(path)) == report
