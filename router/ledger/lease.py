"""One worker's share of a budget: a lease that it may spend without asking, and holds on it for running calls."""

from __future__ import annotations

from dataclasses import dataclass

from router.budget_settings import Budget
from router.ledger.names import window_key
from router.ledger.windows import PARTS, Window, window_at

State = tuple[int, int, int, int]
Cells = memoryview | list[int]  # counters in the journal, or without one


@dataclass(frozen=True, slots=True)
class Standing:
    """What Redis last said of an account's window, in nano-dollars, over all workers.

    `slack`: leased to other living workers and not reserved there. `starved`: somebody was refused for want of slack.
    `oldest`: start of the first part of a rolling window that still counts for something.
    """

    window: int
    at: float
    ceiling: int = 0
    spent: int = 0
    presumed: int = 0
    slack: int = 0
    workers: int = 1
    starved: bool = False
    base: tuple[int, int] = (0, 0)
    oldest: int = 0


class Lease:
    """What a worker holds of one window: `ceiling` is granted, `spent` and `reserved` are used of it (nano-dollars).

    `presumed`: what calls may have cost that nobody saw the end of; Redis keeps it apart, so that it is no part of the
    ceiling. `holds`: calls that may still be charged. `cells[cell]` and the next are spent, reserved and presumed as
    the journal has them.
    """

    __slots__ = (
        "account",
        "ceiling",
        "cell",
        "cells",
        "holds",
        "key",
        "presumed",
        "reserved",
        "said",
        "spent",
        "window",
    )

    def __init__(self, account: Account, window: Window, cells: Cells, cell: int) -> None:
        self.account = account
        self.window = window
        self.key = account.key(window.start)
        self.cells = cells
        self.cell = cell
        self.ceiling = 0
        self.spent = 0
        self.reserved = 0
        self.presumed = 0
        self.holds = 0
        self.said: State | None = (0, 0, 0, 0)

    @property
    def slack(self) -> int:
        return self.ceiling - self.spent - self.reserved

    def reserve(self, nano: int) -> None:
        self.holds += 1
        self.reserved += nano
        self.cells[self.cell + 1] = self.reserved

    @property
    def state(self) -> State:
        return self.ceiling, self.spent, self.reserved, self.presumed

    def presume(self, nano: int) -> None:
        """So much of what is reserved may have been spent: it stays charged, and leaves the lease."""
        self.presumed += nano
        self.cells[self.cell + 2] = self.presumed
        self.ceiling -= nano
        self.reserved -= nano
        self.cells[self.cell + 1] = self.reserved

    def settle(self, cost: int, reserved: int) -> None:
        """`cost` is spent; `reserved` is no longer held. A death between the two stores leaves both charged."""
        self.spent += cost
        self.cells[self.cell] = self.spent
        self.reserved -= reserved
        self.cells[self.cell + 1] = self.reserved


class Account:
    """A budget of one member: which lease serves now, and what is known of all workers together.

    `pinned`: spoken of also while nobody uses it, so that its gauges stay fresh. `dropped`: no longer configured, and
    used only by requests that began before.
    """

    __slots__ = (
        "__weakref__",
        "budget",
        "demand",
        "dropped",
        "full_at",
        "idle_since",
        "lease",
        "limit_nano",
        "member",
        "name",
        "overshoot",
        "pace",
        "pinned",
        "settled",
        "standing",
    )

    def __init__(self, name: str, member: str, budget: Budget, *, pinned: bool = False) -> None:
        self.name = name
        self.member = member
        self.budget = budget
        self.limit_nano = budget.limit_nano
        self.pinned = pinned
        self.dropped = False
        self.lease: Lease | None = None
        self.standing = Standing(0, 0.0)
        self.demand = 0  # reserved since the last talk
        self.pace = 0.0  # how much a talk's interval takes, smoothed
        self.idle_since = 0.0
        self.full_at = 0.0  # when somebody waited in vain
        self.overshoot = 0  # charged beyond reservations, and not counted yet
        self.settled = 0  # charged, and not counted yet

    @property
    def place(self) -> tuple[str, str, str, str]:
        return self.name, self.budget.window, self.budget.timezone, self.member

    def key(self, start: int) -> str:
        return window_key(self.name, self.budget.window, self.budget.timezone, self.member, start)

    def window(self, now: float) -> Window:
        lease = self.lease
        return lease.window if lease and lease.window.start <= now < lease.window.end else window_at(self.budget, now)

    def known(self, now: float) -> Standing:
        """What Redis last said, as far as it is still about the window that `now` falls into."""
        standing = self.standing
        return standing if standing.window in self.window(now).counted else Standing(0, now)

    def is_spent(self, amount: int, now: float, fresh_s: float) -> bool:
        """Whether the window has less than `amount` left, whatever others give back; as told a moment ago."""
        standing = self.standing
        if not 0 <= now - standing.at <= fresh_s or standing.window != self.window(now).start:
            return amount > self.limit_nano
        return standing.spent + standing.presumed + amount > self.limit_nano

    def is_full(self, amount: int, now: float) -> bool:
        """Whether all workers together have leased so much that `amount` does not fit beside it."""
        standing, lease = self.known(now), self.lease
        slack = lease.slack if lease and lease.window.end > now else 0
        return standing.ceiling - max(0, slack) + amount > self.limit_nano

    def frees(self, now: float) -> float:
        """When money comes back: at the window's end; of a rolling one when its oldest part leaves it."""
        window = self.window(now)
        if len(window.counted) == 1:
            return window.end
        oldest = self.known(now).oldest or window.start
        return oldest + (PARTS + 1) * (window.end - window.start)

    def __repr__(self) -> str:
        return f"<budget {self.name} {self.member}>"


class Hold:
    """Money reserved for one call on several leases; given back exactly once, whatever the way out.

    `left`: nano-dollars of the reservation that nothing was charged to yet.
    """

    __slots__ = ("_open", "leases", "left")

    def __init__(self, leases: tuple[Lease, ...], amount: int) -> None:
        self.leases = leases
        self.left = amount
        self._open = True

    def settle(self, cost: int) -> None:
        """Charge `cost` and give back the rest, in one go."""
        left, beyond = self.left, cost - self.left
        self._open = False
        self.left = 0
        for lease in self.leases:
            lease.settle(cost, left)
            lease.holds -= 1
            account = lease.account
            account.settled += cost
            if beyond > 0:
                account.overshoot += beyond

    def take(self, cost: int) -> None:
        """Charge `cost`; what is more than the rest of the reservation is overshoot."""
        covered = min(cost, self.left)
        self.left -= covered
        for lease in self.leases:
            lease.settle(cost, covered)
            lease.account.overshoot += cost - covered
            lease.account.settled += cost

    def release(self) -> None:
        """Give back the rest; nothing is charged any more. May be called twice."""
        if self._open:
            self._open = False
            for lease in self.leases:
                lease.settle(0, self.left)
                lease.holds -= 1
            self.left = 0

    def presume(self) -> None:
        """Nobody saw the end of the call: the rest stays charged, as presumed spent. Instead of `release`."""
        if self._open:
            self._open = False
            for lease in self.leases:
                lease.presume(self.left)
                lease.holds -= 1
            self.left = 0
