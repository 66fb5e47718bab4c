"""What one worker knows of money: its leases, its hourly sums, and the talk with Redis that keeps them true. No I/O.

`talk` says everything that changed since Redis last answered and asks for more where it is needed; `heard` takes the
answer in. A talk without an answer is simply followed by another: what a worker says is cumulative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from router.ledger.journal import Entry, Journal, JournalFull
from router.ledger.lease import Account, Cells, Hold, Lease, Standing, State
from router.ledger.names import HOUR_S, hour_field, hour_key

SLACK_TALKS = 4  # a lease has slack for what so many talks' intervals take
PACE_DECAY = 0.7
NUMBERS = 10  # what TALK answers for each lease
MOST_LEASES = 400  # a talk speaks of, so that it is over soon; the others have their turn at the next
HEAD = 3
FOLD_AFTER_S = 900  # hours whose requests have certainly ended are folded
LAST_NUMBER = 2**52  # of a worker's last words, so that whoever speaks them, they are heard once


@dataclass(frozen=True, slots=True)
class Need:
    """Money that a request waits for."""

    accounts: tuple[Account, ...]
    amount: int


@dataclass(slots=True)
class Tally:
    """One of an hour's sums: `value` nano-dollars; `dirty`: Redis has not confirmed it."""

    hour: int
    field: str
    cells: Cells
    cell: int
    value: int = 0
    dirty: bool = False


@dataclass(slots=True)
class Talk:
    """One message on its way: what it says, and of whom."""

    number: int
    body: dict[str, Any]
    leases: list[tuple[Lease, State]] = field(default_factory=list)
    tallies: list[tuple[Tally, int]] = field(default_factory=list)


