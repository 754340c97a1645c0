"""The report: its records, and how they are shown."""

from .records import Finding, RuleRecord, TensorRecord

__all__ = ['Finding', 'RuleRecord', 'TensorRecord']
