"""What is wrong with rules, or worth seeing, in one shape.

What finds something wrong raises a :class:`RuleError` of one finding; a
:class:`Collector` gathers them, so that one error tells all there is.
"""

import difflib
import traceback
from dataclasses import dataclass, field, replace
from typing import Any, List, Optional, Sequence, Tuple, Union

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

    def __str__(self) -> str:
        """Its code and its sentence, as logs and errors have them."""
        return f'[{self.code}] {self.message}'


class RuleError(ValueError):
    """Rules that cannot be carried out; its text has every problem.

    Attributes:
        findings (list[Finding]): The problems, each with a code.
    """

    def __init__(self, findings: Union[str, Sequence[Finding]]) -> None:
        super().__init__(findings)
        if isinstance(findings, str):
            # MMEngine before 0.9 raises what a hook raises anew, as text.
            findings = [Finding('error', 'malformed', findings)]
        self.findings = list(findings)

    @classmethod
    def of(
        cls, code: str, message: str, names: Sequence[str] = ()
    ) -> 'RuleError':
        """An error about one thing."""
        return cls([Finding('error', code, message, list(names))])

    def about(self, rule: Any = None, where: str = '') -> 'RuleError':
        """The same, about a rule (or None), its sentences starting with what
        is given or with the rule.
        """
        start = f'{where or rule}: ' if where or rule is not None else ''
        fields = {} if rule is None else dict(rule=rule.index, path=rule.path)
        return RuleError(
            [
                replace(found, message=start + found.message, **fields)
                for found in self.findings
            ]
        )

    def __str__(self) -> str:
        if isinstance(self.args[0], str):
            return self.args[0]  # which has the codes already
        told = list(map(str, self.findings))
        if len(told) == 1:
            return told[0]
        return '\n- '.join([f'{len(told)} problems in `modules`:', *told])


class Collector:
    """Gathers what is wrong, to raise it together.

    Attributes:
        findings (list[Finding]): What was gathered so far.
    """

    def __init__(self) -> None:
        self.findings: List[Finding] = []
        self._about: Tuple[Any, str] = (None, '')

    def add(self, code: str, message: str, names: Sequence[str] = ()) -> None:
        """Something that is wrong."""
        self.findings += RuleError.of(code, message, names).findings

    def gather(self, rule: Any = None, where: str = '') -> 'Collector':
        """For a ``with`` block: go on after a RuleError in it, which is about
        a rule or a place as :meth:`RuleError.about` has it. Not nested.
        """
        self._about = (rule, where)
        return self

    # No generator: there are many of these blocks, and it is slower.
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        if isinstance(error, RuleError):
            self.findings += error.about(*self._about).findings
        return isinstance(error, RuleError)

    def check(self) -> None:
        """Raise a RuleError of all that was gathered, if there is any."""
        if self.findings:
            raise RuleError(self.findings)


def nearest(name: str, known: Sequence[str]) -> str:
    """``'; did you mean ...?'``, or nothing where no known name is near."""
    lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f'; did you mean {lower[close[0]]!r}?' if close else ''


def short(value: Any) -> str:
    """A value of a config, in as many letters as a sentence bears."""
    text = getattr(value, '__name__', None) or repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def told(error: BaseException) -> str:
    """What an error of anybody's code says; of one that says nothing, the
    line that raised it.
    """
    text = str(error)
    if not text:
        frames = traceback.extract_tb(error.__traceback__)
        text = (frames[-1].line if frames else '') or ''
    return f'{type(error).__name__}: {text}'


def some(names: Sequence[str], most: int) -> str:
    """The first few names, and how many more there are."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
