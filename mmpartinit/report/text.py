"""A report as plain text: a table of the rules, the origins, the findings.

It is read in terminals and in log files, so there are no colours and no lines
longer than asked for.
"""

import re
import textwrap
from collections import Counter
from typing import Dict, Iterable, List, Optional, Tuple

from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import LEVELS, Finding
from .records import CheckpointRecord, RuleRecord, TensorRecord

_NUMBER = re.compile(r'(\d+)')
# In a path or a dict, between names.
_INSIDE = re.compile(r'(?<=[(=])|(?=\.\D)')
_MOST_RULES = 12
_MOST_FILES = 4
_MOST_GROUPS = 40


def report_text(
    rules: List[RuleRecord],
    origins: List[str],
    findings: List[Finding],
    lines: Optional[int],
    width: int,
) -> str:
    """Write a report as text; ``origins`` as :func:`origin_lines` has them.

    With ``lines``, it has that many at most: rules and findings that do not
    fit are counted, errors and warnings come first. ``width`` is the number
    of characters in a line at most.
    """
    table = _rules_table(rules, lines is not None, width)
    text = [*table, *origins]
    findings = sorted(findings, key=lambda f: LEVELS.index(f.level))
    if lines is None:
        for finding in findings:
            text += _heading(finding, width) + group_names(
                finding.names, _MOST_GROUPS
            )
        return '\n'.join(text)
    return '\n'.join(text + _shortly(findings, lines - len(text), width))


def origin_lines(
    summary: str,
    known_by: str,
    training: str,
    tensors: Iterable[TensorRecord],
    checkpoints: Iterable[CheckpointRecord],
    is_short: bool,
    width: int,
) -> List[str]:
    """What decided the values, how that is known, and what trains: the
    summary, and a line for each file; where there is room, one for each
    checkpoint of which not all went into the model.
    """
    lines = textwrap.wrap(summary, width)
    if known_by:
        lines += textwrap.wrap(f'Known by {known_by}', width)
    files = Counter(
        t.file for t in tensors if t.file and t.origin == 'file'
    ).most_common()
    shown = files
    if is_short and len(files) > _MOST_FILES:
        shown = files[: _MOST_FILES - 1]
    for file, count in shown:
        end = f': {count} tensors'
        lines.append(f'  {_end_of(file, width - 2 - len(end))}{end}')
    if len(shown) < len(files):
        lines.append(f'  and {len(files) - len(shown)} more files')
    for loaded in () if is_short else checkpoints:
        if not (loaded.unused or loaded.shapes):
            continue
        lines += wrapped(
            f'{loaded.file or "A state dict"}, loaded into '
            f'{loaded.path or "the model"}: {loaded.used} of {loaded.tensors} '
            f'tensors used, {len(loaded.unused)} unused, '
            f'{len(loaded.shapes)} of another shape',
            width,
        )
    if training:
        lines += textwrap.wrap(f'Trains: {training}', width)
    return lines


def _end_of(text: str, most: int) -> str:
    """A text, or its end where there is not enough room: of a path, the name
    of the file.
    """
    return text if len(text) <= most else '…' + text[len(text) - most + 1 :]


def _ends_of(text: str, most: int) -> str:
    """A text, or its start and end where there is not enough room: paths that
    differ at one of them do not look alike.
    """
    if len(text) <= most:
        return text
    start = (most - 1) // 2
    return f'{text[:start]}…{text[len(text) - (most - 1 - start) :]}'


