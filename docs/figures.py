"""Draws figures of the pages, in English and in Chinese, from one run.

    python docs/figures.py demo         # five seeds of `mmpartinit demo`
    python docs/figures.py detector     # three of `make demo-mmdet`
    python docs/figures.py benchmarks   # from the saved table

What programs draw is saved as it is, and once more with each label in Chinese.
A label that `LABELS` lacks is an error. Takes the font Noto Sans CJK SC.
"""

import argparse
import json
import re
import sys
import textwrap
from contextlib import chdir, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Iterator, Mapping
from unittest.mock import patch

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / 'tests/benchmarks')]
FONT = 'Noto Sans CJK SC'
# Patterns of whole labels. Numbers and paths are the same in both languages.
LABELS = {
    r'pretrained': '预训练网络',
    r'with SE, hook': '加 SE，使用钩子',
    r'with SE, no hook': '加 SE，不用钩子',
    r'fine-tuning iteration \((\d+) images each\)': (
        r'迭代次数（每次 \1 张图像）'
    ),
    r'fine-tuning iteration \((\d+) canvases each\)': (
        r'迭代次数（每次 \1 张画布）'
    ),
    r'accuracy on (\d+) test images \(%\)': r'\1 张测试图像上的准确率（%）',
    r'mAP on (\d+) test canvases \(%\)': r'\1 张测试画布上的 mAP（%）',
    r'with the rules': '有规则',
    r'without them': '没有规则',
    r'allowed': '允许的偏差',
    r'drift from the pretrained': '与预训练网络的偏差',
    r'output': '输出',
    r'rule (\d+): (\S+) \((\d+)\)': r'规则 \1：\2（\3）',
    r'as built \((\d+)\)': r'构建时的值（\1）',
    r'upper bar: tensors\nlower bar: parameters': '上：张量数\n下：参数量',
    r'size of values \(RMS\)': '数值大小（RMS）',
    r'ratio; bar: the limit set for it; line: spread of the runs': (
        '比值；竖线：为它定下的上限；横线：各次运行的范围'
    ),
    r'(\S+\.pth) \((\d+)\)': r'\1（\2）',
    r'\S*|0\.01 %|0\.1 %|1 %|10 %|100 %|[\d.]+ [kM]': r'\g<0>',
}


@contextmanager
def in_both_languages(
    names: Mapping[str, str], more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[None]:
    """Save what is drawn for the pages, under other names.

    Args:
        names (dict): For each name that a program gives its file, that of the
            pages.
        more (dict): Labels of these figures alone.
    """
    findfont(FONT, fallback_to_default=False)  # an error where there is none
    save = Figure.savefig

    def save_both(figure: Figure, path: Any, **options: Any) -> None:
        save(figure, path, **options)
        name = names[Path(path).name]
        save(figure, DOCS / 'en/_static' / name, **options)
        for axis in figure.findobj(Axis):
            if isinstance(axis.get_major_locator(), FixedLocator):
                texts = [text.get_text() for text in axis.get_ticklabels()]
                axis.set_ticklabels([chinese(text, more) for text in texts])
        for text in figure.findobj(Text):
            text.set_text(chinese(text.get_text(), more))
            # The second one has what the first lacks.
            text.set_fontfamily(['DejaVu Sans', FONT])
        save(figure, DOCS / 'zh_cn/_static' / name, **options)

    with patch.object(Figure, 'savefig', save_both):
        yield


def chinese(label: str, more: Mapping[str, str]) -> str:
    """A label in Chinese.

    Raises:
        KeyError: If nothing says how.
    """
    if label in more:
        return more[label]
    if label in more.values():  # a tick, which has it from its axis
        return label
    for pattern, text in LABELS.items():
        match = re.fullmatch(pattern, label)
        if match:
            return match.expand(text)
    raise KeyError(f'no Chinese for {label!r}: it takes a line in LABELS')


def draw_demo(folder: Path) -> None:
    """Accuracy while fine-tuning, a report, drift."""
    from mmpartinit.demo.run import CONFIGS, run_demo

    work_dir = folder / 'work_dirs/digits'
    with in_both_languages({'accuracy.png': 'demo.png'}):
        run_demo(str(work_dir), seeds=5)
    weights = work_dir / 'pretrain_seed0/weights.pth'
    _draw_drift(Path(CONFIGS), 'drift.png', folder, weights)
    _draw_report(folder)


def draw_detector(folder: Path) -> None:
    """The detector while fine-tuning, drift."""
    from configs.digits_detection.compare import compare

    with in_both_languages({'map.png': 'detection.png'}):
        compare(str(folder), seeds=3)
    configs = DOCS.parent / 'configs/digits_detection'
    weights = folder / 'pretrain_seed0/weights.pth'
    _draw_drift(configs, 'detector_drift.png', folder, weights)


def _draw_report(folder: Path) -> None:
    """The report of the config that the page on the command walks through."""
    from mmengine.config import Config

    from mmpartinit.demo.comparison import train

    page = (DOCS / 'en/command.md').read_text()
    config, hook, *_ = re.findall('(?ms)^```python\n(.*?)^```', page)
    package = folder / 'mmpartinit'
    if not package.exists():  # which the config inherits from
        package.symlink_to(DOCS.parent / 'mmpartinit')
    with chdir(folder):
        Path('my_se.py').write_text(config + hook)
        cfg = Config.fromfile('my_se.py')
        cfg.work_dir = 'work_dirs/my_se'
        log_dir = Path(train(cfg).log_dir)
        _run('show', log_dir / 'init_report.json', 'init_report.png', Path())


def _draw_drift(configs: Path, name: str, folder: Path, weights: Path) -> None:
    _run(
        'check',
        configs / 'finetune_se_hook.py',
        name,
        folder,
        '--base',
        configs / 'finetune.py',
        '--cfg-options',
        f'load_from={weights}',
        '--base-options',
        f'load_from={weights}',
    )


def _run(
    command: str, file: Path, name: str, folder: Path, *more: Any
) -> None:
    """Run a command of mmpartinit's with `--figure`."""
    from mmpartinit.command.cli import main

    words = [command, file, *more, '--figure', folder / name]
    with in_both_languages({name: name}):
        main([str(word) for word in words])


def draw_benchmarks(folder: Path) -> None:
    """Ratios, with the words of the table in the Chinese page."""
    from table import draw

    table = json.loads(
        (DOCS.parent / 'tests/benchmarks/table.json').read_text()
    )
    page = (DOCS / 'zh_cn/benchmarks.md').read_text()
    rows = re.findall(r'^\| (.+?) \| (.+?) \| \d', page, re.MULTILINE)
    words: Dict[str, str] = {}
    last = ['', '']
    for row, told in zip(table['rows'], rows):
        last = [
            text.replace('同上', before) for text, before in zip(told, last)
        ]
        label = f'{row["what"]} / {row["against"]}'
        text = ' / '.join(last).replace('`', '')
        words['\n'.join(textwrap.wrap(label, 68))] = '\n'.join(
            textwrap.wrap(text, 46)
        )
    with in_both_languages({'benchmarks.svg': 'benchmarks.svg'}, words):
        draw(table, folder / 'benchmarks.svg')


DRAW = dict(demo=draw_demo, detector=draw_detector, benchmarks=draw_benchmarks)


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('what', choices=DRAW)
    parser.add_argument('--folder', type=Path, default=Path('work_dirs/docs'))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    DRAW[options.what](options.folder)


if __name__ == '__main__':
    main()
