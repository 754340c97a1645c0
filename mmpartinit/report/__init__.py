"""The report: its records, and how they are shown."""

from ..errors import Finding
from .records import CheckpointRecord, RuleRecord, TensorRecord

__all__ = ['CheckpointRecord', 'Finding', 'RuleRecord', 'TensorRecord']