class Book:
    """One per worker. `journal` None: nothing survives a killed process (its whole leases are presumed spent then).

    `idle_s`: how long a lease keeps slack that nobody uses. `refresh_s`: how often all leases are spoken of, which
    shows that the worker lives. `sums_s`: how long Redis keeps the sums.
    """

    def __init__(self, worker: str, journal: Journal | None, idle_s: float, refresh_s: float, sums_s: int) -> None:
        self.worker = worker
        self.declaring_s = 0.0
        self.unjournalled = 0
        self._journal = journal
        self._idle_s = idle_s
        self._refresh_s = refresh_s
        self._sums_s = sums_s
        self._number = 0
        self._run: str | None = None
        self._heard_all = 0.0
        self.behind = False
        self._accounts: dict[tuple[str, str, str, str], Account] = {}
        self._active: dict[Account, None] = {}  # in order, so that a run can be repeated
        self._ended: dict[str, Lease] = {}
        self._tallies: dict[tuple[int, str, str, str, str, str], Tally] = {}
        self._dirty: list[Tally] = []
        self._folding: dict[int, list[Tally]] = {}

    # --- the request path

    def reserve(self, accounts: Sequence[Account], amount: int, now: float) -> Hold | Account:
        """Reserve `amount` on every account, or say which one has not enough leased."""
        leases = []
        for account in accounts:
            lease = account.lease
            if lease is None or now >= lease.window.end:
                lease = self._begin(account, now)
            if lease.spent + lease.reserved + amount > lease.ceiling:
                return account
            leases.append(lease)
        return self._hold(leases, amount)

    def covers(self, account: Account, amount: int, now: float) -> bool:
        """Whether the account's lease has room for `amount`."""
        return self._current(account, now).slack >= amount

    def reserve_anyway(self, accounts: Sequence[Account], amount: int, now: float) -> Hold:
        """Reserve without regard to what is leased: the bound is waived."""
        return self._hold([self._current(account, now) for account in accounts], amount)

    def _hold(self, leases: list[Lease], amount: int) -> Hold:
        for lease in leases:
            lease.reserve(amount)
            if not lease.account.demand:
                self._active[lease.account] = None
            lease.account.demand += amount
        return Hold(tuple(leases), amount)

    def tally(self, hour: int, route: str, tenant: str, key: str, model: str, origin: str, nano: int) -> None:
        """Add to one of an hour's sums. `hour`: Unix time of its start."""
        place = (hour, route, tenant, key, model, origin)
        tally = self._tallies.get(place)
        if tally is None:
            name = hour_field(self.worker, route, tenant, key, model, origin)
            tally = self._tallies[place] = Tally(hour, name, *self._slot(f"sum|{hour + self._sums_s}|{hour}|{name}"))
        tally.value += nano
        tally.cells[tally.cell] = tally.value
        if not tally.dirty:
            tally.dirty = True
            self._dirty.append(tally)

    # --- accounts

    def account(self, fresh: Account, now: float) -> Account:
        """The account for a budget and member that is kept already, with the limit of `fresh`; or `fresh` itself."""
        kept = self._accounts.setdefault(fresh.place, fresh)
        if fresh.limit_nano < kept.limit_nano and kept.lease:
            self._lower(kept.lease, 0)
        kept.budget, kept.limit_nano = fresh.budget, fresh.limit_nano
        self._active[kept] = None
        return kept

    def accounts(self) -> list[Account]:
        return list(self._accounts.values())

    def drop(self, account: Account) -> None:
        """The budget is no longer configured: what is leased goes back."""
        self._end(account)
        self._accounts.pop(account.place)
        self._active.pop(account, None)
        account.dropped = True

    def _current(self, account: Account, now: float) -> Lease:
        lease = account.lease
        return self._begin(account, now) if lease is None or now >= lease.window.end else lease

    def _begin(self, account: Account, now: float) -> Lease:
        """The lease for the window that has begun: of nothing yet, or the one that this window had already."""
        self._end(account)
        window = account.window(now)
        key = account.key(window.start)
        lease = self._of_successor(account, key)
        if lease is None:
            lease = self._ended.pop(key, None)
            lease = lease or Lease(account, window, *self._slot(f"window|{window.forgotten}|{key}"))
            if account.dropped:
                self._ended[key] = lease  # so that it is spoken of
            else:
                lease.account = account
                self._active[account] = None  # it may have taken over what is to be said or given back
        account.lease = lease
        return lease

    def _of_successor(self, account: Account, key: str) -> Lease | None:
        """The lease of the account that was configured again in place of a dropped one: a window has one lease."""
        kept = self._accounts.get(account.place) if account.dropped else None
        return kept.lease if kept and kept.lease and kept.lease.key == key else None

    def _end(self, account: Account) -> None:
        if account.lease and not account.dropped:
            self._ended[account.lease.key] = account.lease
        account.lease = None

    def _slot(self, name: str) -> tuple[Cells, int]:
        if self._journal:
            try:
                return self._journal.cells, self._journal.take(name)
            except JournalFull:
                self.unjournalled += 1
        return [0, 0, 0], 0

    def _forget(self, cells: Cells, cell: int) -> None:
        if self._journal and cells is self._journal.cells:
            self._journal.give_back(cell)

    # --- the talk with Redis

    def talk(self, now: float, needs: Sequence[Need] = ()) -> Talk | None:
        """What there is to say, and what is wanted; None where nothing is."""
        everything = not 0 <= now - self._heard_all < self._refresh_s  # a clock may be set back
        if everything:
            self._end_past(now)
        wishes = dict(self._wishes(needs, now, everything))
        wishes |= {lease: 0 for lease in self._ended.values() if lease not in wishes and self._has_news(lease)}
        self._begin_folds(now)
        wishes = self._in_turn(wishes, needs, now)
        if not (wishes or self._dirty or self._folding or (everything and self._accounts)):
            return None  # else at least a sign of life, whose answer says whether Redis has started anew
        if everything:
            self._heard_all = now
        self._number += 1
        talk = Talk(self._number, {"windows": [], "hours": [hour_key(hour) for hour in self._folding]})
        talk.body["leases"] = [self._lease_entry(talk, lease, ahead) for lease, ahead in wishes.items()]
        place = {lease: number for number, lease in enumerate(wishes, start=1)}
        talk.body["needs"] = [
            [need.amount, *(place[self._current(account, now)] for account in need.accounts)] for need in needs
        ]
        talk.body["sums"] = self._sums(talk)
        return talk

    def heard(self, talk: Talk, reply: Sequence[Any], now: float) -> None:
        """Take in what TALK answered."""
        if not reply[0]:  # it came late: a newer one was heard before
            return
        run, before = bytes(reply[1]).decode(), self._run
        self._run = run
        self.declaring_s = reply[2] / 1000
        if before not in (None, run):
            self._say_all_again()
            return
        for number, (lease, said) in enumerate(talk.leases):
            self._hear(lease, said, reply[HEAD + number * NUMBERS : HEAD + (number + 1) * NUMBERS], now)
        for tally, value in talk.tallies:
            tally.dirty = tally.value != value
        self._dirty = [tally for tally in self._dirty if tally.dirty]
        self._end_folds(talk)
        self._forget_ended(now)

    def last_words(self) -> Talk:
        """Once Redis has confirmed everything: what this worker had goes under no name."""
        windows = [lease.key for lease in self._leases()]
        hours = {tally.hour for tally in self._tallies.values()} | set(self._folding)
        return Talk(LAST_NUMBER + 2, _farewell(windows, [hour_key(hour) for hour in hours]))

    @property
    def quiet(self) -> bool:
        """Whether Redis has confirmed everything, and nothing is leased beyond what is spent."""
        unsaid = any(_unsaid(lease) or lease.ceiling != lease.spent for lease in self._leases())
        return not (unsaid or self._dirty or self._folding)

    def return_all(self) -> None:
        """The worker ends: whatever is still reserved is given up, and no slack is kept."""
        for account in self.accounts():
            self.drop(account)

    def _leases(self) -> Iterator[Lease]:
        yield from self._ended.values()
        yield from (account.lease for account in self._accounts.values() if account.lease)

    def _wishes(self, needs: Sequence[Need], now: float, everything: bool) -> Iterator[tuple[Lease, int]]:
        """The leases to speak of, with what to ask for in advance. Accounts that nobody uses are left alone."""
        wanted = {self._current(account, now).account: None for need in needs for account in need.accounts}
        self._active = {account: None for account in self._active if not account.dropped} | wanted
        for account in [*self._active]:
            lease = self._current(account, now)
            ahead = self._wish(account, lease, account in wanted, now)
            if account in wanted or ahead or everything or lease.slack or _unsaid(lease):
                yield lease, ahead
            elif not lease.holds and abs(now - account.idle_since) > self._idle_s and not account.pinned:
                del self._active[account]

    def _in_turn(self, wishes: dict[Lease, int], needs: Sequence[Need], now: float) -> dict[Lease, int]:
        """As many as one talk takes: those that somebody waits for, then those that were heard of longest ago."""
        self.behind = len(wishes) > MOST_LEASES
        if not self.behind:
            return wishes
        first = {self._current(account, now) for need in needs for account in need.accounts}
        order = sorted(
            wishes, key=lambda lease: (lease not in first, lease.said is not None, lease.account.standing.at)
        )
        return {lease: wishes[lease] for lease in order[: max(MOST_LEASES, len(first))]}

    def _end_past(self, now: float) -> None:
        """Leases of windows that are over, also of accounts that nobody uses."""
        for account in self._accounts.values():
            if account.lease and now >= account.lease.window.end:
                self._end(account)

    def _wish(self, account: Account, lease: Lease, wanted: bool, now: float) -> int:
        """What to ask for beside the needs. Slack beyond what the pace explains is given back on the way.

        Where somebody waits all slack goes back: what several workers keep of it would each be too little for a call,
        and whoever waits for several budgets must not hold one of them while another is short.
        """
        target = self._slack_for(account, lease, now)
        if wanted:
            self._lower(lease, 0)
            return target
        if lease.slack > 2 * target:
            self._lower(lease, target)
        slack = max(0, lease.slack)  # what is held beyond the lease, the talk adds to it anyway
        return target - slack if slack < target // 2 else 0

    def _has_news(self, lease: Lease) -> bool:
        """Of a window that is over: it keeps no slack."""
        return self._lower(lease, 0) or _unsaid(lease)

    def _slack_for(self, account: Account, lease: Lease, now: float) -> int:
        """How much a lease may hold unused: a few intervals' pace, within a fair share of what is left."""
        if account.demand:
            account.idle_since = now
        account.pace = max(float(account.demand), PACE_DECAY * account.pace)
        account.demand = 0
        standing = account.standing
        if standing.starved or standing.window != lease.window.start or abs(now - account.idle_since) > self._idle_s:
            return 0
        left = max(0, account.limit_nano - standing.ceiling)
        return int(min(SLACK_TALKS * account.pace, left / (2 * max(1, standing.workers))))

    def _lower(self, lease: Lease, slack: int) -> bool:
        """Keep at most `slack`; whether that changed the lease."""
        ceiling = lease.spent + lease.reserved + slack
        if lease.ceiling <= ceiling:
            return False
        lease.ceiling = ceiling
        return True

    def _lease_entry(self, talk: Talk, lease: Lease, ahead: int) -> list[Any]:
        lease.ceiling = max(lease.ceiling, lease.spent + lease.reserved)  # overshoot, or a waived bound
        ceiling, spent, reserved, presumed = state = lease.state
        talk.leases.append((lease, state))
        lease.said = None  # until the answer is heard: Redis may have granted what this worker never hears of
        account, window = lease.account, lease.window
        base = account.standing.base if account.standing.window == window.start else (0, 0)
        held = [ceiling, spent, reserved, presumed]
        return [lease.key, *held, ahead, account.limit_nano, window.forgotten, *base, window.rivals]

    def _sums(self, talk: Talk) -> list[list[Any]]:
        """Sums that changed, but none of an hour that is being folded: its fields must be gone first."""
        by_hour: dict[int, list[Any]] = {}
        for tally in self._dirty:
            if tally.hour not in self._folding:
                by_hour.setdefault(tally.hour, []).extend((tally.field, tally.value))
                talk.tallies.append((tally, tally.value))
        return [[hour_key(hour), hour + self._sums_s, *values] for hour, values in by_hour.items()]

    def _hear(self, lease: Lease, said: State, numbers: Sequence[int], now: float) -> None:
        granted, ceiling, spent, presumed, slack, workers, starved, base_ceiling, base_spent, oldest = numbers
        lease.ceiling += granted
        lease.said = (said[0] + granted, *said[1:])
        if lease is lease.account.lease:
            lease.account.standing = Standing(
                window=lease.window.start,
                at=now,
                ceiling=ceiling,
                spent=spent,
                presumed=presumed,
                slack=slack,
                workers=workers,
                starved=bool(starved),
                base=(base_ceiling, base_spent),
                oldest=oldest,
            )

    def _say_all_again(self) -> None:
        """Redis has started anew and may have lost what it had been told."""
        self._active |= dict.fromkeys(self._accounts.values())
        for lease in self._leases():
            lease.said = None
        self._dirty = list(self._tallies.values())
        for tally in self._dirty:
            tally.dirty = True

    def _begin_folds(self, now: float) -> None:
        """Hours that are over and confirmed: what comes late for them begins at nought again."""
        dirty = {tally.hour for tally in self._dirty}
        over = {place[0] for place in self._tallies if now - place[0] > HOUR_S + FOLD_AFTER_S} - dirty
        for place in [place for place in self._tallies if place[0] in over - set(self._folding)]:
            tally = self._tallies.pop(place)
            tally.cells[tally.cell + 1] = 1
            self._folding.setdefault(place[0], []).append(tally)

    def _end_folds(self, talk: Talk) -> None:
        for hour in [hour for hour in self._folding if hour_key(hour) in talk.body["hours"]]:
            for tally in self._folding.pop(hour):
                self._forget(tally.cells, tally.cell)

    def _forget_ended(self, now: float) -> None:
        """Leases of windows that are over, once Redis knows all of them."""
        for key, lease in list(self._ended.items()):
            if now >= lease.window.end and not (lease.holds or lease.slack or _unsaid(lease)):
                self._forget(lease.cells, lease.cell)
                del self._ended[key]


