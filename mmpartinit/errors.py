"""What is wrong with rules, or worth seeing, in one shape.

What finds something wrong raises a :class:`RuleError` of one finding; a
:class:`Collector` gathers them, so that one error tells all there is.
"""

import difflib
from dataclasses import dataclass, field, replace
from typing import Any, List, Optional, Sequence

LEVELS = ('error', 'warning', 'note')


@dataclass
class Finding:
    """Something that the user should see.

    Attributes:
        level (str): ``'error'``, ``'warning'`` or ``'note'``.
        code (str): What kind of thing, such as ``'uncovered'``.
        message (str): What was found and what to do, in a sentence.
        names (list[str]): The tensors that it is about.
        rule (int, optional): Index of the rule that it is about.
        path (str, optional): That rule's path, several joined by commas.
    """

    level: str
    code: str
    message: str
    names: List[str] = field(default_factory=list)
    rule: Optional[int] = None
    path: Optional[str] = None


def problem(code: str, message: str) -> Finding:
    """Something that is wrong."""
    return Finding('error', code, message)


class RuleError(ValueError):
    """Rules that cannot be carried out; the message lists every problem.

    Attributes:
        findings (list[Finding]): The problems, each with a code.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(findings)
        self.findings = list(findings)

    @classmethod
    def of(cls, code: str, message: str) -> 'RuleError':
        """An error about one thing."""
        return cls([problem(code, message)])

    def __str__(self) -> str:
        messages = [finding.message for finding in self.findings]
        if len(messages) == 1:
            return messages[0]
        return f'{len(messages)} problems in `modules`:' + ''.join(
            f'\n- {message}' for message in messages
        )


class Collector:
    """Gathers what is raised, to raise it together.

    Attributes:
        findings (list[Finding]): What was gathered so far.
    """

    def __init__(self) -> None:
        self.findings: List[Finding] = []

    def gather(self, rule: Any = None, where: str = '') -> '_Gathering':
        """Go on after a RuleError in the ``with`` block.

        Args:
            rule (Rule, optional): The rule that its findings are about.
            where (str): What their sentences start with. Defaults to the
                rule, as a sentence calls it.
        """
        return _Gathering(self, rule, where)

    def check(self) -> None:
        """Raise a RuleError of all that was gathered, if there is any."""
        if self.findings:
            raise RuleError(self.findings)


class _Gathering:
    # There are many, and a generator takes four times as long.
    def __init__(self, collector: Collector, rule: Any, where: str) -> None:
        self._collector, self._rule, self._where = collector, rule, where

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: Any, error: Any, __: Any) -> bool:
        if not isinstance(error, RuleError):
            return False
        told = told_of(error, self._rule, self._where)
        self._collector.findings += told.findings
        return True


def told_of(error: RuleError, rule: Any, where: str = '') -> RuleError:
    """An error whose sentences say which rule they are about."""
    where = where or ('' if rule is None else str(rule))
    about = {} if rule is None else dict(rule=rule.index, path=rule.path)
    return RuleError(
        [
            replace(
                finding,
                message=f'{where}: {finding.message}'
                if where
                else finding.message,
                **about,
            )
            for finding in error.findings
        ]
    )


def nearest(name: str, known: Sequence[str]) -> str:
    """``'; did you mean ...?'``, or nothing where no known name is near."""
    lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f'; did you mean {lower[close[0]]!r}?' if close else ''


def short(value: Any) -> str:
    """A value of a config, in as many letters as a sentence bears."""
    text = getattr(value, '__name__', None) or repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def some(names: Sequence[str], most: int) -> str:
    """The first few names, and how many more there are."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
