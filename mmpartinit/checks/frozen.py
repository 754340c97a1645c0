"""What the user should see of what is named to be frozen."""

from typing import Dict, List, Set

from ..errors import Finding
from ..model.tree import ModelTree
from .findings import found


def put_in_and_trained(
    tree: ModelTree, origins: Dict[str, str], frozen: Set[str]
) -> List[Finding]:
    """Parameters that code put in, where only loaded ones are frozen.

    Args:
        tree (ModelTree): The model.
        origins (dict[str, str]): Of each tensor, by name.
        frozen (set[str]): Names of what is frozen.
    """
    code = {name for name, origin in origins.items() if origin == 'code'}
    kept = code | frozen
    names = [
        e.path
        for e in tree.entries
        if e.is_parameter and e.path in code - frozen
    ]
    nodes = [
        node
        for node in tree.nodes
        for rest in [[e.path for e in node.tensors() if not e.is_counter]]
        if not set(names).isdisjoint(rest) and kept.issuperset(rest)
    ]
    paths = [node.path or '**' for node in tree.outermost(nodes)]
    text = (
        f'{len(names)} parameters that code put in are not frozen, since no '
        f'file is known for them; to freeze them as well: loaded={paths}'
    )
    return found('warning', 'not-frozen', text, names)


def frozen_as_drawn(names: List[str]) -> List[Finding]:
    """Parameters that take no gradient, and that nothing has supplied."""
    text = (
        f'{len(names)} parameters have requires_grad=False, and neither a '
        'checkpoint nor a rule supplies them: they keep the random values '
        'that they were built with'
    )
    return found('warning', 'frozen-new', text, names)
