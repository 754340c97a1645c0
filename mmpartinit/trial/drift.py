"""How far a network computes something else than the pretrained one does.

Both see the same input, and what each part that both have gives is compared,
in the order of computation.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .parts import Pair, Pairs
from .recording import Recording, drift

# What makes no difference: float32's floor is 2e-7, and the smallest true
# drift seen was 1e-3. A gate that is nearly open takes a little.
TOLERANCE, _PER_GATE = 0.001, 0.05
_LEAST_CHANGE = 1e-5
# How many times a change grows from one layer to the next, at most.
_JUMP = 2


def allowed_behind(gates: int) -> float:
    """How far what is computed behind so many open gates may be."""
    return max(TOLERANCE, _PER_GATE * gates)


@dataclass
class PartDrift:
    """How far the outputs of a part are from the pretrained ones.

    Attributes:
        path (str): The part in the network.
        base (str): The same in the pretrained one.
        calls (list[float, optional]): For each time that it was called; None
            where nothing can be compared, since the shapes are others.
        before (float, optional): The largest of them, as it was before rules
            wrote anything.
        allowed (float): How far it may be.
        unsteady (bool): Whether a small change of the input changes it as much
            in the pretrained network itself.
    """

    path: str
    base: str
    calls: List[Optional[float]]
    before: Optional[float] = None
    allowed: float = TOLERANCE
    unsteady: bool = False

    @property
    def drift(self) -> Optional[float]:
        """The largest of its calls; None where there is none to compare."""
        return largest(self.calls)

    @property
    def departs(self) -> bool:
        """Whether it is further away than it may be, or not finite."""
        if self.unsteady or self.drift is None:
            return False
        return not self.drift <= self.allowed


@dataclass
class Comparison:
    """A network beside the pretrained one.

    Attributes:
        parts (list[PartDrift]): In the order of computation.
        output (PartDrift): The whole network's.
        unloaded (list[str]): Loaded tensors of the pretrained network whose
            values are not in the other one.
        shifted (list[tuple[str, str]]): Modules that have another index there,
            and are not loaded for that reason: paths in either.
        idle (list[str]): Parts that were not called in this pass.
        has_rules (bool): Whether rules wrote something; only then is it told
            how it was before.
        order (list[str]): The parts, and the new modules between them.
    """

    parts: List[PartDrift]
    output: PartDrift
    unloaded: List[str] = field(default_factory=list)
    shifted: List[Tuple[str, str]] = field(default_factory=list)
    idle: List[str] = field(default_factory=list)
    has_rules: bool = False
    order: List[str] = field(default_factory=list)

    @property
    def first(self) -> Optional[PartDrift]:
        """The first part that departs; the output where none does before."""
        all_of_it = [*self.parts, self.output]
        return next((part for part in all_of_it if part.departs), None)

    @property
    def suspects(self) -> List[str]:
        """The new modules that came last before the first part that departs;
        a shortcut beside them may lie between.
        """
        paths = {part.path for part in self.parts}
        found: List[str] = []
        was_new = False
        for path in self.order:
            if self.first is not None and path == self.first.path:
                break
            if path not in paths:
                found = [*found, path] if was_new else [path]
            was_new = path not in paths
        return found

    @property
    def is_same(self) -> bool:
        """Whether the network still computes what the pretrained one does."""
        return self.first is None and not self.shifted

    def allow(self, allowed: Callable[[PartDrift], float]) -> None:
        """Say how far each part and the output may be."""
        for part in [*self.parts, self.output]:
            part.allowed = allowed(part)

    def to_dict(self) -> Dict[str, Any]:
        """All of it as plain data, of finite numbers."""
        return dict(
            same=self.is_same,
            first=self.first and self.first.path,
            behind=self.suspects if self.first else [],
            output=_plain(self.output),
            parts=[_plain(part) for part in self.parts],
            not_loaded=self.unloaded,
            shifted=[list(pair) for pair in self.shifted],
            not_called=self.idle,
        )


def compare(
    base: Recording,
    ours: Recording,
    pairs: Pairs,
    before: Optional[Recording] = None,
) -> Comparison:
    """Compare what was recorded of a network with the pretrained one.

    Args:
        base (Recording): Of the pretrained network.
        ours (Recording): Of the other one.
        pairs (Pairs): Which part is which.
        before (Recording, optional): Of the other one, before rules wrote
            anything. Defaults to None.
    """
    by_base = {pair.base.path: pair for pair in pairs.both}
    parts = []
    for path in base.calls:
        pair = by_base[path]
        if pair.ours.path in ours.calls:
            parts.append(_part(pair, base, ours, before))
    called = {part.path for part in parts}
    idle = [p.ours.path for p in pairs.both if p.ours.path not in called]
    output = PartDrift('', '', [drift(ours.output, base.output)])
    if before is not None:
        output.before = drift(before.output, base.output)
    return Comparison(
        parts,
        output,
        pairs.unloaded,
        pairs.shifted,
        idle,
        before is not None,
        ours.order,
    )


def change_ahead(found: Comparison) -> float:
    """How much has changed ahead of the first part that departs."""
    changes = [0.0]
    for part in found.parts:
        if part.departs:
            break
        changes.append(part.drift or 0.0)
    return max(_LEAST_CHANGE, *changes)


def mark_unsteady(
    found: Comparison, base: Recording, shaken: Recording
) -> None:
    """Find parts that cannot be judged, since they hang on a choice (of the
    best proposals, say) that turns when anything ahead of it changes: a change
    that grows at once, in the pretrained network itself.

    Args:
        found (Comparison): Gets what is found.
        base (Recording): Of the pretrained network.
        shaken (Recording): Of the same, its input changed a little.
    """
    ahead = 0.0
    for part in [*found.parts, found.output]:
        if part is found.output:
            moved = drift(shaken.output, base.output)
        else:
            calls = shaken.calls.get(part.base, [])
            moved = largest(_by_call(calls, base.calls[part.base]))
        if moved is None:
            continue
        ours = part.drift or 0.0
        if part.departs and moved > max(_JUMP * ahead, ours / 2):
            part.unsteady = True
        else:
            ahead = max(ahead, moved)


def largest(drifts: Sequence[Optional[float]]) -> Optional[float]:
    """The largest of some drifts, ``nan`` being larger than all."""
    known = [value for value in drifts if value is not None]
    strange = [value for value in known if math.isnan(value)]
    return strange[0] if strange else max(known, default=None)


def _part(
    pair: Pair, base: Recording, ours: Recording, before: Optional[Recording]
) -> PartDrift:
    theirs, path = base.calls[pair.base.path], pair.ours.path
    calls = _by_call(ours.calls[path], theirs)
    part = PartDrift(path, pair.base.path, calls)
    if before is not None:
        part.before = largest(_by_call(before.calls.get(path, []), theirs))
    return part


def _by_call(ours: List[Any], base: List[Any]) -> List[Optional[float]]:
    return [drift(a, b) for a, b in zip(ours, base)]


def _plain(part: PartDrift) -> Dict[str, Any]:
    """Without what JSON has no numbers for."""
    return dict(
        path=part.path,
        base=part.base,
        drift=_finite(part.drift),
        calls=[_finite(value) for value in part.calls],
        without_rules=_finite(part.before),
        allowed=part.allowed,
        departs=part.departs,
        unsteady=part.unsteady,
    )


def _finite(value: Optional[float]) -> Optional[float]:
    return value if value is not None and math.isfinite(value) else None
