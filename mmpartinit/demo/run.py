"""Run the demo: pretrain, insert SE blocks, fine-tune, compare."""

import contextlib
import io
import os.path as osp
import statistics
import textwrap
from typing import Any, Dict, List, Tuple, Type

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich import box
from rich.console import Console
from rich.table import Table

from ..hook import CustomModuleInitHook
from .digits import AccuracyCurve

CONFIGS = osp.join(osp.dirname(__file__), 'configs')
# Config, label, and a colour that the colour-blind can tell from the others
# (Okabe and Ito's palette).
ARMS = (
    ('finetune', 'pretrained', '#000000'),
    ('finetune_se_hook', 'with SE, hook', '#0072B2'),
    ('finetune_se', 'with SE, no hook', '#D55E00'),
)
EXPLANATION = (
    "New SE blocks with PyTorch's default weights halve every residual "
    'branch, so that the pretrained weights, intact as they are, no longer '
    'fit together, and fine-tuning has to repair that first. Initialised by '
    'the hook to start as almost the identity, the same blocks leave the '
    'network as good as it was, and training goes on from there.'
)
Curve = List[Tuple[int, float]]


def run_demo(work_dir: str, seeds: int) -> Dict[str, List[Curve]]:
    """Run all arms, and print and plot what came out.

    Args:
        work_dir (str): Folder for logs, checkpoints and the figure.
        seeds (int): How many seeds to run, from 0.

    Returns:
        dict[str, list[list[tuple[int, float]]]]: For each arm and seed, the
        iterations and the accuracy on 500 test images in percent.
    """
    console = Console(highlight=False, soft_wrap=True)
    curves: Dict[str, List[Curve]] = {name: [] for name, _, _ in ARMS}
    for seed in range(seeds):
        runner = _train('pretrain', work_dir, seed)
        # Weights alone: torch 2.6 and later refuse to read the rest of a
        # checkpoint of mmengine 0.10.
        checkpoint = osp.join(runner.work_dir, 'weights.pth')
        torch.save(runner.model.state_dict(), checkpoint)
        runners = {
            name: _train(name, work_dir, seed, load_from=checkpoint)
            for name, _, _ in ARMS
        }
        for name, runner in runners.items():
            curves[name].append(_hook(runner, AccuracyCurve).points)
        plain, with_hook, without = (
            curves[name][-1][0][1] for name, _, _ in ARMS
        )
        console.print(
            f'seed {seed}: the pretrained net has {plain:.1f} % right; '
            f'with new SE blocks {without:.1f} %, and {with_hook:.1f} % '
            'where the hook initialised them'
        )
    console.print(_table(curves))
    console.print(textwrap.fill(EXPLANATION, 79))
    figure = osp.join(work_dir, 'accuracy.png')
    plot(curves, figure)
    console.print(f'\nFigure: {figure}')
    runner = runners['finetune_se_hook']
    console.print(
        'Where the weights of the last network with the hook came from:\n'
        f'{_hook(runner, CustomModuleInitHook).report.summary()}; each tensor '
        f'in\n{osp.join(runner.log_dir, "init_report.json")}'
    )
    return curves


def _train(name: str, work_dir: str, seed: int, **changes: Any) -> Runner:
    cfg = Config.fromfile(osp.join(CONFIGS, f'{name}.py'))
    cfg.merge_from_dict(
        {
            'work_dir': osp.join(work_dir, f'{name}_seed{seed}'),
            'randomness.seed': seed,
            'train_dataloader.dataset.seed': seed,
            'val_dataloader.dataset.seed': seed,
            **changes,
        }
    )
    # What the runner prints is in its log files as well.
    with contextlib.redirect_stdout(io.StringIO()):
        runner = Runner.from_cfg(cfg)
        runner.train()
    return runner


def _hook(runner: Runner, kind: Type[Hook]) -> Hook:
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


def _table(curves: Dict[str, List[Curve]]) -> Table:
    iterations = [0, 10, 60]
    seeds = len(next(iter(curves.values())))
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f'Accuracy (%) while fine-tuning on 100 images: mean of {seeds} '
        'seeds (lowest-highest)',
    )
    table.add_column('network')
    for iteration in iterations:
        table.add_column(f'iteration {iteration}', justify='right')
    for name, label, _ in ARMS:
        cells = []
        for iteration in iterations:
            values = [dict(curve)[iteration] for curve in curves[name]]
            cells.append(
                f'{statistics.mean(values):.1f} '
                f'({min(values):.1f}-{max(values):.1f})'
            )
        table.add_row(label, *cells)
    return table


def plot(curves: Dict[str, List[Curve]], path: str) -> None:
    """Draw accuracy over iterations: the mean, and the range of the seeds.

    Args:
        curves (dict): As :func:`run_demo` gives them.
        path (str): File to write; its ending says the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout='constrained')
    axes = figure.subplots()
    for name, label, colour in ARMS:
        runs = [[value for _, value in curve] for curve in curves[name]]
        iterations = [iteration for iteration, _ in curves[name][0]]
        means = [statistics.mean(values) for values in zip(*runs)]
        # Dashed and on top, so that the two that nearly coincide both show.
        style = dict(linestyle='--', zorder=3) if name == 'finetune' else {}
        axes.plot(iterations, means, color=colour, label=label, **style)
        axes.fill_between(
            iterations,
            [min(values) for values in zip(*runs)],
            [max(values) for values in zip(*runs)],
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
    axes.set_xlabel('fine-tuning iteration (20 images each)')
    axes.set_ylabel('accuracy on 500 test images (%)')
    axes.set_ylim(0, 102)
    axes.set_xlim(0, iterations[-1])
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(loc='lower right', frameon=False)
    figure.savefig(path, dpi=200)
