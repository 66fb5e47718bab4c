"""What a killed worker leaves behind: never less than it had done, and nobody touches what a living one writes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.budget_settings import Budget
from router.ledger import journal as journal_module
from router.ledger.book import NUMBERS, Book, recovered
from router.ledger.journal import MAGIC, MAX_NAME, SLOT_BYTES, SLOTS, Journal, JournalFull, journals, orphan
from router.ledger.lease import Account, Hold

KILLS = 8
NOW = 1_800_000_000.0

# Says what it is about to do before, and that it did it after: `+ amount` and `ok` for a reservation, `= cost` and `ok`
# for its settlement. Both are on their way before the next step begins.
WORKER = """
import os, random, sys
from pathlib import Path
from router.budget_settings import Budget
from router.ledger.book import Book
from router.ledger.journal import Journal
from router.ledger.lease import Account, Hold

folder, seed, now = sys.argv[1], sys.argv[2], float(sys.argv[3])
chance = random.Random(seed)
book = Book("w", Journal(Path(folder), "w"), 5, 1, 86400)
account = book.account(Account("all", "", Budget(window="day", limit_usd=1000)), now)
say = lambda text: os.write(1, f"{text}\\n".encode())
say("ready")
held = []
while True:
    if held and chance.random() < 0.5:
        hold = held.pop(chance.randrange(len(held)))
        cost = chance.randrange(hold.left + 2)
        say(f"= {cost} {hold.left}")
        hold.take(cost)
        hold.release()
        book.tally(int(now) // 3600 * 3600, "auto", "acme", "k", "m", "serve", cost)
    else:
        amount = chance.randrange(1, 1000)
        say(f"+ {amount}")
        held.append(book.reserve_anyway([account], amount, now))
    say("ok")
"""


@pytest.fixture
def few_slots(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(journal_module, "SLOTS", 8)
    return 7  # one is the head


def left(path: Path) -> dict[str, tuple[int, int, int]]:
    """The entries of a dead worker's journal by name."""
    with orphan(path) as entries:
        assert entries is not None
        return {entry.name: entry.counters for entry in entries}


def die(journal: Journal) -> Path:
    """As the kernel lets go of the file when its process is gone."""
    journal.close(remove=False)
    return journal.path


def killed_worker(folder: Path, seed: int) -> list[str]:
    """Run the worker, kill it at a moment that is different each time, and give what it said."""
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", WORKER, str(folder), str(seed), str(NOW)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)}) as child:
        assert child.stdout is not None
        said = child.stdout.readline()
        for _ in range(random.Random(seed).randrange(2_000)):
            said += child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read()
    return said.decode().splitlines()


def checked(lines: list[str]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Least and most that a journal may hold as spent and reserved after these words; the last step may be undone."""
    assert lines[0] == "ready"
    spent = reserved = 0
    before = (0, 0)
    for line in lines[1:]:
        if line.startswith("="):
            before = (spent, reserved)
            cost, held = map(int, line[2:].split())
            spent, reserved = spent + cost, reserved - held
        elif line.startswith("+"):
            before = (spent, reserved)
            reserved += int(line[2:])
        elif line == "ok":
            before = (spent, reserved)
    return before, (spent, reserved)


@pytest.mark.parametrize("seed", range(KILLS))
def test_the_journal_of_a_killed_worker_holds_all_that_it_had_acknowledged(tmp_path: Path, seed: int) -> None:
    lines = killed_worker(tmp_path, seed)
    (spent, reserved), (spent_after, reserved_after) = checked(lines)
    entries = left(tmp_path / "w.journal")
    windows = [counters for name, counters in entries.items() if name.startswith("window|")]
    found_spent, found_reserved, _ = windows[0] if windows else (0, 0, 0)
    assert found_spent in (spent, spent_after)
    assert found_spent + found_reserved >= min(spent + reserved, spent_after + reserved_after)
    assert found_spent + found_reserved <= max(spent_after + reserved, spent + reserved, spent_after + reserved_after)
    sums = sum(counters[0] for name, counters in entries.items() if name.startswith("sum|"))
    assert sums in (spent, spent_after)


def test_what_a_dead_worker_reserved_stays_charged_and_what_it_spent_is_settled(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w")
    book = Book("w", journal, 5, 1, 86_400)
    account = book.account(Account("all", "", Budget(window="day", limit_usd=1)), NOW)
    done, running = book.reserve_anyway([account], 100, NOW), book.reserve_anyway([account], 30, NOW)
    done.take(60)
    done.release()
    assert running.left == 30
    with orphan(die(journal)) as entries:
        assert entries is not None
        (lease,) = recovered(entries)[1].body["leases"]
    assert lease[1:4] == [90, 60, 30]


def test_the_journal_of_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w")
    journal.take("window|1|a")
    with orphan(journal.path) as entries:
        assert entries is None
    assert journals(tmp_path) == [journal.path]
    assert left(die(journal)) == {"window|1|a": (0, 0, 0)}


def test_a_journal_appears_only_when_it_is_complete_and_locked(tmp_path: Path) -> None:
    (tmp_path / "w.fresh").write_bytes(b"")
    assert journals(tmp_path) == []


def test_of_several_recoverers_one_gets_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w")
    journal.take("window|1|a")
    path = die(journal)
    got: list[bool] = []
    start = threading.Barrier(8)

    def recover() -> None:
        start.wait()
        with orphan(path) as entries:
            got.append(entries is not None)
            if entries is not None:
                path.unlink()

    threads = [threading.Thread(target=recover) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]


def test_a_recoverer_that_waits_for_another_finds_nothing(tmp_path: Path) -> None:
    path = die(Journal(tmp_path, "w"))
    with ExitStack() as stack:
        assert stack.enter_context(orphan(path)) == []
        with orphan(path) as second:
            assert second is None


def foreign(folder: Path) -> Iterator[Path]:
    """Files and other things that end like a journal."""
    contents = {
        "empty": b"",
        "text": b"dear diary\n",
        "short": MAGIC,
        "of the right size": bytes(SLOTS * SLOT_BYTES),
        "another version": MAGIC.replace(b"1", b"9").ljust(SLOTS * SLOT_BYTES, b"\0"),
    }
    for name, content in contents.items():
        path = folder / f"{name}.journal"
        path.write_bytes(content)
        yield path
    (folder / "folder.journal").mkdir()
    yield folder / "folder.journal"
    (folder / "dangling.journal").symlink_to(folder / "nowhere")
    yield folder / "dangling.journal"


def test_what_is_no_journal_is_refused_and_stays(tmp_path: Path) -> None:
    for path in foreign(tmp_path):
        with orphan(path) as entries:
            assert entries is None, path
        assert path.is_symlink() or path.exists()


def test_a_journal_from_before_the_machine_started_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lack what the kernel had not written, and would take back what Redis knows better."""
    journal = Journal(tmp_path, "w")
    slot = journal.take("window|1|a")
    journal.cells[slot] = 5
    path = die(journal)
    assert left(path) == {"window|1|a": (5, 0, 0)}
    another = tmp_path / "boot_id"
    another.write_text("another boot\n")
    monkeypatch.setattr(journal_module, "BOOT_ID", another)
    assert left(path) == {}


def test_a_slot_that_was_never_finished_does_not_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w")
    slot = journal.take("window|1|a")
    journal.cells[slot] = 5
    journal.cells[slot + 3] = 0  # as before the name's length is written
    assert left(die(journal)) == {}


def test_a_slot_is_used_again_with_counters_of_nought(tmp_path: Path, few_slots: int) -> None:
    journal = Journal(tmp_path, "w")
    slots = [journal.take(f"sum|1|{n}") for n in range(few_slots)]
    journal.cells[slots[2]] = 7
    journal.cells[slots[2] + 1] = 1
    journal.give_back(slots[2])
    assert journal.take("sum|1|again") == slots[2]
    entries = left(die(journal))
    assert entries["sum|1|again"] == (0, 0, 0)
    assert len(entries) == few_slots


def test_a_longer_name_is_not_seen_through_a_shorter_one(tmp_path: Path, few_slots: int) -> None:
    journal = Journal(tmp_path, "w")
    slot = journal.take("sum|1|" + "x" * 500)
    journal.give_back(slot)
    journal.take("sum|1|y")
    assert left(die(journal)) == {"sum|1|y": (0, 0, 0)}


@pytest.mark.parametrize(("name", "fits"), [("n" * MAX_NAME, True), ("n" * (MAX_NAME + 1), False), ("é" * 600, False)])
def test_a_name_fits_or_is_refused(tmp_path: Path, few_slots: int, name: str, fits: bool) -> None:
    journal = Journal(tmp_path, "w")
    if fits:
        journal.take(name)
    else:
        with pytest.raises(JournalFull):
            journal.take(name)
    assert list(left(die(journal))) == [name] * fits


def test_a_worker_whose_journal_is_full_goes_on_and_counts_what_it_does_not_write(
    tmp_path: Path, few_slots: int
) -> None:
    journal = Journal(tmp_path, "w")
    book = Book("w", journal, 5, 1, 86_400)
    budget = Budget(each="key", window="day", limit_usd=1)
    accounts = [book.account(Account("each", f"k{n}", budget), NOW) for n in range(few_slots + 3)]
    holds = [book.reserve_anyway([account], 10, NOW) for account in accounts]
    assert book.unjournalled == 3
    for hold in holds:
        hold.take(4)
        hold.release()
    book.tally(int(NOW), "auto", "acme", "k" * 1000, "m", "serve", 9)
    assert book.unjournalled == 4
    assert list(left(die(journal)).values()) == [(4, 0, 0)] * few_slots


def test_no_slot_changes_hands_while_a_call_may_still_be_charged(tmp_path: Path) -> None:
    """Retries have used up the reservation, the window is over, and then the answer comes."""
    journal = Journal(tmp_path, "w")
    book = Book("w", journal, 5, 1, 86_400)
    account = book.account(Account("all", "", Budget(window="1m", limit_usd=1)), NOW)
    hold = book.reserve_anyway([account], 10, NOW)
    hold.take(10)
    for later in (NOW + 100, NOW + 200, NOW + 300):
        talk = book.talk(later)
        assert talk is not None
        granted_nothing = [0] * NUMBERS * len(talk.leases)
        book.heard(talk, [1, b"run", 0, *granted_nothing], later)
    hold.take(3)
    hold.release()
    talk = book.talk(NOW + 301)
    assert talk is not None
    assert [13, 13, 0] in [lease[1:4] for lease in talk.body["leases"]]
    assert (13, 0, 0) in left(die(journal)).values()


@settings(deadline=None, max_examples=40)
@given(
    steps=st.lists(st.tuples(st.sampled_from("rts"), st.integers(0, 3), st.integers(0, 10**15)), max_size=30),
)
def test_the_journal_says_what_the_book_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "SLOTS", 8)
        journal = Journal(tmp_path_factory.mktemp("journal"), "w")
        book = Book("w", journal, 5, 1, 86_400)
        budget = Budget(each="key", window="day", limit_usd=1)
        accounts = [book.account(Account("each", f"k{n}", budget), NOW) for n in range(4)]
        holds: list[Hold] = []
        for step, which, nano in steps:
            if step == "r":
                holds.append(book.reserve_anyway([accounts[which]], nano, NOW))
            elif holds and step == "t":
                holds[which % len(holds)].take(nano % 10**12)
            elif holds:
                holds.pop(which % len(holds)).release()
        expected = {
            (account.lease.spent, account.lease.reserved, 0) for account in accounts if account.lease is not None
        }
        assert set(left(die(journal)).values()) == expected
