"""Comparing a student's answer with its teacher's: `registry.Comparators.compare` gives a `Verdict`."""

from router.evidence.compare.base import Answer, JudgeUnavailable, Services, ToolCall, Verdict

__all__ = ["Answer", "JudgeUnavailable", "Services", "ToolCall", "Verdict"]
