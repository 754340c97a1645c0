"""The last layers and the gates of new parts."""

from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from .flow import Flow
from .graph import Op, is_gate, kind, leaf, operands, unmoved


class Gate(NamedTuple):
    """A factor between bounds, by which features are multiplied.

    Attributes:
        kind (str): The operation that bounds it.
        layers (list[str]): Paths of the layers that it is computed by.
        times (int): How often each of them is called for it.
    """

    kind: str
    layers: List[str]
    times: int


class Inner:
    """What is computed in new parts, and from them alone.

    Args:
        flow (Flow): That.
        names (dict[int, str]): Paths of the tensors, by identity.
    """

    def __init__(self, flow: Flow, names: Dict[int, str]) -> None:
        self.flow, self.names = flow, names

    def reached(self, ends: Iterable[Op]) -> List[Op]:
        """What is in new parts and leads to some ends."""
        graph = self.flow.graph
        found: Set[Op] = set()
        for end in ends:
            found.update(graph.above(end, self.flow.is_outside))
        return sorted(found, key=graph.order.__getitem__)

    def last_layers(self, op: Op) -> List[Tuple[str, bool]]:
        """The new layers by which something is computed last, one for each
        call; and whether it goes through a ReLU then.
        """
        found = []
        waiting, seen = [(op, False)], {op}
        while waiting:
            op, rectified = waiting.pop()
            tensor = leaf(op)
            if self.flow.new.get(id(tensor)) is not None:
                found.append((self.names[id(tensor)], rectified))
                continue
            layers = self.new_layers(op)
            found += [(layer, rectified) for layer in layers]
            if self.flow.is_outside(op) or (layers and kind(op) != 'Add'):
                continue
            rectified = rectified or kind(op) == 'Relu'
            for below in operands(op):
                if below not in seen and leaf(below) is None:
                    seen.add(below)
                    waiting.append((below, rectified))
        return found

    def new_layers(self, op: Op) -> List[str]:
        """Paths of the layers, or bare parameters, that an operation takes."""
        found = {}
        for below in operands(op):
            tensor = leaf(below)
            if id(tensor) in self.flow.new:
                path = self.names[id(tensor)]
                above, _, key = path.rpartition('.')
                is_part = self.flow.new[id(tensor)] is not None
                in_layer = key in ('weight', 'bias') and not is_part
                found[above if in_layer else path] = True
        return list(found)

    def gate(self, op: Op) -> Optional[Gate]:
        """The gate by which an operation multiplies, if it does."""
        below = operands(op)
        if kind(op) != 'Mul' or len(below) != 2:
            return None
        for this, other in (below, below[::-1]):
            this = unmoved(this)
            if not is_gate(this):
                continue
            source = unmoved(operands(this)[0])
            if unmoved(other) is source:
                continue  # x * sigmoid(x) has no bounds
            layers = [path for path, _ in self.last_layers(source)]
            if layers:
                unique = list(dict.fromkeys(layers))
                return Gate(kind(this), unique, len(layers) // len(unique))
        return None

    def factors(self, op: Op) -> List[str]:
        """Bare parameters and layers by which an operation multiplies."""
        if kind(op) != 'Mul':
            return []
        found = [self.new_layers(unmoved(below)) for below in operands(op)]
        # The product of two layers is no factor of something else.
        one = [layers for layers in found if layers]
        return self.new_layers(op) or (one[0] if len(one) == 1 else [])
