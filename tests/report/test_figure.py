"""The figure of a report."""

import pathlib
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from mmengine.registry import VISBACKENDS
from mmengine.visualization import BaseVisBackend
from PIL import Image
from toy import SE_ZERO, build_runner, hooks, pretrained, report_of
from work import Work

from mmpartinit import InitReport
from mmpartinit.report.figure import (
    as_image,
    draw_report,
    model_parts,
    value_size,
)
from mmpartinit.report.records import TensorRecord

COLOURS = dict(
    file='#0072B2',
    code='#56B4E9',
    rule='#E69F00',
    built='#8C8C8C',
)


def record(name, origin='file', mean=0.0, std=0.1):
    rule = 0 if origin == 'rule' else None
    return TensorRecord(name, [8, 8], 'float32', origin, rule, mean, std)


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


@pytest.mark.parametrize('blocks', [1, 25, 166])
def test_20_and_2000_tensors_fit_a_column(blocks):
    report = InitReport(0, detector(blocks), [])
    assert len(report.tensors) == 12 * blocks + 5
    figure = draw_report(report.tensors)
    image = as_image(figure)
    width, height = figure.get_size_inches()
    assert width == 3.4 and height < 5
    assert image.dtype == np.uint8 and image.shape[2] == 3
    sizes = [
        text.get_fontsize()
        for axes in figure.axes
        for text in [*axes.get_yticklabels(), *axes.get_xticklabels()]
    ]
    assert min(sizes) >= 6
    # No label is cut off at the left, and none lies over another.
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in figure.axes[0].get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0
    boxes = sorted(boxes, key=lambda box: box.y0)
    assert all(a.y1 <= b.y0 for a, b in zip(boxes, boxes[1:]))


@pytest.mark.parametrize('count', [1, 2000])
def test_all_four_origins_are_seen_and_named(count):
    figure = draw_report(four_origins(count))
    image = as_image(figure)
    assert all(pixels(image, colour) > 100 for colour in COLOURS.values())
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f'from a file ({count})',
        f'put in by code ({count})',
        f'from a rule ({count})',
        f'as built ({count})',
    ]
    # It is cut off nowhere, and above all else.
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height
    assert all(box.y0 >= axes.bbox.y1 for axes in figure.axes)


def test_2000_tensors_are_hardly_more_work_to_draw_than_20():
    few, many = detector(1), detector(166)
    draw_report(few)  # fonts are looked for once
    calls = []
    for tensors in (few, many):
        as_image(draw_report(tensors))
        with Work() as work:
            as_image(draw_report(tensors))
        calls.append(work.calls)
    assert 10_000 < calls[0] < calls[1] < 3 * calls[0]


def test_bars_show_the_share_of_each_origin():
    tensors = [record(f'a.{i}.weight') for i in range(6)]
    tensors += [record(f'a.{i}.bias', 'rule') for i in range(2)]
    tensors += [record('b.weight', 'built')]
    tensors += [record('b.num_batches_tracked', 'built')]
    axes = draw_report(tensors).axes[0]
    bars = [
        (round(bar.get_y()), bar.get_x(), bar.get_width())
        for bar in axes.patches[:3]
    ]
    # Row, start and width; counters do not count.
    assert bars == [(0, 0, 75), (0, 75, 25), (1, 0, 100)]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ['a', 'b']


def test_marks_tell_origins_apart_without_colour():
    figure = draw_report(four_origins(9))
    marks = figure.axes[1].collections
    assert len({m.get_paths()[0].vertices.tobytes() for m in marks}) == 4
    bars = figure.axes[0].patches[:4]
    assert len({bar.get_hatch() for bar in bars}) == 4
    # Each origin has a lane of its own in a row.
    lanes = [np.asarray(m.get_offsets())[:, 1] for m in marks]
    assert all(a.max() < b.min() for a, b in zip(lanes, lanes[1:]))


def test_a_wrong_scale_is_seen():
    """New weights a thousand times too large stand apart."""

    def rows(report):
        figure = draw_report(report.tensors)
        points = dict(zip(COLOURS, figure.axes[1].collections))
        known = np.asarray(points['file'].get_offsets())[:, 0]
        new = np.asarray(points['rule'].get_offsets())[:, 0]
        return known, new[new > known.min() - 1]

    known, new = rows(InitReport(0, detector(4, std=0.1), []))
    assert abs(new.max() - known.max()) < 0.1
    known, new = rows(InitReport(0, detector(4, std=100.0), []))
    assert new.max() - known.max() == pytest.approx(3, abs=0.1)


def test_a_plan_has_no_values_and_a_figure_all_the_same():
    tensors = detector(2)
    for tensor in tensors:
        tensor.mean = tensor.std = None
    assert len(draw_report(tensors).axes) == 1


def test_parts_of_a_model():
    def labels(names):
        parts = model_parts([record(name) for name in names])
        assert [t.name for p in parts for t in p.tensors] == names
        return [part.label for part in parts]

    assert labels(['head.weight', 'head.bias']) == ['head']
    assert labels(['weight', 'bias', 'a.weight']) == ['weight', 'bias', 'a']
    layers = [
        f'backbone.layer{i}.{j}.conv.weight'
        for i in range(1, 5)
        for j in range(6)
    ]
    assert labels([*layers, 'head.weight']) == [
        *(f'backbone.layer{i}' for i in range(1, 5)),
        'head',
    ]
    many = [f'vit.blocks.{i}.{j}.weight' for i in range(48) for j in range(9)]
    found = labels([*many, 'head.weight'])
    assert len(found) == 12
    assert found[0] == 'vit.blocks.0–3' and found[-1] == 'head'


def test_the_size_of_values():
    assert value_size(record('a', mean=3.0, std=4.0)) == 5
    assert value_size(record('bn.running_var', mean=1.0)) is None
    assert value_size(record('a', mean=None, std=None)) is None


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
