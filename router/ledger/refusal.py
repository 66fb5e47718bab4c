"""What a client is told when a budget does not pay."""

from __future__ import annotations

from collections.abc import Sequence

from router.errors import BudgetSpent
from router.ledger.lease import Account
from router.ledger.pricing import usd

SHORTEST_RETRY_S = 1.0
FRESH_S = 1.0  # how long Redis' word that a budget is spent is believed without asking again


def spent_among(accounts: Sequence[Account], amount: int, now: float) -> BudgetSpent | None:
    """The refusal, where a budget certainly does not have `amount` any more."""
    spent = [account for account in accounts if account.is_spent(amount, now, FRESH_S)]
    return spent_budget(strictest(spent), amount, now) if spent else None


def short_among(accounts: Sequence[Account], amount: int, now: float) -> BudgetSpent:
    """The refusal after waiting in vain: by the budgets that all workers together have used up for now."""
    full = [account for account in accounts if account.is_full(amount, now)]
    for account in full:
        account.full_at = now
    return spent_budget(strictest(full or accounts), amount, now)


def was_just_full(accounts: Sequence[Account], amount: int, now: float) -> bool:
    """Whether somebody has just waited in vain for what only running calls can give back."""
    return any(
        0 <= now - account.full_at < FRESH_S and account.known(now).slack <= 0 and account.is_full(amount, now)
        for account in accounts
    )


def strictest(accounts: Sequence[Account]) -> Account:
    """Where one budget refuses, another one that would let the student answer does not matter."""
    return next((account for account in accounts if account.budget.on_spent == "refuse"), accounts[0])


def spent_budget(account: Account, amount: int, now: float) -> BudgetSpent:
    standing = account.known(now)
    gone = account.is_spent(amount, now, FRESH_S)
    charged = standing.spent + standing.presumed
    state = f"${_short(charged)} of ${_short(account.limit_nano)} are spent"
    if not gone:
        state += f", ${_short(max(0, standing.ceiling - charged))} reserved by running requests"
    return BudgetSpent(
        f"{described(account)} does not have the ${_short(amount)} that this request may cost: {state}",
        account.name,
        student=account.budget.on_spent == "student",
        retry_after_s=max(SHORTEST_RETRY_S, account.frees(now) - now) if gone else SHORTEST_RETRY_S,
    )


def lost_budget(account: Account, why: str) -> BudgetSpent:
    """Redis cannot be asked, and the leased rest is used up."""
    return BudgetSpent(
        f"{described(account)}: {why}, and what this worker had leased is used up",
        account.name,
        student=account.budget.redis_loss == "student",
        retry_after_s=SHORTEST_RETRY_S,
    )


def described(account: Account) -> str:
    kind = account.budget.kind or "key"
    return f"budget '{account.name}'" + (f" of {kind} '{account.member}'" if account.member else "")


def _short(nano: int) -> str:
    """USD to what matters of it."""
    return usd(nano).rstrip("0").rstrip(".") or "0"
