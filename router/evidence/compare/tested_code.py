"""Code that the user's own test command decides: exit status 0 and the code is right, whatever it looks like.

Each answer's longest block is written to a file in a fresh folder beside `request.json`, and the command runs there.
Where both pass, the answers are the same; where neither does, their form decides: a test that always fails must not
look like a perfect student.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from router.comparator_settings import CodeSettings
from router.evidence.compare.base import Answer, Services, Verdict, agree, differ, failed, shorten
from router.evidence.compare.sandbox import MB, CannotRun, Finished, Limits, Sandbox
from router.evidence.compare.source_code import Block, SourceCode, blocks, main


@dataclass(frozen=True, slots=True)
class TestedCode:
    __test__: ClassVar[bool] = False  # pytest takes it for one of its own
    settings: CodeSettings
    argv: tuple[str, ...]
    sandbox: Sandbox
    form: SourceCode = field(default_factory=SourceCode)
    version: ClassVar[int] = 2

    @property
    def name(self) -> str:
        return self.form.name

    def applies(self, request: Mapping[str, Any], teacher: Answer, student: Answer) -> bool:
        return self.form.applies(request, teacher, student)

    async def compare(
        self, request: Mapping[str, Any], teacher: Answer, student: Answer, services: Services
    ) -> Verdict:
        theirs, ours = await asyncio.gather(
            asyncio.to_thread(_code, teacher.text), asyncio.to_thread(_code, student.text)
        )
        try:
            on_teacher = await self._test(theirs, request)
            on_student = on_teacher if theirs == ours else await self._test(ours, request)
        except CannotRun as error:
            return failed(self, f"the test command did not run: {error}")
        checks = {"teacher_valid": on_teacher == "", "student_valid": on_student == ""}
        if on_teacher == on_student == "":
            return agree(self, checks=checks)
        if (on_teacher == "") != (on_student == ""):
            told = f"teacher: {on_teacher or 'passes the test'}; student: {on_student or 'passes the test'}"
            return differ(self, "code", told, checks=checks)
        by_form = await asyncio.to_thread(self.form.compare, request, teacher, student)
        if by_form.same:
            return agree(self, checks=checks)
        told = f"neither passes the test (student: {on_student}); {by_form.diff}"
        return differ(self, "code", told, by_form.score, checks=checks)

    async def _test(self, code: Block | None, request: Mapping[str, Any]) -> str:
        """ "" where the test passes, else why not. Raises CannotRun."""
        if code is None:
            return "no code"
        files = {self.settings.file: code.code, "request.json": json.dumps(request, default=str)}
        return _told(await self.sandbox.run(self.argv, b"", files, self._limits()), self.settings.timeout_s)

    def _limits(self) -> Limits:
        settings = self.settings
        return Limits(
            wall_s=settings.timeout_s,
            rlimits={
                "CPU": settings.cpu_s,
                "AS": settings.memory_mb * MB,
                "FSIZE": settings.file_mb * MB,
                "processes": settings.processes,
            },
        )


def _code(text: str) -> Block | None:
    found = blocks(text)
    return main(found) if found else None


def _told(finished: Finished, timeout_s: float) -> str:
    if finished.status == 0:
        return ""
    if finished.status is None:
        return f"the test took longer than {timeout_s:g} s"
    said = (finished.complaint.strip() or finished.output.decode("utf-8", "replace").strip()).split("\n")[-1]
    return f"the test ended with status {finished.status}: {shorten(said)}"
