"""The records that a report consists of: plain data, as JSON has it."""

from dataclasses import dataclass, field
from typing import Any, List, Optional

ORIGINS = ('file', 'code', 'rule', 'built')


@dataclass
class TensorRecord:
    """One tensor of the state dict.

    Attributes:
        name (str): Its state-dict name, without prefixes of wrappers.
        shape (list[int]): Its shape.
        dtype (str): Its dtype, such as ``'float32'``.
        origin (str): What decided its values: ``'file'``, ``'code'`` (put in,
            but no load was seen), ``'rule'`` or ``'built'`` (drawn, or one
            constant).
        rule (int, optional): The rule that wrote it last.
        mean (float, optional): Mean of the values, where no rule wrote them
            that of at least 1,024 evenly spaced ones; None where they could
            not be read, or are not written yet.
        std (float, optional): Their standard deviation (of the population,
            so 0 for one element).
        source (str, optional): The tensor that it was copied from.
        file (str, optional): The file that its values are from, also by a
            rule (``Pretrained``); None where no file decided them, or it is
            not known which.
        key (str, optional): The name of its values in that file.
        trains (bool, optional): Whether it needs a gradient, an optimizer has
            it, and its learning rate is not 0; None for a buffer, and where
            it is not known.
    """

    name: str
    shape: List[int]
    dtype: str
    origin: str
    rule: Optional[int] = None
    mean: Optional[float] = None
    std: Optional[float] = None
    source: Optional[str] = None
    file: Optional[str] = None
    key: Optional[str] = None
    trains: Optional[bool] = None


@dataclass
class RuleRecord:
    """What one rule did.

    Attributes:
        index (int): Its place in ``modules``, from 0.
        path (list[str]): Its patterns.
        init_cfg (list[str]): Its init_cfg, in short.
        copy_from (str, optional): Or the path that it copies from.
        matched (list[str]): Paths that it acted on.
        wrote (list[str]): State-dict names that it wrote.
        kept (list[str]): Tensors under its matches that were loaded or put in,
            left as they were.
    """

    index: int
    path: List[str]
    init_cfg: List[str]
    copy_from: Optional[str] = None
    matched: List[str] = field(default_factory=list)
    wrote: List[str] = field(default_factory=list)
    kept: List[str] = field(default_factory=list)


@dataclass
class CheckpointRecord:
    """What became of a state dict that was loaded into a module as a whole.

    Attributes:
        path (str): Path of the module, empty for the model.
        file (str, optional): The file that it is from, where that is known.
        tensors (int): How many tensors it has.
        used (int): How many of them went into the module.
        shapes (list[list]): Of each that has another shape in the model, its
            name there, its shape in the file and its shape in the model.
        unused (list[str]): Names in the file of those that went nowhere.
    """

    path: str
    file: Optional[str]
    tensors: int
    used: int
    shapes: List[List[Any]] = field(default_factory=list)
    unused: List[str] = field(default_factory=list)
