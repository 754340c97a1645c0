"""The nodes of a model's tree that path patterns name."""

import difflib
import fnmatch
import re
from bisect import bisect_left
from functools import lru_cache
from typing import Dict, Iterable, Iterator, List, Tuple

from ..model.tree import ModelTree, Node
from .patterns import parse_pattern

_MAGIC = re.compile(r'[*?\[]')


@lru_cache(maxsize=4096)
def _regex(segment: str) -> 're.Pattern':
    """The regular expression for a segment with wildcards."""
    return re.compile(fnmatch.translate(segment))


class Selector:
    """Finds the nodes of a tree that parsed patterns name, prefixes that
    patterns share walked once.
    """

    def __init__(self, tree: ModelTree) -> None:
        self.tree = tree
        self._found: Dict[Tuple[str, ...], List[Node]] = {}
        self._by_name: Dict[str, List[int]] = {}

    def select(self, alternatives: Iterable[Tuple[str, ...]]) -> List[Node]:
        """Nodes that any of the patterns names, in order; of what hangs in
        several places the first.
        """
        found: Dict[int, Node] = {}
        for segments in alternatives:
            for node in self._descend(segments):
                first = self.tree.first(node)
                found[first.number] = first
        return [found[number] for number in sorted(found)]

    def named(self, segments: Tuple[str, ...]) -> Iterator[Tuple[int, str]]:
        """The numbers of the nodes that a pattern names, each as the first of
        its places has it, and the paths by which it names them.
        """
        for node in self._descend(segments):
            yield self.tree.first(node).number, node.path

    def _descend(self, segments: Tuple[str, ...]) -> List[Node]:
        """Nodes that the segments lead to from the root."""
        if not segments:
            return self.tree.nodes[:1]
        if segments not in self._found:
            *head, last = segments
            if last == '**':
                # Everything below matches too; its outermost nodes say it.
                nodes = self.tree.outermost(self._descend(tuple(head)))
            elif head and head[-1] == '**':
                nodes = self._below(self._descend(tuple(head)), last)
            else:
                nodes = self._children(self._descend(tuple(head)), last)
            self._found[segments] = nodes
        return self._found[segments]

    def _children(self, parents: List[Node], segment: str) -> List[Node]:
        index, nodes = self.tree.index, self.tree.nodes
        if not _MAGIC.search(segment):
            paths = (parent.path for parent in parents)
            children = (
                path + '.' + segment if path else segment for path in paths
            )
            return [index[child] for child in children if child in index]
        matches = _regex(segment).match
        found = []
        for parent in parents:
            number = parent.number + 1
            while number < parent.end:
                child = nodes[number]
                if matches(_name(child)):
                    found.append(child)
                number = child.end
        return found

    def _below(self, parents: List[Node], segment: str) -> List[Node]:
        nodes = self.tree.nodes
        if not self._by_name:
            for node in nodes:
                self._by_name.setdefault(_name(node), []).append(node.number)
        if _MAGIC.search(segment):
            matches = _regex(segment).match
            names = [name for name in self._by_name if matches(name)]
        else:
            names = [segment] if segment in self._by_name else []
        found = []
        for parent in parents:
            for name in names:
                numbers = self._by_name[name]
                first = bisect_left(numbers, parent.number + 1)
                last = bisect_left(numbers, parent.end)
                found += [nodes[number] for number in numbers[first:last]]
        return found

    def nearest(self, pattern: str, count: int = 3) -> List[str]:
        """The nearest paths that a pattern without a match may have meant.

        First those that differ by left-out segments (``se`` for
        ``backbone.layer1.0.se``), then those spelled alike.
        """
        near: List[str] = []
        for segments in parse_pattern(pattern):
            loose: List[str] = []
            for segment in segments:
                loose += [segment] if segment == '**' else ['**', segment]
            near += [node.path for node in self.select([tuple(loose)])]
        if not near:
            depth = pattern.count('.')
            similar = [
                path
                for path in self.tree.index
                if path and abs(path.count('.') - depth) <= 1
            ]
            near = difflib.get_close_matches(
                pattern, similar[:5000], n=count, cutoff=0.5
            )
        return list(dict.fromkeys(near))[:count]


def _name(node: Node) -> str:
    """The last segment of a node's path."""
    return node.path.rpartition('.')[2]
