"""A report as plain text: a table of the rules, the origins, the findings.

It is read in terminals and in log files, so there are no colours and no lines
longer than asked for.
"""

import textwrap
from typing import List, Optional, Tuple

from rich import box
from rich.console import Console
from rich.table import Table

from .report import Finding, InitReport, RuleRecord, group_names

_LEVELS = ('error', 'warning', 'note')
_MOST_RULES = 12
_MOST_GROUPS = 40


def report_text(
    report: InitReport, lines: Optional[int] = None, width: int = 100
) -> str:
    """Write a report as text.

    Args:
        report (InitReport): What was done, or what would be.
        lines (int, optional): Lines at most. Rules and findings that do not
            fit are counted; errors and warnings come first. Defaults to None:
            everything.
        width (int): Characters in a line at most.

    Returns:
        str: The text, without a newline at its end.
    """
    table = rules_table(report.rules, lines is not None, width)
    text = [*table, *textwrap.wrap(report.summary(), width)]
    findings = sorted(report.findings, key=lambda f: _LEVELS.index(f.level))
    if lines is None:
        for finding in findings:
            text += _heading(finding, width) + _groups(finding, _MOST_GROUPS)
        return '\n'.join(text)
    return '\n'.join(text + _shortly(findings, lines - len(text), width))


def rules_table(
    rules: List[RuleRecord], is_short: bool, width: int
) -> List[str]:
    """One row for each rule.

    Args:
        rules (list[RuleRecord]): The rules.
        is_short (bool): Whether each takes a single line, and only so many
            rules are shown that a log stays readable.
        width (int): Characters in a line at most.

    Returns:
        list[str]: The lines of the table; none where there are no rules.
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
    for heading, most in zip(('path', 'init_cfg'), _widths(rows, width)):
        table.add_column(
            heading,
            max_width=most,
            no_wrap=is_short,
            overflow='ellipsis' if is_short else 'fold',
        )
    for heading in ('matches', 'writes', 'keeps'):
        table.add_column(heading, justify='right')
    for row in rows:
        table.add_row(*row)
    console = Console(width=width, color_system=None, no_color=True)
    with console.capture() as capture:
        # Text of the user's own may hold square brackets: no markup.
        console.print(table, markup=False, highlight=False)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return [line for line in lines if line]


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
    sentence = finding.message.split(':\n')[0]
    return textwrap.wrap(
        f'{finding.level} [{finding.code}] {sentence}',
        width,
        subsequent_indent='    ',
        break_on_hyphens=False,
    )


def _groups(finding: Finding, most: int) -> List[str]:
    return group_names(finding.names, most).splitlines() if most else []


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
        groups = _groups(finding, min(spare, 10))
        spare -= len(groups)
        text += heading + groups
    if left:
        text.append(f'and {left} more findings')
    return text
