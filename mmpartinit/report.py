"""What was done to a model's weights, as data and as JSON."""

import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, Iterable, List, Optional, Tuple

FORMAT_VERSION = 1
_NUMBER = re.compile(r'(\d+)')
LOG_LINES = 29  # and the line above them in the log


class ReportError(ValueError):
    """A file that is no report, or one of another format."""


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
        mean (float, optional): Mean of the values, where no rule wrote them
            that of at least 1,024 evenly spaced ones; None where they could
            not be read, or are not written yet.
        std (float, optional): Their standard deviation (of the population,
            so 0 for one element).
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
        seed (int, optional): The seed that the values were drawn from; None
            in a plan of a run that draws its own.
        tensors (list[TensorRecord]): Every entry of the state dict, in order.
        rules (list[RuleRecord]): One for each rule, in order.
        findings (list[Finding]): What the user should see.
    """

    seed: Optional[int]
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

    @classmethod
    def load(cls, path: str) -> 'InitReport':
        """Read what :meth:`save` wrote.

        Args:
            path (str): A file ``init_report.json``.

        Returns:
            InitReport: The report.

        Raises:
            ReportError: If the file is no report, or of another version.
        """
        try:
            with open(path, encoding='utf-8') as file:
                data = json.load(file)
        except (ValueError, OSError) as error:
            raise ReportError(f'{path} cannot be read: {error}') from error
        version = data.get('version') if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            found = 'none' if version is None else repr(version)
            raise ReportError(
                f'{path} is no report that this mmpartinit reads: its '
                f'`version` should be {FORMAT_VERSION}, and is {found}'
            )
        try:
            return cls(
                data['seed'],
                _records(TensorRecord, data['tensors']),
                _records(RuleRecord, data['rules']),
                _records(Finding, data['findings']),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ReportError(
                f'{path} is no whole report: {type(error).__name__}: {error}'
            ) from error

    def save_figure(self, path: str) -> None:
        """Draw the report into a file: where each part's weights come from,
        and how large new values are beside the pretrained ones.

        Args:
            path (str): File to write, in a format that its ending says
                (``.png``, ``.pdf``, ``.svg``); its folder must exist.
        """
        from .figure import draw_report

        draw_report(self).savefig(path)

    def text(self, lines: Optional[int] = None, width: int = 100) -> str:
        """A table of the rules, the origins and the findings.

        Args:
            lines (int, optional): Lines at most, with the rest in numbers.
                Defaults to None: all there is to say.
            width (int): Characters in a line at most.
        """
        from .text import report_text

        return report_text(self, lines, width)

    def __str__(self) -> str:
        return self.text(LOG_LINES)


def group_names(names: Iterable[str], most: int = 10) -> str:
    """Names of tensors in a few lines, alike ones on one.

    ``layer1.0.se.fc1.weight`` and its like in other blocks become
    ``layer*.*.se.fc1.{bias,weight} (24)``.

    Args:
        names (Iterable[str]): State-dict names.
        most (int): Lines at most; the rest is counted on a last one.
    """
    leaves: Dict[str, List[str]] = {}
    for name in names:
        parent, _, leaf = name.rpartition('.')
        leaves.setdefault(parent, []).append(leaf)
    # Those that differ in their numbers only belong together.
    groups: Dict[Tuple[str, ...], Dict[str, List[str]]] = {}
    for parent in leaves:
        pieces = _NUMBER.split(parent)
        group = groups.setdefault(tuple(pieces[::2]), {})
        group[parent] = pieces
    lines = []
    for group in groups.values():
        columns = zip(*group.values())
        stem = ''.join(c[0] if len(set(c)) == 1 else '*' for c in columns)
        below = [leaf for parent in group for leaf in leaves[parent]]
        unique = sorted(set(below))
        tail = unique[0] if len(unique) == 1 else '{' + ','.join(unique) + '}'
        count = f' ({len(below)})' if len(below) > 1 else ''
        lines.append((f'{stem}.{tail}' if stem else tail) + count)
    if len(lines) > most:
        rest = len(lines) - most + 1
        lines = lines[: most - 1] + [f'and {rest} more such groups']
    return '\n'.join(f'  {line}' for line in lines)


def _records(kind: type, items: List[Dict[str, Any]]) -> List[Any]:
    """Records from plain data; keys may have been added in a version."""
    names = [known.name for known in fields(kind)]
    return [kind(**{k: item[k] for k in names if k in item}) for item in items]
