"""What `suggest` says of some parts: a rule to paste, or words alone."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence, Set

from .families import Groups, title
from .starts import InitCfg


@dataclass
class Suggestion:
    """A rule to paste.

    Attributes:
        comment (list[str]): What it is for.
        path (list[str]): Its patterns; none where there is only a comment.
        init_cfg (list[dict]): Its init_cfg.
        is_advice (bool): Whether it is for some only, and to be printed as a
            comment.
        is_owners (bool): Whether an owner's code starts parts of it by it.
    """

    comment: List[str]
    path: List[str] = field(default_factory=list)
    init_cfg: List[InitCfg] = field(default_factory=list)
    is_advice: bool = False
    is_owners: bool = False

    @property
    def rule(self) -> Dict[str, Any]:
        """The rule as the hook takes it."""
        return dict(path=_single(self.path), init_cfg=_single(self.init_cfg))

    def add_to(self, others: List['Suggestion']) -> None:
        """Put it behind others, unless its rule is there: an owner's is for
        several parts, and would write over what follows the first.
        """
        for other in others if self.path else ():
            if other.rule == self.rule:
                called = [
                    t for t in self.comment[:1] if t not in other.comment
                ]
                other.comment[:0] = called
                return
        if self not in others:
            others.append(self)


def owners_first(suggestions: List[Suggestion]) -> List[Suggestion]:
    """In an order in which an owner's rule, which writes to several parts, is
    before those for one of them, and that of a part of it behind it.
    """
    owners = [said for said in suggestions if said.is_owners]
    owners.sort(key=lambda said: said.path[0].count('.'))
    return [*owners, *(said for said in suggestions if not said.is_owners)]


def with_effect(
    rules: Sequence[Suggestion], wrote: Sequence[Set[str]], groups: Groups
) -> List[Suggestion]:
    """Rules without those whose tensors later ones write, all of them; what
    these called a part is said by the next.

    Args:
        rules (Sequence[Suggestion]): The rules, in order.
        wrote (Sequence[set[str]]): Names of what each of them writes.
        groups (list[list[Node]]): The parts that they are for.
    """
    gone = [
        bool(names) and names <= set().union(*wrote[number:])
        for number, names in enumerate(wrote, start=1)
    ]
    left = [rule for rule, is_gone in zip(rules, gone) if not is_gone]
    if len(left) < len(rules):
        said = {text for rule in left for text in rule.comment}
        titles = [title(nodes) for nodes in groups]
        following = left[gone.index(True)]
        following.comment[:0] = [text for text in titles if text not in said]
    return left


def _single(values: List[Any]) -> Any:
    return values[0] if len(values) == 1 else values
