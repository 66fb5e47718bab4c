"""The floor: up to which expected loss the student may serve a route, so that the loss over all its traffic is kept.

At any one time the loss per request since the start is at most `alpha`, with a confidence of 1 - `delta`. It is kept
like a budget. A ledger estimates from the audits what has been lost, and its noise; from that follows what may be lost
now. A curve says up to which score that is. Only the curve trusts scores and recent audits, and its mistakes come back
through the ledger. Alarms stop the student at once, where the ledger would wait until the losses are seen: the teacher
serves, the student is audited in the shadow, and from these audits alone a new curve is calibrated.

One `Floor` per route and version of its estimator, fed in batches by whoever runs it. Deterministic: equal calls give
equal states. It knows neither models nor money, is told the time, and promises nothing of short stretches, nor of what
it is told of as `uncovered`: requests of which no audit could tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from policies.bounds import Floats
from policies.certify.alarms import LossAlarm, ShiftAlarm
from policies.certify.bins import ABOVE_ALL, CENTRES, EDGES, NOVELTY_BINS, SCORE_BINS, score_bin
from policies.certify.curve import Curve, Cut, Line
from policies.certify.ledger import Ledger
from policies.certify.ltt import certified_threshold
from policies.certify.records import ALARMS, Alarm, AlarmKind, Audited, Calibration, FloorStatus, Phase, Scored
from policies.certify.settings import FloorSettings

__all__ = ["Alarm", "Audited", "Floor", "FloorSettings", "FloorStatus", "Scored"]

FORMAT = 3
MOST = 1.5  # times alpha: how much may be lost at most while unused allowance is caught up
MOST_OWED = 100  # requests whose loss a coarse threshold may have left over
KEPT_ALARMS = 3  # with their reasons
SPARE_AUDITS = 40  # by which chance may exceed the rates
SILENT_AUDITS = 25  # so many audits were due and none came: has a probability of exp(-25)
_PLAIN = ("phase", "limit", "fresh", "certified_once", "now_s", "unheard", "overdue_s")
_PROMISED = ("audits", "uncovered", "owed", "due")  # since the promise began, as the ledger is


class Floor:
    """See the module. Feed `scored` and `audited` in the order of time, then read `threshold` and `audit_rate`."""

    def __init__(self, settings: FloorSettings) -> None:
        self.settings = settings
        self._deviations = NormalDist().inv_cdf(1 - settings.delta)
        self._horizon = settings.window // 4
        self._begin()

    def _begin(self) -> None:
        self._ledger = Ledger()
        self._curve = Curve()
        self._alarms: list[Alarm] = []
        self._rung: dict[AlarmKind, int] = dict.fromkeys(ALARMS, 0)
        self._audits = 0
        self._uncovered = 0
        self._certified_once = False
        self._limit = ABOVE_ALL
        self._owed = 0.0
        self._due = 0.0  # audits drawn, as the rates say, those without a result included
        self._now_s = 0.0
        self._stop("calibrating")

    def _stop(self, phase: Phase) -> None:
        """From now on the teacher serves, and only what is audited from now on counts for the new calibration."""
        self._phase: Phase = phase
        self._curve.forget()
        self._shift = ShiftAlarm()
        self._losses = LossAlarm()
        self._expected = Line()
        self._fresh = 0
        self._heard()
        self._settle()

    def _heard(self) -> None:
        self._unheard = 0  # requests since an audit came back
        self._overdue_s: float | None = None  # since when so many are unheard that one should have

    @property
    def threshold(self) -> float:
        """The teacher serves from this expected loss on: 0.0 everything, above 1.0 nothing."""
        return min(self._limit, self._cut.threshold)

    @property
    def phase(self) -> Phase:
        """Whether a calibration stands; if not, the teacher serves everything."""
        return self._phase

    @property
    def audit_rate(self) -> float:
        """The probability with which a request should be audited from now on, at least."""
        settings = self.settings
        if self._phase == "certified":
            return settings.audit_rate
        spare = settings.max_audits * self._ledger.requests - max(self._due, self._audits)
        affordable = not self._certified_once or spare >= settings.min_audits - self._fresh + SPARE_AUDITS
        return max(settings.audit_rate, settings.shadow_rate) if affordable else settings.audit_rate

    def start(self, calibration: Calibration, now_s: float) -> None:
        """Forgets everything and begins from pairs of another time: a new version of the estimator brings its own.

        Certified at once where Learn then Test finds a threshold, which then stands until `min_audits` live audits.
        """
        self._begin()
        self._now_s = now_s
        settings = self.settings
        probabilities = calibration.weight.min() / calibration.weight
        self._limit = certified_threshold(
            calibration.loss, calibration.harm, probabilities, settings.alpha, settings.delta, EDGES[1:]
        )
        if self._limit == 0.0:
            self._limit = ABOVE_ALL
            return
        bins = np.array([score_bin(loss) for loss in calibration.loss.tolist()])
        memory = settings.window * settings.audit_rate
        weights = calibration.weight * min(1.0, memory / len(bins)) / settings.audit_rate / calibration.weight.mean()
        self._curve.scores = np.bincount(bins, weights, minlength=SCORE_BINS).astype(np.float64)
        self._curve.audited(CENTRES[bins], calibration.harm, weights)
        self._curve.slope = self._curve.line().slope
        self._certify()

    def scored(self, counts: Scored, now_s: float) -> None:
        """Counts what was decided since the last call. ValueError on histograms of other bins."""
        scores, novelties, student = (
            np.asarray(each, float) for each in (counts.scores, counts.novelties, counts.student)
        )
        if len(scores) != SCORE_BINS or len(student) != SCORE_BINS or len(novelties) != NOVELTY_BINS:
            raise ValueError(f"counts come in {SCORE_BINS} bins of scores and {NOVELTY_BINS} of novelties")
        self._now_s = now_s
        requests = int(scores.sum())
        self._owed = min(self._owed + (self._allowed - self._cut.loss) * requests, self.settings.alpha * MOST_OWED)
        self._ledger.count(requests, int(student.sum()))
        self._curve.count(scores, self.settings.window)
        self._unheard += requests
        self._uncovered += counts.uncovered
        self._due += self.audit_rate * requests
        if self._phase == "certified":
            moved = self._moved(scores, novelties)
            if moved:
                self._alarm("scores", moved)
            elif self._is_silent():
                self._alarm("silence", f"no audit has come back of {self._unheard} requests")
        self._settle()

    def audited(self, pairs: Sequence[Audited]) -> None:
        """Takes in audited pairs whose harm has become known."""
        if not pairs:
            return
        self._heard()
        self._audits += len(pairs)
        bins = np.array([score_bin(pair.score) for pair in pairs])
        harms = np.array([pair.harm for pair in pairs])
        probabilities = np.array([pair.probability for pair in pairs])
        student = np.array([pair.student for pair in pairs])
        scores = CENTRES[bins]
        self._ledger.audited(harms[student], probabilities[student])
        self._curve.audited(scores, harms, 1 / probabilities)
        self._fresh += len(pairs)
        if self._phase == "certified":
            worse = self._losses.audited(harms, self._expected.at(scores))
            if worse:
                self._alarm("audits", worse)
        elif self._fresh >= self.settings.min_audits:
            self._certify()
        if self._fresh >= self.settings.min_audits:
            self._limit = ABOVE_ALL
        self._settle()

    def status(self) -> FloorStatus:
        """The state in words and numbers."""
        ledger, settings = self._ledger, self.settings
        requests = max(1, ledger.requests)
        return FloorStatus(
            phase=self._phase,
            threshold=self.threshold,
            audit_rate=self.audit_rate,
            requests=ledger.requests,
            audits=self._audits,
            student_share=ledger.served / requests,
            loss_estimate=ledger.loss / requests,
            upper_bound=ledger.upper_bound(self._deviations, settings.audit_rate),
            allowed=self._allowed,
            alarms=tuple(self._alarms),
            rung=dict(self._rung),
            uncovered=self._uncovered,
            why=self._why(),
        )

    def dump(self) -> dict[str, Any]:
        """Everything that `load` needs, as JSON values; a few thousand numbers, most of them 0."""
        return {
            "format": FORMAT,
            "settings": self.settings.model_dump(),
            **{name: getattr(self, f"_{name}") for name in (*_PLAIN, *_PROMISED)},
            "alarms": [[alarm.time_s, alarm.kind, alarm.why] for alarm in self._alarms],
            "rung": dict(self._rung),
            "expected": [self._expected.score, self._expected.loss, self._expected.slope],
            "ledger": self._ledger.dump(),
            "curve": self._curve.dump(),
            "shift": self._shift.dump(),
            "losses": self._losses.dump(),
        }

    @classmethod
    def load(cls, state: Mapping[str, Any], settings: FloorSettings | None = None) -> Floor:
        """The floor that was dumped, to go on under these settings, or under its own.

        Another `alpha` or `delta` is another promise: what was lost and spared under the old one is left behind.
        ValueError on the state of another format.
        """
        if state.get("format") != FORMAT:
            raise ValueError(f"a floor's state of format {state.get('format')!r}; this version reads {FORMAT}")
        own = FloorSettings.model_validate(state["settings"])
        floor = cls(settings or own)
        same = (floor.settings.alpha, floor.settings.delta) == (own.alpha, own.delta)
        for name in (*_PLAIN, *_PROMISED) if same else _PLAIN:
            setattr(floor, f"_{name}", state[name])
        floor._alarms = [Alarm(*alarm) for alarm in state["alarms"]]
        floor._rung = dict(state["rung"])
        floor._expected = Line(*state["expected"])
        floor._ledger = Ledger(**state["ledger"]) if same else Ledger()
        floor._curve = Curve.load(state["curve"])
        floor._shift = ShiftAlarm.load(state["shift"])
        floor._losses = LossAlarm.load(state["losses"])
        floor._settle()
        return floor

    def _why(self) -> str:
        if self._phase != "certified":
            after = f"after an alarm: {self._alarms[-1].why}; " if self._phase == "alarm" else ""
            return f"{after}{self._fresh} of {self.settings.min_audits} audits for a calibration"
        if self.threshold > 0:
            return f"calibrated, to lose {self._allowed:.2%} of the requests"
        return "what may be lost is used up" if self._allowed == 0 else "even the best scores lose too much"

    def _moved(self, scores: Floats, novelties: Floats) -> str | None:
        """Looks while the student serves: else a cascade scores only a sample, each of it standing for many."""
        return self._shift.count(scores, novelties) if self.threshold > 0 else None

    def _is_silent(self) -> bool:
        """Whether so many requests that an audit of them should be back are that old."""
        if self._unheard < SILENT_AUDITS / self.settings.audit_rate:
            return False
        if self._overdue_s is None:
            self._overdue_s = self._now_s
        return self._now_s - self._overdue_s >= self.settings.silent_s

    def _alarm(self, kind: AlarmKind, why: str) -> None:
        self._alarms = [*self._alarms[1 - KEPT_ALARMS :], Alarm(self._now_s, kind, why)]
        self._rung[kind] += 1
        self._limit = ABOVE_ALL
        self._stop("alarm")

    def _certify(self) -> None:
        self._phase = "certified"
        self._certified_once = True
        self._expected = self._curve.line()
        self._settle()

    def _settle(self) -> None:
        """What may be lost now, and the threshold for it."""
        settings = self.settings
        wanted = self._ledger.allowed(
            settings.alpha, self._deviations, settings.audit_rate, self._horizon, settings.window
        )
        self._allowed = min(MOST * settings.alpha, wanted)
        under, over = self._curve.cuts(self._allowed) if self._phase == "certified" else (Cut(), Cut())
        self._cut = over if self._owed > 0 else under
