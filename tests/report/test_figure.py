"""The figure of a report."""

import pathlib
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.patches import PathPatch
from mmengine.registry import VISBACKENDS
from mmengine.visualization import BaseVisBackend
from PIL import Image
from toy import SE_ZERO, build_runner, hooks, pretrained, report_of
from work import Work

from mmpartinit import InitReport
from mmpartinit.report.figure import as_image, draw_report
from mmpartinit.report.panels import value_size
from mmpartinit.report.records import RuleRecord, TensorRecord

COLOURS = dict(
    file='#0072B2',
    code='#56B4E9',
    rule='#E69F00',
    built='#8C8C8C',
)


def record(name, origin='file', mean=0.0, std=0.1, shape=(8, 8), **more):
    if origin == 'rule':
        more.setdefault('rule', 0)
    return TensorRecord(
        name, list(shape), 'float32', origin, mean=mean, std=std, **more
    )


def detector(blocks, mean=0.0, std=0.1):
    """Tensors of a backbone with new blocks, a neck and a head."""
    tensors = []
    for block in range(blocks):
        stem = f'backbone.layers.{block}'
        tensors += [record(f'{stem}.attn.{i}.weight') for i in range(10)]
        tensors += [
            record(f'{stem}.se.fc1.weight', 'rule', mean, std),
            record(f'{stem}.se.fc2.weight', 'rule', 0.0, 0.0),
        ]
    tensors += [record(f'neck.{i}.weight', 'built') for i in range(4)]
    return [*tensors, record('head.weight', 'built')]


def four_origins(count):
    """So many tensors of each origin, in one part of a model."""
    return [
        record(f'a.{origin}.{i}', origin)
        for i in range(count)
        for origin in COLOURS
    ]


def pixels(image, colour):
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((image == np.array(rgb, np.uint8)).all(-1).sum())


@pytest.fixture
def trained(work_dir, tmp_path):
    pretrained(tmp_path / 'weights.pth')
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(SE_ZERO),
        load_from=str(tmp_path / 'weights.pth'),
    )
    runner.train()
    return runner


def test_a_start_leaves_the_figure_beside_the_report(trained):
    path = f'{trained.log_dir}/init_report.png'
    with Image.open(path) as image:
        assert image.format == 'PNG'
        image = np.asarray(image.convert('RGB'))
    assert image.shape[1] == 680 and 300 < image.shape[0] < 1200
    origins = {tensor.origin for tensor in report_of(trained).tensors}
    assert origins >= {'file', 'rule', 'built'}
    assert all(pixels(image, COLOURS[origin]) > 100 for origin in origins)
    # The visualizer's local backend has the same.
    stored = f'{trained.log_dir}/vis_data/vis_image/init_report_0.png'
    with Image.open(stored) as other:
        assert (np.asarray(other.convert('RGB')) == image).all()
    assert path in open(f'{trained.log_dir}/{trained.timestamp}.log').read()


def test_every_backend_of_the_visualizer_gets_the_figure(work_dir):
    """As TensorBoard's and WandB's do, which are such classes."""
    given = []

    @VISBACKENDS.register_module(name='Board')
    class Board(BaseVisBackend):
        experiment = None

        def _init_env(self):
            pass

        def add_image(self, name, image, step=0, **kwargs):
            given.append((name, image.shape[2], step))

    backends = [dict(type='LocalVisBackend'), dict(type='Board')]
    try:
        build_runner(
            work_dir,
            custom_hooks=hooks(SE_ZERO),
            visualizer=dict(type='Visualizer', vis_backends=backends),
        ).train()
    finally:
        VISBACKENDS.module_dict.pop('Board')
    assert given == [('init_report', 3, 0)]


def texts(figure):
    """All that is written in a figure, as drawn."""
    figure.canvas.draw()
    (legend,) = figure.legends
    found = list(legend.get_texts())
    for axes in figure.axes:
        found += [*axes.get_yticklabels(), *axes.get_xticklabels()]
        found += [axes.xaxis.label, *axes.texts]
    return [text for text in found if text.get_text()]


def bars_of(figure):
    """Each kind's parts of the upper bars, then of the lower ones."""
    return [p for p in figure.axes[0].patches if isinstance(p, PathPatch)]


def parts_of(bar):
    """The first three corners of each part, from the left at the top."""
    return bar.get_path().vertices.reshape(-1, 5, 2)[:, :3].tolist()


def labels(figure):
    """The labels of the rows, without their line breaks."""
    ticks = figure.axes[0].get_yticklabels()
    return [tick.get_text().replace('\n', '') for tick in ticks]


