"""Train configs of this folder, one after the other, and show their mAP.

Run it from the folder that holds ``configs``:
``python -m configs.digits_detection.train pretrain_seven finetune_ten``.
"""

import argparse
import os.path as osp
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner
from rich import box
from rich.console import Console
from rich.table import Table

from configs.digits_detection.make_data import make_data
from mmpartinit.demo.comparison import (
    MetricCurve,
    save_weights,
    train,
)

CONFIGS = osp.dirname(osp.abspath(__file__))
WORK_DIR = 'work_dirs/digits_detection'  # as the configs have it
# What `--quick` changes: enough to see that everything runs.
QUICK = {
    'pretrain': {
        'train_cfg.max_iters': 4,
        'train_cfg.val_interval': 4,
        'model.test_cfg.score_thr': 0.0,
    },
    'finetune': {
        'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 1,
        'model.test_cfg.score_thr': 0.0,
    },
}


def prepare(work_dir: str, seed: int, quick: bool) -> None:
    """Write the data of a seed.

    Args:
        work_dir (str): Folder for data, logs and weights.
        seed (int): The seed.
        quick (bool): Whether a few canvases will do.
    """
    sizes = dict(train=20, few=10, test=10) if quick else None
    make_data(_data(work_dir, seed), seed, sizes)


def train_one(
    name: str, work_dir: str, seed: int, quick: bool, **changes: Any
) -> Runner:
    """Train one config of this folder.

    Args:
        name (str): Its name, without ending.
        work_dir (str): Folder with the data, for logs and weights.
        seed (int): The seed.
        quick (bool): Whether to train for a few iterations only.
        **changes (Any): Keys of the config and their values.
    """
    cfg = Config.fromfile(osp.join(CONFIGS, f'{name}.py'))
    if quick:
        cfg.merge_from_dict(QUICK[name.split('_')[0]])
    data = _data(work_dir, seed)
    cfg.merge_from_dict(
        {
            'work_dir': osp.join(work_dir, f'{name}_seed{seed}'),
            'randomness.seed': seed,
            'train_dataloader.dataset.data_root': data,
            'val_dataloader.dataset.data_root': data,
            'val_evaluator.ann_file': osp.join(data, 'test.json'),
            **changes,
        }
    )
    return train(cfg)


def _data(work_dir: str, seed: int) -> str:
    return osp.join(work_dir, f'data_seed{seed}', '')


def _table(name: str, curve: MetricCurve) -> Table:
    """The mAP, of all classes and of each, whenever it was measured."""
    metrics = curve.metrics
    table = Table(box=box.SIMPLE_HEAD, padding=0, title=f'{name}: mAP (%)')
    table.add_column('iteration')
    last = metrics[-1][1]
    keys = ['coco/bbox_mAP', *(k for k in last if '_precision' in k)]
    for key in keys:
        label = key.replace('coco/', '').replace('_precision', '')
        table.add_column(label.replace('bbox_mAP', 'all'), justify='right')
    for step, values in metrics:
        # No value where nothing was found.
        cells = [f'{100 * values.get(key, 0):.1f}' for key in keys]
        table.add_row(str(step), *cells)
    return table


def main() -> None:
    """Read the words and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='+', help='such as finetune_se_frozen')
    parser.add_argument(
        '--quick', action='store_true', help='only see that everything runs'
    )
    words = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    prepare(WORK_DIR, 0, words.quick)
    for name in words.names:
        runner = train_one(name, WORK_DIR, 0, words.quick)
        for hook in runner.hooks:
            if isinstance(hook, MetricCurve):
                console.print(_table(name, hook))
        console.print(f'{save_weights(runner)}\n{runner.log_dir}')


if __name__ == '__main__':
    main()
