"""How budgets stand, as metrics."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from router.budget_settings import rolling
from router.ledger.lease import Account, Standing
from router.ledger.pricing import NANO_PER_USD
from router.record.metrics import Metrics

EVERY_S = 1.0


class BudgetGauges:
    """Shown once a second: with a budget for each of many keys it is work."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._shown_at = 0.0
        self._shown: WeakKeyDictionary[Account, tuple[Standing, float, int]] = WeakKeyDictionary()

    def show(self, accounts: Iterable[Account], now: float) -> None:
        """Set the gauges and add to the counters, unless that was done a moment ago."""
        if 0 <= now - self._shown_at < EVERY_S:
            return
        self._shown_at = now
        accounts = list(accounts)
        for account in accounts:
            shown = self._shown.get(account)
            if shown is None or shown[0] is not account.standing or shown[1] <= now or shown[2] != account.limit_nano:
                self._shown[account] = (account.standing, account.window(now).end, account.limit_nano)
                self._stand(account, now)
        self.count(accounts)

    def count(self, accounts: Iterable[Account]) -> None:
        """Add what was charged since the last time to the counters."""
        for account in accounts:
            if account.settled:
                self._metrics.budget_settled.labels(account.name, account.member).inc(account.settled / NANO_PER_USD)
                account.settled = 0
            if account.overshoot:
                self._metrics.budget_overshoot.labels(account.name).inc(account.overshoot / NANO_PER_USD)
                account.overshoot = 0

    def _stand(self, account: Account, now: float) -> None:
        metrics, labels, standing = self._metrics, (account.name, account.member), account.known(now)
        metrics.budget_limit.labels(*labels).set(account.limit_nano / NANO_PER_USD)
        if account.budget.target_usd is not None:
            metrics.budget_target.labels(*labels).set(account.budget.target_usd)
        reserved = standing.ceiling - standing.spent - standing.presumed
        metrics.budget_spent.labels(*labels).set(standing.spent / NANO_PER_USD)
        metrics.budget_reserved.labels(*labels).set(reserved / NANO_PER_USD)
        metrics.budget_presumed.labels(*labels).set(standing.presumed / NANO_PER_USD)
        window, length = account.window(now), rolling(account.budget.window)
        if length is None:  # a rolling window has a length, but no end
            metrics.budget_window_end.labels(*labels).set(window.end)
        metrics.budget_window.labels(*labels).set(length.total_seconds() if length else window.end - window.start)
