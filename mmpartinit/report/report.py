"""The report: what was done to a model's weights, and how to show it."""

import json
import os
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Optional

from ..errors import LEVELS, Finding
from .figure import draw_report
from .records import ORIGINS, CheckpointRecord, RuleRecord, TensorRecord
from .text import origin_lines, report_text

FORMAT_VERSION = 2
_ORIGINS_OF_1 = {'checkpoint': 'file', 'model': 'built'}  # in version 1
LOG_LINES = 29  # and the line above them in the log


class ReportError(ValueError):
    """A file that is no report, or one of another format."""


@dataclass
class InitReport:
    """Where each tensor's values come from, and what the rules did.

    Attributes:
        seed (int, optional): The seed that the values were drawn from; None
            in a plan of a run that draws its own.
        tensors (list[TensorRecord]): Every entry of the state dict, in order.
        rules (list[RuleRecord]): One for each rule, in order.
        findings (list[Finding]): What the user should see.
        known_by (str): How the origins are known, in a line; empty in
            reports of version 1.
        checkpoints (list[CheckpointRecord]): What became of each state dict
            that was loaded as a whole.
        training (str): How much of the model trains, in a part of a sentence;
            empty where that is not known.
    """

    seed: Optional[int]
    tensors: List[TensorRecord]
    rules: List[RuleRecord]
    findings: List[Finding] = field(default_factory=list)
    known_by: str = ''
    checkpoints: List[CheckpointRecord] = field(default_factory=list)
    training: str = ''

    def origins(self) -> Dict[str, int]:
        """Number of tensors from each origin."""
        counts = dict.fromkeys(ORIGINS, 0)
        for tensor in self.tensors:
            counts[tensor.origin] += 1
        return counts

    def summary(self) -> str:
        """How many tensors have which origin, in one line."""
        origins = self.origins()
        return (
            f'{len(self.tensors)} tensors: {origins["file"]} from files, '
            f'{origins["code"]} put in by code, {origins["rule"]} from rules, '
            f'{origins["built"]} as built'
        )

    def to_dict(self) -> Dict[str, Any]:
        """The report as plain data, as :meth:`save` writes it; the lists in
        its records are the report's own.
        """
        data: Dict[str, Any] = dict(version=FORMAT_VERSION)
        for key, value in vars(self).items():
            are_records = isinstance(value, list)
            data[key] = [{**vars(r)} for r in value] if are_records else value
        return data

    def save(self, path: str) -> None:
        """Write the report as JSON, a line for each record, the whole file or
        none.

        Args:
            path (str): File to write; its folder must exist.
        """
        encode = json.JSONEncoder(ensure_ascii=False).encode
        entries = []
        for key, value in self.to_dict().items():
            if isinstance(value, list) and value:
                text = '[\n  ' + ',\n  '.join(map(encode, value)) + '\n ]'
            else:
                text = encode(value)
            entries.append(f' "{key}": {text}')
        write_whole(path, '{\n' + ',\n'.join(entries) + '\n}\n')

    @classmethod
    def load(cls, path: str) -> 'InitReport':
        """Read what :meth:`save` wrote, also as it was in version 1.

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
        if version not in (1, FORMAT_VERSION):
            found = 'none' if version is None else repr(version)
            raise ReportError(
                f'{path} is no report that this mmpartinit reads: its '
                f'`version` should be 1 or {FORMAT_VERSION}, and is {found}'
            )
        try:
            report = cls(
                data['seed'],
                _records(TensorRecord, data['tensors']),
                _records(RuleRecord, data['rules']),
                _records(Finding, data['findings']),
                data.get('known_by', ''),
                _records(CheckpointRecord, data.get('checkpoints', [])),
                data.get('training', ''),
            )
            if version == 1:
                for tensor in report.tensors:
                    origin = tensor.origin
                    tensor.origin = _ORIGINS_OF_1.get(origin, origin)
            _check(report)
            return report
        except (KeyError, TypeError, ValueError, AttributeError) as error:
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
        draw_report(self.tensors, self.rules).savefig(path)

    def text(self, lines: Optional[int] = None, width: int = 100) -> str:
        """A table of the rules, the origins and the findings.

        Args:
            lines (int, optional): Lines at most, with the rest in numbers.
                Defaults to None: all there is to say.
            width (int): Characters in a line at most.
        """
        origins = origin_lines(
            self.summary(),
            self.known_by,
            self.training,
            self.tensors,
            self.checkpoints,
            lines is not None,
            width,
        )
        return report_text(self.rules, origins, self.findings, lines, width)

    def __str__(self) -> str:
        return self.text(LOG_LINES)


def write_whole(path: str, text: str) -> None:
    """Write all of a file, or leave what is there."""
    part = f'{path}.part'
    with open(part, 'w', encoding='utf-8') as file:
        file.write(text)
    os.replace(part, path)


def _records(kind: type, items: List[Dict[str, Any]]) -> List[Any]:
    """Records from plain data; keys may have been added in a version."""
    names = [known.name for known in fields(kind)]
    return [kind(**{k: item[k] for k in names if k in item}) for item in items]


def _check(report: InitReport) -> None:
    """See to it that what is shown of a report can be."""
    for tensor in report.tensors:
        if tensor.origin not in ORIGINS:
            raise ValueError(f'{tensor.name!r} has origin {tensor.origin!r}')
        _check_text(tensor.file, f'the file of {tensor.name!r}')
    _check_text(report.known_by, '`known_by`')
    _check_text(report.training, '`training`')
    for finding in report.findings:
        if finding.level not in LEVELS:
            raise ValueError(f'a finding has level {finding.level!r}')
    lists = [(f'finding {f.code!r}', f.names) for f in report.findings]
    for rule in report.rules:
        for names in (rule.path, rule.init_cfg, rule.matched):
            lists.append((f'rule {rule.index!r}', names))
    for loaded in report.checkpoints:
        _check_text(loaded.path, 'the path of a checkpoint')
        _check_text(loaded.file, 'the file of a checkpoint')
        lists.append(('a checkpoint', loaded.unused))
        lists.append(('a checkpoint', [name for name, _, _ in loaded.shapes]))
    for where, names in lists:
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f'{where} has names that are no strings')


def _check_text(value: Any, what: str) -> None:
    if not isinstance(value, (str, type(None))):
        raise ValueError(f'{what} is {value!r}, no string')