def recovered(entries: Sequence[Entry]) -> list[Talk]:
    """What a dead worker would have said: its folds, what it spent and held, its last words. To be said in this order.

    What it had reserved stays charged: nobody knows what became of those calls.
    """
    windows: list[list[Any]] = []
    sums: list[list[Any]] = []
    folding: list[str] = []
    for entry in entries:
        kind, expiry, rest = entry.name.split("|", 2)
        first, second, third = entry.counters
        if kind == "window":
            windows.append([rest, first + second, first, second, third, 0, 0, int(expiry), 0, 0, []])
        elif second:
            folding.append(hour_key(int(rest.partition("|")[0])))
        else:
            hour, _, name = rest.partition("|")
            sums.append([hour_key(int(hour)), int(expiry), name, first])
    said: dict[str, Any] = {"leases": windows, "needs": [], "sums": sums, "windows": [], "hours": [], "end": 1}
    return [
        Talk(LAST_NUMBER, _farewell([], folding)),
        Talk(LAST_NUMBER + 1, said),
        Talk(LAST_NUMBER + 2, _farewell([window[0] for window in windows], [line[0] for line in sums])),
    ]


def _farewell(windows: list[str], hours: list[str]) -> dict[str, Any]:
    return {"leases": [], "needs": [], "sums": [], "windows": windows, "hours": hours, "end": 1}


def _unsaid(lease: Lease) -> bool:
    return lease.said != lease.state
