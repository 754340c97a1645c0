"""Run the demo: pretrain, insert SE blocks, fine-tune, compare."""

import os.path as osp
import textwrap
from typing import Any, Dict, List

from mmengine.config import Config
from mmengine.runner import Runner
from rich.console import Console

from ..hook import CustomModuleInitHook
from .comparison import (
    ARMS,
    Curve,
    MetricCurve,
    find_hook,
    make_table,
    plot,
    save_weights,
    train,
)

CONFIGS = osp.join(osp.dirname(__file__), 'configs')
EXPLANATION = (
    "New SE blocks with PyTorch's default weights halve every residual "
    'branch, so that the pretrained weights, intact as they are, no longer '
    'fit together, and fine-tuning has to repair that first. Initialised by '
    'the hook to start as almost the identity, the same blocks leave the '
    'network as good as it was, and training goes on from there.'
)


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
        checkpoint = save_weights(_train('pretrain', work_dir, seed))
        runners = {
            name: _train(name, work_dir, seed, load_from=checkpoint)
            for name, _, _ in ARMS
        }
        for name, runner in runners.items():
            curve = find_hook(runner, MetricCurve).curve('accuracy')
            curves[name].append(curve)
        plain, with_hook, without = (
            curves[name][-1][0][1] for name, _, _ in ARMS
        )
        console.print(
            f'seed {seed}: the pretrained net has {plain:.1f} % right; '
            f'with new SE blocks {without:.1f} %, and {with_hook:.1f} % '
            'where the hook initialised them'
        )
    title = 'Accuracy (%) while fine-tuning on 100 images'
    console.print(make_table(curves, title, [0, 10, 60]))
    console.print(textwrap.fill(EXPLANATION, 79))
    figure = osp.join(work_dir, 'accuracy.png')
    plot(
        curves,
        figure,
        'fine-tuning iteration (20 images each)',
        'accuracy on 500 test images (%)',
    )
    console.print(f'\nFigure: {figure}')
    runner = runners['finetune_se_hook']
    report = find_hook(runner, CustomModuleInitHook).report
    console.print(
        'Where the weights of the last network with the hook came from:\n'
        f'{report.summary()}; each tensor '
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
    return train(cfg)
