"""Draw `_static/timeline.svg`, in each language: `python docs/timeline.py`.

The text stays text, which the reader's browser sets in a font of its own, so
that no font is needed here, Chinese or other. Widths are not measured: look at
the picture after changing a label.
"""

from pathlib import Path
from typing import Any, Dict, List
from xml.sax.saxutils import escape

LABELS = {
    'en': dict(
        title='What happens when: the Runner, mmpartinit and the weights',
        lanes=['Runner', 'mmpartinit', 'weights'],
        runner=[
            ('the config is read', 'custom_imports'),
            ('builds the model', 'Runner.from_cfg(cfg)'),
            ('initialises', 'model.init_weights()'),
            ('loads', 'load_from'),
            ('calls the hooks', 'before_train'),
            ('trains', 'iteration 0, 1, 2, …'),
        ],
        train='runner.train()',
        records='records what is loaded',
        checks='checks the rules',
        acts=[
            'second start',
            'plans',
            'writes what is new',
            'compares ranks',
            'reports',
        ],
        look='a last look',
        errors='each error lists all that is wrong',
        nothing='then nothing',
        never='Nor does it do anything in val and test, after a resume, or at '
        'a second runner.train().',
        origins=['as built', 'from a file', 'put in by code', 'from a rule'],
    ),
    'zh_cn': dict(
        title='执行时机：Runner、mmpartinit 与权重',
        lanes=['Runner', 'mmpartinit', '权重'],
        runner=[
            ('读取配置文件', 'custom_imports'),
            ('构建模型', 'Runner.from_cfg(cfg)'),
            ('初始化', 'model.init_weights()'),
            ('加载权重', 'load_from'),
            ('调用钩子', 'before_train'),
            ('训练', 'iteration 0, 1, 2, …'),
        ],
        train='runner.train()',
        records='记录加载了什么',
        checks='检查规则',
        acts=['二次启动', '生成方案', '写入新张量', '核对各 rank', '输出报告'],
        look='最后的检查',
        errors='一次报错列出全部问题',
        nothing='此后什么都不做',
        never='在 val 和 test 中、恢复训练之后，以及再次调用 runner.train() '
        '时，同样什么都不做。',
        origins=['构建时的值', '来自文件', '由代码写入', '来自规则'],
    ),
}

WIDTH, HEIGHT = 1080, 452
LEFT, COLUMN = 122, 157
INK, SOFT, LINE, PAPER = '#1f2933', '#52606d', '#cbd2d9', '#ffffff'
# Okabe and Ito's palette, as in the figures of the package.
BUILT, FILE, CODE, RULE = '#b0b7bf', '#0072B2', '#56B4E9', '#E69F00'
RED, RULE_INK = '#b3261e', '#8a5d00'
FONT = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', "
    "'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif"
)
MONO = (
    'ui-monospace, SFMono-Regular, Menlo, Consolas, '
    "'DejaVu Sans Mono', monospace"
)
# What decided each of twelve tensors, after each step.
NOT_YET: List[str] = []
NEW = [BUILT] * 12
START = [FILE] * 3 + [BUILT] * 7 + [CODE] * 2
LOADED = [FILE] * 3 + [BUILT] * 2 + [FILE] * 4 + [BUILT] + [CODE] * 2
DONE = [RULE if colour == BUILT else colour for colour in LOADED]
WEIGHTS = [NOT_YET, NEW, START, LOADED, DONE, DONE]


def draw(labels: Dict[str, Any]) -> str:
    """The picture as the text of an SVG file."""
    parts = [
        _box(0.5, 0.5, WIDTH - 1, HEIGHT - 1, PAPER, LINE, radius=8),
        *_lanes(labels),
        *_runner(labels),
        *_ours(labels),
        *_weights(labels),
        *_legend(labels),
    ]
    body = '\n'.join(parts)
    title = escape(labels['title'])
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}" '
        f'font-family="{FONT}" fill="{INK}">\n'
        f'<title>{title}</title>\n{body}\n</svg>\n'
    )


def _lanes(labels: Dict[str, Any]) -> List[str]:
    parts = []
    for name, top, bottom in zip(
        labels['lanes'], (18, 128, 332), (118, 322, 402)
    ):
        parts.append(_box(8, top, WIDTH - 16, bottom - top, '#f5f7fa'))
        middle = (top + bottom) / 2 + 4
        parts.append(_text(20, middle, name, 14, weight=600))
    return parts


def _runner(labels: Dict[str, Any]) -> List[str]:
    parts = [_arrow(LEFT, 109, WIDTH - 20)]
    for number, (what, code) in enumerate(labels['runner']):
        x = _left(number)
        parts += [
            _box(x, 46, COLUMN - 14, 50, PAPER, LINE),
            _text(_centre(number), 66, what, 12.5, 'middle'),
            _text(_centre(number), 84, code, 10.5, 'middle', SOFT, MONO),
        ]
    # What happens inside of runner.train().
    start, end = _left(2), _left(5) + COLUMN - 14
    parts.append(
        f'<path d="M{start} 42 v-6 H{end} v6" fill="none" stroke="{SOFT}"/>'
    )
    middle = (start + end) / 2
    parts.append(_text(middle, 32, labels['train'], 11, 'middle', SOFT, MONO))
    return parts