def in_legend(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def check_layout(figure):
    """No text is cut, and none lies over another or over bars and marks."""
    found = texts(figure)
    assert all(text.get_fontsize() >= 5 for text in found)
    boxes = [text.get_window_extent() for text in found]
    for box in boxes:
        assert 0 <= box.x0 and box.x1 <= figure.bbox.width
        assert 0 <= box.y0 and box.y1 <= figure.bbox.height
    # Lines of text are set a little more tightly than their boxes.
    inner = [box.padded(-0.1 * min(box.height, box.width)) for box in boxes]
    for number, box in enumerate(inner):
        assert box.count_overlaps(inner[number + 1 :]) == 0
    panels = [axes.get_window_extent() for axes in figure.axes]
    for tick in figure.axes[0].get_yticklabels():
        assert tick.get_window_extent().count_overlaps(panels) == 0
    (legend,) = figure.legends
    assert legend.get_window_extent().count_overlaps(panels) == 0


@pytest.mark.parametrize('blocks', [1, 25, 166])
def test_20_and_2000_tensors_fit_a_column(blocks):
    report = InitReport(0, detector(blocks), [])
    assert len(report.tensors) == 12 * blocks + 5
    figure = draw_report(report.tensors)
    image = as_image(figure)
    width, height = figure.get_size_inches()
    assert width == 3.4 and height < 5
    assert image.dtype == np.uint8 and image.shape[2] == 3
    check_layout(figure)


@pytest.mark.parametrize('count', [1, 2000])
def test_all_four_origins_are_seen_and_named(count):
    figure = draw_report(four_origins(count))
    image = as_image(figure)
    assert all(pixels(image, colour) > 100 for colour in COLOURS.values())
    assert in_legend(figure) == [
        f'a file, not known which ({count})',
        f'put in by code ({count})',
        f'rule 0 ({count})',
        f'as built ({count})',
    ]
    check_layout(figure)


def test_files_have_their_names():
    def named(*files):
        tensors = [
            record(f'a.{i}.{j}', file=file)
            for i, file in enumerate(files)
            for j in range(9 - i)
        ]
        figure = draw_report(tensors)
        check_layout(figure)
        return in_legend(figure)

    name = 'https://download.pytorch.org/models/resnet50-0676ba61.pth'
    assert named(name) == ['resnet50-0676ba61.pth (9)']
    assert named('C:\\w\\a.pth', '/w/b.pth', None) == [
        'a.pth (9)',
        'b.pth (8)',
        'a file, not known which (7)',
    ]
    assert named('w/a.pth', 'w/b.pth', 'w/c.pth', 'w/d.pth') == [
        'a.pth (9)',
        'b.pth (8)',
        '2 other files (13)',
    ]
    assert named('w/x/last.pth', 'w/y/last.pth') == [
        'x/last.pth (9)',
        'y/last.pth (8)',
    ]


@pytest.mark.parametrize('count', [2, 6, 30])
def test_rules_are_told_apart(count):
    """By number, hatch and name, in bars, marks and the legend."""
    tensors = [
        record(f'a.se{rule}.{i}', 'rule', rule=rule, std=10.0 ** (rule % 3))
        for rule in range(count)
        for i in range(4)
    ]
    rules = [RuleRecord(i, [f'a.se{i}', 'b'], []) for i in range(count)]
    figure = draw_report(tensors, rules)
    check_layout(figure)
    shown = min(count, 6)
    marks = figure.axes[1].collections[:shown]
    assert len({m.get_paths()[0].vertices.tobytes() for m in marks}) == shown
    bars = bars_of(figure)[:shown]
    assert len({bar.get_hatch() for bar in bars}) == shown
    assert len({bar.get_facecolor() for bar in bars}) == shown
    own = range(count if count <= 6 else 5)
    told = [f'rule {i}: a.se{i} and 1 more (4)' for i in own]
    if count > 6:
        told.append(f'{count - 5} other rules ({4 * (count - 5)})')
    assert in_legend(figure) == told
    # On bars, each number is drawn twice, for its white edge.
    numbers = [m.get_paths()[0] for m in figure.axes[0].collections]
    on_marks = {m.get_paths()[0].vertices.tobytes() for m in marks}
    assert {path.vertices.tobytes() for path in numbers} == on_marks
    assert len(numbers) == 2 * shown
    assert all(len(m.get_offsets()) for m in figure.axes[0].collections)


def test_2000_tensors_are_hardly_more_work_to_draw_than_200():
    few, many = detector(16), detector(166)
    draw_report(few)  # fonts are looked for once
    calls = []
    for tensors in (few, many):
        as_image(draw_report(tensors))
        with Work() as work:
            as_image(draw_report(tensors))
        calls.append(work.calls)
    assert 10_000 < calls[0] < calls[1] < 2 * calls[0]


def test_bars_show_shares_of_tensors_and_of_parameters():
    tensors = [record(f'a.{i}.weight', shape=(100,)) for i in range(6)]
    tensors += [record(f'a.{i}.bias', 'rule', shape=(200,)) for i in range(2)]
    tensors += [record('b.weight', 'built', shape=(5000, 5000))]
    tensors += [record('b.num_batches_tracked', 'built', shape=())]
    tensors += [record('c.weight', shape=(0, 3))]
    axes = draw_report(tensors).axes[0]
    upper, lower = {}, {}
    for bar in bars_of(axes.figure):
        for (left, top), (right, _), (_, bottom) in parts_of(bar):
            middle = (top + bottom) / 2
            found = upper if middle < round(middle) else lower
            share = pytest.approx(left), pytest.approx(right - left)
            found.setdefault(round(middle), []).append(share)
    # Start and width in each row; counters do not count.
    assert upper == {
        0: [(0, 0.75), (0.75, 0.25)],
        1: [(0, 1)],
        2: [(0, 1)],
    }
    assert lower == {0: [(0, 0.6), (0.6, 0.4)], 2: [(0, 1)]}
    assert labels(axes.figure) == ['a', 'c', 'b']
    numbers = [text.get_text() for text in axes.texts]
    assert numbers == ['8', '1', '1', '1000', '0', '25 M']


def test_a_sliver_is_seen_and_a_bar_ends_at_its_end():
    tensors = [record(f'a.{i}', shape=(10**6,)) for i in range(999)]
    tensors += [record('a.new', 'rule', shape=(1,))]
    bars = bars_of(draw_report(tensors))
    for (((left, _), (right, _), _),) in map(parts_of, (bars[1], bars[3])):
        assert 0.01 < right - left < 0.02
        assert right == pytest.approx(1)


def test_marks_tell_origins_apart_without_colour():
    figure = draw_report(four_origins(9))
    marks = figure.axes[1].collections
    assert len({m.get_paths()[0].vertices.tobytes() for m in marks}) == 4
    assert len({bar.get_hatch() for bar in bars_of(figure)[:4]}) == 4
    # Each origin has a lane of its own in a row.
    lanes = [np.asarray(m.get_offsets())[:, 1] for m in marks]
    assert all(a.max() < b.min() for a, b in zip(lanes, lanes[1:]))


def test_statistics_of_a_covered_norm_are_not_as_built():
    leaves = ('weight', 'bias', 'running_mean', 'running_var')
    tensors = [record(f'a.bn.{leaf}') for leaf in leaves]
    for leaf in leaves:
        origin = 'built' if leaf.startswith('running') else 'rule'
        tensors.append(record(f'a.se.bn.{leaf}', origin))
    rules = [RuleRecord(0, ['a.se'], [], matched=['a.se'])]
    assert in_legend(draw_report(tensors, rules)) == [
        'a file, not known which (4)',
        'rule 0: a.se (2)',
    ]
    assert in_legend(draw_report(tensors))[-1] == 'as built (2)'


def test_a_wrong_scale_is_seen():
    """New weights a thousand times too large stand apart."""

    def rows(report):
        figure = draw_report(report.tensors)
        points = dict(zip(('file', 'rule'), figure.axes[1].collections))
        known = np.asarray(points['file'].get_offsets())[:, 0]
        new = np.asarray(points['rule'].get_offsets())[:, 0]
        return known, new[new > known.min() - 1]

    known, new = rows(InitReport(0, detector(4, std=0.1), []))
    assert abs(new.max() - known.max()) < 0.1
    known, new = rows(InitReport(0, detector(4, std=100.0), []))
    assert new.max() - known.max() == pytest.approx(3, abs=0.1)


def test_one_odd_value_leaves_the_others_apart():
    """Such as memory that nobody wrote to."""
    tensors = [*detector(4), record('odd', 'built', std=1e30)]
    axes = draw_report([*tensors, record('tiny', std=1e-30)]).axes[1]
    assert axes.get_xlim()[1] - axes.get_xlim()[0] < 20
    found = np.concatenate([m.get_offsets()[:, 0] for m in axes.collections])
    low, high = axes.get_xlim()
    assert low < found.min() and found.max() < high


def test_a_plan_has_no_values_and_a_figure_all_the_same():
    tensors = detector(2)
    for tensor in tensors:
        tensor.mean = tensor.std = None
    assert len(draw_report(tensors).axes) == 1


NAN, INF = float('nan'), float('inf')
ENDLESS = 'a_name_that_goes_on_and_on_' * 9


@pytest.mark.parametrize(
    'tensors',
    [
        [],
        [record('w')],
        [record('a.w', std=NAN), record('a.b', mean=INF), record('b.w')],
        [record('a.w', std=1e300), record('b.w', 'rule', std=1e-300)],
        [record('a.w', mean=None), record('b.w', 'rule', rule=None)],
        [record('a.w', shape=(0, 3)), record('b.w', 'rule', shape=(0,))],
        [record('a.w', shape=(10**9, 10**9)), record('b.w', shape=())],
        [record('p$q^$r_{.w$', 'rule'), record('b', file='/x/$a^$.pth')],
        [record(f'{ENDLESS}{i}.w', 'rule', rule=i) for i in range(40)],
        [record(f'a.{ENDLESS}.{i}', file=f'{ENDLESS}{i}') for i in range(9)],
        [record('W' * 30 + '.' + 'M' * 40), record('b.w', 'rule', rule=123)],
        [record('a\nb.w'), record('[bold]a.w'), record(' . .')],
    ],
)
def test_odd_reports_are_drawn(tensors):
    numbers = {tensor.rule for tensor in tensors} - {None}
    rules = [RuleRecord(i, ['$a^{', ENDLESS], []) for i in numbers]
    for given in (rules, []):
        figure = draw_report(tensors, given)
        assert len(set(labels(figure))) == len(labels(figure))
        check_layout(figure)


def test_labels_are_whole():
    """However long the names of modules are, and each is another one."""
    start = 'backbone.encoder_layers_of_the_transformer'
    tensors = [
        record(f'{start}.{i}.attention.{part}.weight', origin)
        for i in range(12)
        for part, origin in (('query', 'file'), ('adapter', 'rule'))
    ]
    figure = draw_report(tensors)
    assert labels(figure) == [f'{start}.{i}' for i in range(12)]
    check_layout(figure)


def test_the_size_of_values():
    assert value_size(record('a', mean=3.0, std=4.0)) == 5
    assert value_size(record('bn.running_var', mean=1.0)) is None
    assert value_size(record('a', mean=None, std=None)) is None
    assert value_size(record('a', mean=NAN)) is None
    assert value_size(record('a', std=INF)) is None


def test_importing_the_package_imports_no_matplotlib():
    program = (
        'import sys, mmpartinit, mmpartinit.report.figure; '
        'print("imported" if "matplotlib" in sys.modules else "not imported")'
    )
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == 'not imported', done.stderr


@VISBACKENDS.register_module()
class TakesNoImages(BaseVisBackend):
    """As MLflow's, whose images need a name with an ending."""

    def _init_env(self):
        pass

    @property
    def experiment(self):
        return None

    def add_image(self, *args, **kwargs):
        raise ValueError('unknown file extension')


@pytest.mark.parametrize('what', ['backend', 'folder', 'name'])
def test_what_cannot_be_shown_stops_no_training(work_dir, what, monkeypatch):
    changes = {}
    if what == 'backend':
        backends = [dict(type='TakesNoImages')]
        changes = dict(
            visualizer=dict(type='Visualizer', vis_backends=backends)
        )
    runner = build_runner(work_dir, custom_hooks=hooks(SE_ZERO), **changes)
    if what == 'folder':
        runner._log_dir = str(work_dir / 'gone')
    if what == 'name':
        monkeypatch.setitem(matplotlib.rcParams, 'text.usetex', True)
        runner.model.head.add_module('p$q^$r_{', torch.nn.Linear(2, 2))
    said = []
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.train()
    assert runner.iter == 4
    told = [text for text in said if 'Training goes on' in text]
    assert len(told) == (what != 'name')
    path = work_dir / 'gone' if what == 'folder' else runner.log_dir
    files = [p for p in pathlib.Path(path).glob('init_report*')]
    assert len(files) == (0 if what == 'folder' else 2)


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'init_report.json'
    report = InitReport(0, [record('a.weight')], [])
    report.save(str(path))
    text = path.read_text()
    report.tensors[0].mean = {1, 2}  # nothing that JSON has
    with pytest.raises(TypeError):
        report.save(str(path))
    assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ['init_report.json']
