"""A logged request as a replay needs it: what both arms would have brought, and with which probabilities it was seen.

Two things in a log say what another policy would have done. An *audited* request, of which both answers were seen, says
it of every policy; it stands for 1/probability requests. A *randomised* decision, of which only one arm was seen, says
it of the arm that was drawn; it stands for (probability of the candidate)/(probability of the log) requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.base import Arm


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one request; expectations where the way is random.

    `teacher`: P(the client gets the teacher's answer); `cost_usd`: of all calls for it; `loss` in [0, 1]: P(the client
    gets the student's answer, and it is harmfully different).
    """

    teacher: float
    cost_usd: float
    loss: float


@dataclass(frozen=True, slots=True)
class Logged:
    """One audited request. `probability`: of being looked at; `harm`: 1 where the student's answer is harmful, else 0.

    `time`: Unix seconds. `conversation`: its requests are alike, and count as one draw in every interval.
    `student_failed`: it has no answer. `rescued`: the teacher answers where the student fails.
    """

    id: str
    conversation: str
    time: float
    probability: float
    harm: float
    teacher_cost_usd: float
    student_cost_usd: float
    student_failed: bool = False
    rescued: bool = False

    def routed(self, teacher_probability: float) -> Outcome:
        """One arm is asked, the teacher with this probability."""
        student = 1.0 - teacher_probability
        if self.student_failed and self.rescued:
            return Outcome(1.0, self.teacher_cost_usd + student * self.student_cost_usd, 0.0)
        cost_usd = teacher_probability * self.teacher_cost_usd + student * self.student_cost_usd
        return Outcome(teacher_probability, cost_usd, student * self.harm)

    def escalated(self, wasted_usd: float) -> Outcome:
        """The student was asked first, for `wasted_usd`, and then the teacher."""
        return Outcome(1.0, self.teacher_cost_usd + wasted_usd, 0.0)


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision of the log, and what its request cost. `arm`: the one that was chosen, whoever answered.

    `time`: Unix seconds. `teacher_probability`: of the log; `candidate`: that of the other policy, None where the row
    does not tell.
    """

    time: float
    arm: Arm
    teacher_probability: float
    cost_usd: float
    candidate: float | None = None