def _ours(labels: Dict[str, Any]) -> List[str]:
    width, blue, pale = COLUMN - 14, FILE, '#e1eff8'
    end = _left(4) - 10
    parts = [
        # From the import to before_train.
        f'<path d="M{_left(0)} 142 H{end} l9 17 l-9 17 H{_left(0)} Z" '
        f'fill="{pale}" stroke="{blue}"/>',
        _text(
            (_left(0) + end) / 2, 163, labels['records'], 12.5, 'middle', blue
        ),
        _box(_left(1), 196, width, 44, PAPER, INK),
        _text(_centre(1), 222, labels['checks'], 12, 'middle'),
        _box(_left(4), 142, width, 140, PAPER, INK),
    ]
    for number, act in enumerate(labels['acts']):
        y, fill = 165 + 26 * number, RULE_INK if number == 2 else INK
        parts.append(_text(_left(4) + 12, y, str(number + 1), 11.5, fill=SOFT))
        parts.append(_text(_left(4) + 27, y, act, 12, fill=fill))
    for number, bottom in ((1, 240), (4, 282)):
        parts.append(
            f'<path d="M{_centre(number)} {bottom} v{298 - bottom}" '
            f'stroke="{RED}" stroke-dasharray="3 3"/>'
        )
    parts += [
        _text(_centre(2.5), 311, labels['errors'], 11.5, 'middle', RED),
        f'<path d="M{_centre(1)} 298 V307 H{_centre(1) + 88} '
        f'M{_centre(4)} 298 V307 H{_centre(4) - 88}" fill="none" '
        f'stroke="{RED}" stroke-dasharray="3 3"/>',
        _box(_left(5), 142, width, 34, PAPER, INK),
        _text(_centre(5), 163, labels['look'], 12, 'middle'),
        _text(_centre(5), 215, labels['nothing'], 12, 'middle', SOFT),
    ]
    return parts


def _weights(labels: Dict[str, Any]) -> List[str]:
    parts = []
    for number, colours in enumerate(WEIGHTS):
        for i, colour in enumerate(colours):
            x = _centre(number) - 57 + 19.5 * (i % 6)
            y = 347 + 21 * (i // 6)
            parts.append(_box(x, y, 16, 17, colour, radius=2))
        if not colours:
            parts.append(_text(_centre(number), 372, '–', 14, 'middle', SOFT))
    for number in range(1, 5):
        x = _left(number) + COLUMN - 7
        parts.append(
            f'<path d="M{x - 4} 361 l6 6 l-6 6" fill="none" stroke="{SOFT}"/>'
        )
    return parts


def _legend(labels: Dict[str, Any]) -> List[str]:
    parts = [_text(20, 431, labels['never'], 12, fill=SOFT)]
    x = WIDTH - 20
    names = list(zip(labels['origins'], (BUILT, FILE, CODE, RULE)))
    for name, colour in reversed(names):
        x -= sum(6.9 if ord(c) < 0x2E80 else 12 for c in name)
        parts.append(_text(x, 431, name, 12))
        parts.append(_box(x - 19, 420, 13, 13, colour, radius=2))
        x -= 36
    return parts


def _left(column: float) -> float:
    return LEFT + COLUMN * column


def _centre(column: float) -> float:
    return _left(column) + (COLUMN - 14) / 2


def _box(
    x: float,
    y: float,
    width: float,
    height: float,
    fill: str,
    stroke: str = 'none',
    radius: float = 5,
) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
        f'rx="{radius:g}" fill="{fill}" stroke="{stroke}"/>'
    )


def _arrow(start: float, y: float, end: float) -> str:
    return (
        f'<path d="M{start} {y} H{end} m-7 -4 l7 4 l-7 4" fill="none" '
        f'stroke="{SOFT}"/>'
    )


def _text(
    x: float,
    y: float,
    words: str,
    size: float,
    anchor: str = 'start',
    fill: str = INK,
    font: str = '',
    weight: int = 400,
) -> str:
    more = f' font-family="{font}"' if font else ''
    more += f' font-weight="{weight}"' if weight != 400 else ''
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" '
        f'text-anchor="{anchor}" fill="{fill}"{more}>{escape(words)}</text>'
    )


if __name__ == '__main__':
    for language, labels in LABELS.items():
        folder = Path(__file__).parent / language / '_static'
        if folder.parent.exists():
            folder.mkdir(exist_ok=True)
            path = folder / 'timeline.svg'
            path.write_text(draw(labels), encoding='utf-8')
