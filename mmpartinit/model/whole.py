"""A model as it was before anything was wrapped around it or split."""

from contextlib import contextmanager
from typing import Iterator

import torch.nn as nn

from ..processes.shards import Shards
from .tree import ModelTree


class WholeModel:
    """The tree of a model, whose parameters may lie in parts.

    Attributes:
        model (nn.Module): The model, as it is.
        tree (ModelTree): Its modules and tensors; a parameter that lies in
            parts has its stand-in there.
        shards (Shards): The parameters that lie in parts.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.shards = Shards(model)
        with self.shards.shown():
            self.tree = ModelTree(model)

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Have no wrappers in the model, and stand-ins in their places."""
        with self.shards.shown(), self.tree.unwrapped():
            yield
