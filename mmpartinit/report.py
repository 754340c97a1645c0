"""What was done to a model's weights, as data, as JSON and as text."""

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

FORMAT_VERSION = 1


@dataclass
class TensorRecord:
    """One tensor of the state dict.

    Attributes:
        name (str): Its state-dict name, without prefixes of wrappers.
        shape (list[int]): Its shape.
        dtype (str): Its dtype, such as ``'float32'``.
        origin (str): Where its values come from: ``'checkpoint'``, ``'rule'``
            or ``'model'`` (the model's own code).
        rule (int, optional): The rule that wrote it last.
        mean (float, optional): Mean of the values, where a rule wrote them.
        std (float, optional): Their standard deviation (of the population,
            so 0 for one element), where a rule wrote them.
        source (str, optional): The tensor that it was copied from.
    """

    name: str
    shape: List[int]
    dtype: str
    origin: str
    rule: Optional[int] = None
    mean: Optional[float] = None
    std: Optional[float] = None
    source: Optional[str] = None


@dataclass
class RuleRecord:
    """What one rule did.

    Attributes:
        index (int): Its place in ``modules``, from 0.
        path (list[str]): Its patterns.
        init_cfg (list[str]): Its init_cfg, in short.
        copy_from (str, optional): Or the path that it copies from.
        matched (list[str]): Paths that it acted on.
        wrote (list[str]): State-dict names that it wrote.
        kept (list[str]): Loaded tensors under its matches, left as they were.
    """

    index: int
    path: List[str]
    init_cfg: List[str]
    copy_from: Optional[str] = None
    matched: List[str] = field(default_factory=list)
    wrote: List[str] = field(default_factory=list)
    kept: List[str] = field(default_factory=list)


@dataclass
class Finding:
    """Something that the user should see.

    Attributes:
        level (str): ``'error'``, ``'warning'`` or ``'note'``.
        code (str): What kind of thing, such as ``'uncovered'``.
        message (str): What was found and what to do, in a sentence.
        names (list[str]): The tensors that it is about.
    """

    level: str
    code: str
    message: str
    names: List[str]


@dataclass
class InitReport:
    """Where each tensor's values come from, and what the rules did.

    Attributes:
        seed (int): The seed that the values were drawn from.
        tensors (list[TensorRecord]): Every entry of the state dict, in order.
        rules (list[RuleRecord]): One for each rule, in order.
        findings (list[Finding]): What the user should see.
    """

    seed: int
    tensors: List[TensorRecord]
    rules: List[RuleRecord]
    findings: List[Finding] = field(default_factory=list)

    def origins(self) -> Dict[str, int]:
        """Number of tensors from each origin."""
        counts = dict(checkpoint=0, rule=0, model=0)
        for tensor in self.tensors:
            counts[tensor.origin] += 1
        return counts

    def summary(self) -> str:
        """How many tensors have which origin, in one line."""
        origins = self.origins()
        return (
            f'{len(self.tensors)} tensors: {origins["checkpoint"]} from '
            f'checkpoint, {origins["rule"]} from rules, {origins["model"]} '
            'from model'
        )

    def to_dict(self) -> Dict[str, Any]:
        """The report as plain data, as :meth:`save` writes it."""
        return dict(version=FORMAT_VERSION, **asdict(self))

    def save(self, path: str) -> None:
        """Write the report as JSON.

        Args:
            path (str): File to write; its folder must exist.
        """
        with open(path, 'w', encoding='utf-8') as file:
            json.dump(self.to_dict(), file, indent=1, ensure_ascii=False)

    def table(self, width: int = 100) -> str:
        """One line for each rule and one for the origins, as plain text.

        Args:
            width (int): Characters in a line at most.
        """
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column('rule', justify='right')
        table.add_column('path', overflow='fold')
        table.add_column('init_cfg', overflow='fold')
        for heading in ('matched', 'wrote', 'kept'):
            table.add_column(heading, justify='right')
        for rule in self.rules:
            table.add_row(
                str(rule.index),
                '\n'.join(rule.path),
                '\n'.join(rule.init_cfg) or f'copy of {rule.copy_from}',
                str(len(rule.matched)),
                str(len(rule.wrote)),
                str(len(rule.kept)),
            )
        console = Console(width=width, color_system=None)
        with console.capture() as capture:
            # Text of the user's own may hold square brackets: no markup.
            console.print(table, markup=False, highlight=False)
        lines = [line.rstrip() for line in capture.get().splitlines()]
        return '\n'.join([line for line in lines if line] + [self.summary()])

    def __str__(self) -> str:
        findings = [
            f'{finding.level} [{finding.code}] {finding.message}'
            for finding in self.findings
        ]
        return '\n'.join([self.table(), *findings])


def group_names(names: Iterable[str], most: int = 10) -> str:
    """Names of tensors in a few lines, alike ones on one.

    ``layer1.0.se.fc1.weight`` and its like in other blocks become
    ``layer*.*.se.fc1.{bias,weight} (24)``.

    Args:
        names (Iterable[str]): State-dict names.
        most (int): Lines at most; the rest is counted on a last one.
    """
    groups: Dict[str, List[Tuple[str, str]]] = {}
    for name in names:
        parent, _, leaf = name.rpartition('.')
        pattern = re.sub(r'\d+', '*', parent)
        groups.setdefault(pattern, []).append((parent, leaf))
    lines = []
    for members in groups.values():
        stem = _common([parent for parent, _ in members])
        leaves = sorted({leaf for _, leaf in members})
        tail = leaves[0] if len(leaves) == 1 else '{' + ','.join(leaves) + '}'
        count = f' ({len(members)})' if len(members) > 1 else ''
        lines.append((f'{stem}.{tail}' if stem else tail) + count)
    if len(lines) > most:
        rest = len(lines) - most + 1
        lines = lines[: most - 1] + [f'and {rest} more such groups']
    return '\n'.join(f'  {line}' for line in lines)


def _common(names: Sequence[str]) -> str:
    """Names that differ in numbers only as one, ``*`` where they differ."""
    pieces = zip(*(re.split(r'(\d+)', name) for name in names))
    return ''.join(
        column[0] if len(set(column)) == 1 else '*' for column in pieces
    )
