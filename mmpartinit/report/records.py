"""The records that a report consists of: plain data, as JSON has it."""

from dataclasses import dataclass, field
from typing import List, Optional

ORIGINS = ('checkpoint', 'rule', 'model')


@dataclass
class TensorRecord:
    """One tensor of the state dict.

    Attributes:
        name (str): Its state-dict name, without prefixes of wrappers.
        shape (list[int]): Its shape.
        dtype (str): Its dtype, such as ``'float32'``.
        origin (str): Where its values come from: ``'checkpoint'``, ``'rule'``
            or ``'model'`` (the model's own code).
        rule (int, optional): The rule that wrote it last.
        mean (float, optional): Mean of the values, where no rule wrote them
            that of at least 1,024 evenly spaced ones; None where they could
            not be read, or are not written yet.
        std (float, optional): Their standard deviation (of the population,
            so 0 for one element).
        source (str, optional): The tensor that it was copied from.
    """

    name: str
    shape: List[int]
    dtype: str
    origin: str
    rule: Optional[int] = None
    mean: Optional[float] = None
    std: Optional[float] = None
    source: Optional[str] = None


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
        kept (list[str]): Loaded tensors under its matches, left as they were.
    """

    index: int
    path: List[str]
    init_cfg: List[str]
    copy_from: Optional[str] = None
    matched: List[str] = field(default_factory=list)
    wrote: List[str] = field(default_factory=list)
    kept: List[str] = field(default_factory=list)