def _rules_table(
    rules: List[RuleRecord], is_short: bool, width: int
) -> List[str]:
    """A table with a row for each rule; in short, each takes a single line,
    and only so many are shown that a log stays readable.
    """
    if not rules:
        return []
    fits = not is_short or len(rules) <= _MOST_RULES
    shown = rules if fits else rules[: _MOST_RULES - 1]
    between = ', ' if is_short else '\n'
    rows = [
        [
            str(rule.index),
            between.join(rule.path),
            between.join(rule.init_cfg) or f'copy of {rule.copy_from}',
            *_numbers([rule]),
        ]
        for rule in shown
    ]
    if not fits:
        rest = rules[len(shown) :]
        rows.append(['', f'and {len(rest)} more rules', '', *_numbers(rest)])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column('rule', justify='right')
    widths = _widths(rows, width)
    for row in rows:
        if is_short:
            row[1] = _ends_of(row[1], widths[0])
        else:
            row[1:3] = map(_folded, row[1:3], widths)
    for heading, most in zip(('path', 'init_cfg'), widths):
        table.add_column(
            heading,
            min_width=min(most, len(heading)),
            max_width=most,
            no_wrap=is_short,
            overflow='ellipsis' if is_short else 'fold',
        )
    for heading in ('matches', 'writes', 'keeps'):
        table.add_column(heading, justify='right')
    for row in rows:
        table.add_row(*row)
    return table_lines(table, width)


def table_lines(table: Table, width: int) -> List[str]:
    """A table of rich's, as lines of plain text."""
    console = Console(width=width, color_system=None, no_color=True)
    with console.capture() as capture:
        # Text of the user's own may hold square brackets: no markup.
        console.print(table, markup=False, highlight=False)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return [line for line in lines if line]


def wrapped(text: str, width: int) -> List[str]:
    """A sentence in lines, all but the first indented."""
    lines = textwrap.wrap(
        text.replace(' %', '\xa0%'),  # a number stays beside its sign
        width,
        subsequent_indent='    ',
        break_on_hyphens=False,
    )
    return [line.replace('\xa0', ' ') for line in lines]


def _folded(text: str, most: int) -> str:
    """Paths and init_cfgs in lines that have room: names stay whole, where
    they are no longer than a line.
    """
    lines: List[str] = []
    for line in text.splitlines():
        pieces: List[str] = []
        for word in re.split(r'(?<= )', line):
            fits = len(word.rstrip()) <= most
            pieces += [word] if fits else _INSIDE.split(word)
        lines += filled(pieces, most)
    return '\n'.join(lines)


def filled(pieces: Iterable[str], most: int) -> List[str]:
    """Pieces of a text in lines of so many characters, where they fit."""
    lines = ['']
    for piece in pieces:
        if lines[-1] and len((lines[-1] + piece).rstrip()) > most:
            lines.append('')
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _widths(rows: List[List[str]], width: int) -> Tuple[int, int]:
    """How wide the paths and the init_cfgs may be, together with the rest."""
    room = width - 40  # the numbers, their headings and what is between
    path, init_cfg = (
        max(len(line) for row in rows for line in row[i].splitlines() or [''])
        for i in (1, 2)
    )
    path = min(path, max(room // 2, room - init_cfg))
    return path, room - path


def _numbers(rules: List[RuleRecord]) -> List[str]:
    return [
        str(sum(len(getattr(rule, key)) for rule in rules))
        for key in ('matched', 'wrote', 'kept')
    ]


def _heading(finding: Finding, width: int) -> List[str]:
    """A finding's level, code and sentence; not the names below it."""
    return wrapped(f'{finding.level} {finding}', width)


def _shortly(findings: List[Finding], room: int, width: int) -> List[str]:
    """The sentences of as many findings as there is room for, and the names
    of the first ones in what is left.
    """
    headings = [_heading(finding, width) for finding in findings]
    shown, used = 0, 0
    for number, heading in enumerate(headings, 1):
        is_last = number == len(headings)
        if used + len(heading) > room - (not is_last):
            break
        shown, used = number, used + len(heading)
    left = len(findings) - shown
    spare = room - used - bool(left)
    text: List[str] = []
    for finding, heading in zip(findings[:shown], headings):
        groups = group_names(finding.names, min(spare, 10))
        spare -= len(groups)
        text += heading + groups
    if left:
        text.append(f'and {left} more findings')
    return text


def group_names(names: Iterable[str], most: int) -> List[str]:
    """Names of tensors in a few lines, alike ones on one, what is beyond
    ``most`` counted on the last.

    ``layer1.0.se.fc1.weight`` and its like in other blocks become
    ``layer*.*.se.fc1.{bias,weight} (24)``.
    """
    if not most:
        return []
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
    return [f'  {line}' for line in lines]
