"""Comparing a student's answer with its teacher's: `compare(request, teacher, student)` gives a `Verdict`."""

from router.evidence.compare.base import Answer, Comparator, ToolCall, Verdict
from router.evidence.compare.registry import COMPARATORS, UnknownComparator, compare, get

__all__ = ["COMPARATORS", "Answer", "Comparator", "ToolCall", "UnknownComparator", "Verdict", "compare", "get"]
