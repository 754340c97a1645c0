"""The report: its records, and how they are shown."""

from ..errors import Finding
from .records import RuleRecord, TensorRecord

__all__ = ['Finding', 'RuleRecord', 'TensorRecord']
