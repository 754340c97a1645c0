"""The tables of `docs/*/why.md`, filled from the numbers.

In each page, what stands between two marks is replaced: the table of some
blocks that many people use, and the one of what `suggest` says of all.
"""

import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

from .measure import OUTCOMES, Row

DOCS = Path(__file__).parents[3] / 'docs'
# Of these, the first table tells; of all, the figure.
TOLD = (
    'ContextBlock, add',
    'ContextBlock, mul',
    'NonLocal2d with BN',
    'SELayer',
    'DCNv2',
    'InvertedResidual',
    'SE, bias=False',
    'CBAM',
    'LoRA, layers',
    'adapter',
    'adapter, last 0',
    'x + conv, norm, ReLU',
    'transformer block',
    'bare factor, built 1e-6',
    'conv, norm, ReLU in sequence',
    'BatchNorm in sequence',
)
HEADS = dict(
    en=dict(
        told=(
            'block',
            'iteration 0, without the hook',
            'as suggested',
            'iteration 60, without the hook',
            'as suggested',
        ),
        outcomes=(
            '`suggest`',
            'cases',
            'lowest accuracy without the hook',
            'as suggested',
            'blocks',
        ),
    ),
    zh_cn=dict(
        told=(
            '模块',
            '第 0 次迭代，不用钩子',
            '使用建议的规则',
            '第 60 次迭代，不用钩子',
            '使用建议的规则',
        ),
        outcomes=(
            '`suggest` 的结论',
            '测试数',
            '最低准确率，不用钩子',
            '使用建议的规则',
            '模块',
        ),
    ),
)
OUTCOMES_ZH = {
    'found': '找到无损的初始值',
    'kept': '保留模块自带的初始值',
    'none': '没有无损的初始值',
    'not known': '无法判断',
    'nothing to suggest': '无需规则',
    'not tried': '未试验',
    'failed': '出错',
}
# Names of papers and classes are the same in both languages.
NAMES_ZH = {
    'SE, bias=False': 'SE，`bias=False`',
    'SE, hard sigmoid': 'SE，hard sigmoid',
    'SE, tanh': 'SE，tanh',
    'SE, swish': 'SE，swish',
    'spatial gate': '空间门控',
    'coordinate attention': '坐标注意力',
    'x + x * gate': 'x + x × 门控',
    'FiLM around 1': 'FiLM，系数以 1 为中心',
    'affine': '逐通道仿射',
    'bare factor, built 1e-6': '裸参数缩放系数，构建为 1e-6',
    'bare factor, built 1': '裸参数缩放系数，构建为 1',
    'adapter': 'adapter',
    'adapter, last 0': 'adapter，最后一层为 0',
    'adapter, own init_weights': 'adapter，自带 `init_weights`',
    'adapter, own init_cfg': 'adapter，自带 `init_cfg`',
    'parallel adapter': '并联 adapter',
    'x + conv, norm': 'x + 卷积、归一化',
    'x + conv, norm, ReLU': 'x + 卷积、归一化、ReLU',
    'x + conv': 'x + 卷积',
    'x + two convs': 'x + 两层卷积',
    'x + two convs, norms': 'x + 两层卷积，带归一化',
    'self-attention': '自注意力',
    'non-local, drawn': 'non-local，全部随机初始化',
    'transformer block': 'Transformer 块',
    'transformer block, norm last': 'Transformer 块，后归一化',
    'x + tanh(0) * branch': 'x + tanh(0) × 分支',
    'x + 1e-6 * branch': 'x + 1e-6 × 分支',
    'conv 3x3 in sequence': '串联 3×3 卷积',
    'conv 1x1 in sequence': '串联 1×1 卷积',
    'depthwise conv in sequence': '串联深度卷积',
    'conv, norm, ReLU in sequence': '串联卷积、归一化、ReLU',
    'linear in sequence': '串联全连接层',
    'BatchNorm in sequence': '串联 BatchNorm',
    'GroupNorm in sequence': '串联 GroupNorm',
    'PReLU in sequence': '串联 PReLU',
    'two views fused': '两路特征融合',
    'two views, shuffled': '两路特征融合，通道重排',
    'second input branch': '第二个输入分支',
    'prompt, zeros': '可学习 prompt，初值 0',
    'prompt, drawn': '可学习 prompt，随机初值',
    'layer replaced': '替换预训练层',
    'LoRA, bare': 'LoRA，裸参数',
    'LoRA, layers': 'LoRA，独立层',
    'LoRA, layers, drawn': 'LoRA，独立层，未置零',
    'ConvModule as a branch': 'ConvModule 作残差分支',
    'NonLocal2d with BN': 'NonLocal2d，带 BN',
    'InvertedResidual with SE': 'InvertedResidual，带 SE',
}


def fill(table: Dict[str, Any]) -> None:
    """Fill the tables of both pages."""
    for language in HEADS:
        path = DOCS / language / 'why.md'
        text = path.read_text(encoding='utf-8')
        path.write_text(filled(text, table, language), encoding='utf-8')


def filled(text: str, table: Dict[str, Any], language: str) -> str:
    """A page with its tables filled.

    Args:
        text (str): The page.
        table (dict): The numbers.
        language (str): ``'en'`` or ``'zh_cn'``.
    """
    for name, lines in (('told', _told), ('outcomes', _outcomes)):
        heads = HEADS[language][name]
        body = [heads, ('---',) * len(heads), *lines(table, language)]
        rows = '\n'.join(f'| {" | ".join(row)} |' for row in body)
        text, found = re.subn(
            rf'(?s)(<!-- blocks: {name} -->\n).*?(<!-- end -->)',
            lambda match, rows=rows: f'{match[1]}\n{rows}\n\n{match[2]}',
            text,
        )
        if found != 1:
            raise ValueError(f'{language}/why.md has {found} marks for {name}')
    return text


def _told(table: Dict[str, Any], language: str) -> Iterator[Tuple[str, ...]]:
    blocks: Dict[str, List[Row]] = {}
    for row in table['rows']:
        blocks.setdefault(row.block, []).append(row)
    for name in TOLD:
        rows = blocks[name]
        yield (
            name_in(name, language),
            _each(rows, lambda row: row.means[0]),
            _each(rows, lambda row: row.means[1]),
            _each(rows, lambda row: row.before_trained),
            _each(rows, lambda row: row.pasted_trained),
        )


def _outcomes(
    table: Dict[str, Any], language: str
) -> Iterator[Tuple[str, ...]]:
    for outcome in OUTCOMES:
        rows = [row for row in table['rows'] if row.outcome == outcome]
        if rows:
            names = dict.fromkeys(name_in(row.block, language) for row in rows)
            # Which they are matters where something is left to do.
            many = outcome == 'found'
            comma = '；' if language == 'zh_cn' else '; '
            yield (
                OUTCOMES_ZH[outcome] if language == 'zh_cn' else outcome,
                f'{len(rows)}',
                f'{min(row.means[0] for row in rows):.1f}',
                f'{min(row.means[1] for row in rows):.1f}',
                f'{len(names)}' if many else comma.join(names),
            )


def _each(rows: List[Row], number: Callable[[Row], float]) -> str:
    return ' / '.join(f'{number(row):.1f}' for row in rows)


def name_in(name: str, language: str) -> str:
    """What a page calls a block."""
    return NAMES_ZH.get(name, name) if language == 'zh_cn' else name
