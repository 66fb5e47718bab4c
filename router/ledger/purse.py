"""Which budgets pay for what: the accounts behind a caller's requests on a route."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.auth import Caller
from router.budget_settings import Budget
from router.ledger.book import Book
from router.ledger.lease import Account, Hold
from router.settings import AUDIT_BUDGET, Config

if TYPE_CHECKING:
    from router.ledger.ledger import Ledger


class Purse:
    """The accounts that a caller's calls on a route are reserved on. Holds no state of a request."""

    __slots__ = ("_all", "_ledger", "_teacher", "_teachers")

    def __init__(
        self, ledger: Ledger, teachers: frozenset[str], teacher: tuple[Account, ...], others: tuple[Account, ...]
    ) -> None:
        self._ledger = ledger
        self._teachers = teachers
        self._teacher = teacher
        self._all = others

    def accounts(self, model: str) -> tuple[Account, ...]:
        """What pays for a call to `model`; empty where no budget counts it."""
        return self._teacher if model in self._teachers else self._all

    async def reserve(self, accounts: tuple[Account, ...], nano: int) -> Hold:
        """Raises BudgetSpent."""
        return await self._ledger.reserve(accounts, nano)

    def exhausted(self, budget: str, action: str) -> None:
        """Count what was done when a budget did not pay."""
        self._ledger.exhausted(budget, action)


class Scopes:
    """The configured budgets, and the accounts that they make of callers and routes."""

    def __init__(self, config: Config, book: Book, now: float) -> None:
        self._budgets = config.every_budget
        self._book = book
        self._teachers = {name: frozenset({route.teacher}) for name, route in config.routes.items()}
        self._any_teacher = frozenset(route.teacher for route in config.routes.values())
        for name, budget in self._budgets.items():
            if not budget.each:
                self._account(name, budget.member or "", budget, now)

    def knows(self, account: Account) -> bool:
        """Whether an account is still about a configured budget, or a key's own."""
        budget = self._budgets.get(account.name)
        if budget is None:
            return account.name.startswith(KEY_BUDGET)
        same = (budget.window, budget.timezone) == (account.budget.window, account.budget.timezone)
        return same and (budget.each is not None or (budget.member or "") == account.member)

    def purse(self, ledger: Ledger, caller: Caller, route: str, background: bool, now: float) -> Purse:
        """`background`: only budgets that are not the client's own."""
        accounts = [
            self._account(name, member, budget, now)
            for name, budget in self._budgets.items()
            if (background or not name.startswith(AUDIT_BUDGET))
            and (member := _member(budget, caller, route, background)) is not None
        ]
        if not background:
            accounts += [self._account(name, caller.name, budget, now) for name, budget in caller.budgets]
        others = tuple(account for account in accounts if account.budget.counts == "all")
        return Purse(ledger, self._teachers.get(route, self._any_teacher), tuple(accounts), others)

    def _account(self, name: str, member: str, budget: Budget, now: float) -> Account:
        pinned = name in self._budgets and budget.each is None
        return self._book.account(Account(name, member, budget, pinned=pinned), now)


KEY_BUDGET = "key:"


def _member(budget: Budget, caller: Caller, route: str, background: bool) -> str | None:
    """Whose account of a budget a request goes to; None: no account of it."""
    if budget.kind is None:
        return ""
    if background and budget.kind != "route":
        return None
    member = {"key": caller.name, "tenant": caller.tenant, "route": route}[budget.kind]
    if not member or (budget.member is not None and budget.member != member):
        return None
    return member
