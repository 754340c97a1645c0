"""What a comparison of fine-tuning with the hook and without is made of.

Three arms, a hook that keeps what the evaluator gives, a table and a figure.
"""

import contextlib
import io
import os.path as osp
import statistics
from typing import Any, Dict, List, Sequence, Tuple, Type

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from rich import box
from rich.table import Table

# Config, label, and a colour that the colour-blind can tell from the others
# (Okabe and Ito's palette).
ARMS = (
    ('finetune', 'pretrained', '#000000'),
    ('finetune_se_hook', 'with SE, hook', '#0072B2'),
    ('finetune_se', 'with SE, no hook', '#D55E00'),
)
Curve = List[Tuple[int, float]]


@HOOKS.register_module()
class MetricCurve(Hook):
    """Also evaluates before the first iteration, and keeps what comes out.

    Attributes:
        metrics (list[tuple[int, dict[str, float]]]): Iteration, and what the
            evaluator gave.
    """

    # When all others have prepared the model.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.metrics: List[Tuple[int, Dict[str, float]]] = []

    def before_train(self, runner: Any) -> None:
        runner.val_loop.run()

    def after_val_epoch(self, runner: Any, metrics: Dict[str, float]) -> None:
        self.metrics.append((runner.iter, dict(metrics)))

    def curve(self, name: str, scale: float = 1.0) -> Curve:
        """One metric over the iterations.

        Args:
            name (str): The metric's name.
            scale (float): What its values are multiplied by.
        """
        return [(step, scale * values[name]) for step, values in self.metrics]


def train(cfg: Config) -> Runner:
    """Train; what the runner prints is in its log files alone.

    Args:
        cfg (Config): Config of the run.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        runner = Runner.from_cfg(cfg)
        runner.train()
    return runner


def save_weights(runner: Runner) -> str:
    """Save the weights alone, and give the file's name.

    torch 2.6 and later refuse to read the rest of a checkpoint of mmengine
    0.10.

    Args:
        runner (Runner): The runner whose model and folder are meant.
    """
    path = osp.join(runner.work_dir, 'weights.pth')
    torch.save(runner.model.state_dict(), path)
    return path


def find_hook(runner: Runner, kind: Type[Hook]) -> Hook:
    """The runner's first hook of a class.

    Args:
        runner (Runner): The runner.
        kind (type): The class.
    """
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


def make_table(
    curves: Dict[str, List[Curve]], title: str, iterations: Sequence[int]
) -> Table:
    """Mean, lowest and highest of the seeds, for each arm.

    Args:
        curves (dict): For each arm, the curve of each seed, in percent.
        title (str): What the values are.
        iterations (Sequence[int]): Where to read the curves.
    """
    seeds = len(next(iter(curves.values())))
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f'{title}: mean of {seeds} seeds (lowest-highest)',
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


def plot(
    curves: Dict[str, List[Curve]], path: str, xlabel: str, ylabel: str
) -> None:
    """Draw curves over iterations: the mean, and the range of the seeds.

    Args:
        curves (dict): For each arm, the curve of each seed, in percent.
        path (str): File to write; its ending says the format.
        xlabel (str): What an iteration is.
        ylabel (str): What the values are.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout='constrained')
    axes = figure.subplots()
    for name, label, colour in ARMS:
        runs = [[value for _, value in curve] for curve in curves[name]]
        iterations = [iteration for iteration, _ in curves[name][0]]
        means = [statistics.mean(values) for values in zip(*runs)]
        # Dashed and on top, so that the two that nearly coincide both show.
        style: Dict[str, Any] = {}
        if name == 'finetune':
            style = dict(linestyle='--', zorder=3)
        axes.plot(iterations, means, color=colour, label=label, **style)
        axes.fill_between(
            iterations,
            [min(values) for values in zip(*runs)],
            [max(values) for values in zip(*runs)],
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_ylim(0, 102)
    axes.set_xlim(0, iterations[-1])
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(loc='lower right', frameon=False)
    figure.savefig(path, dpi=200)
