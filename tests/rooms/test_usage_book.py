"""The ledger's file: real SQLite, real processes that end without a word."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from mme.errors import ConfigError, InvalidRequest, UsageUnreadable
from mme.usage.account import Usage
from mme.usage.accounts import Accounts
from mme.usage.book import DAY_SECONDS, HOUR_SECONDS, Book, read_book
from mme.usage.keeping import Keeper
from mme.usage.statement import read_window
from mme.usage.top import TopModels

NOON = 1_800_014_400.0  # a whole hour


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "ledger.sqlite3"


@pytest.fixture
def book(path):
    book = Book(path, days=2)
    yield book
    book.close()


def used(path, now=NOON, **query):
    return read_book(path, read_window(query, now))


def test_usage_of_an_hour_is_summed_up_and_the_top_is_what_was_asked_for(book, path):
    book.add([Usage("a", requests=1, bytes_in=10), Usage("b", requests=5)], NOON)
    book.add([Usage("a", requests=2, bytes_in=1), Usage("", requests=9)], NOON + 3599)
    told = used(path, NOON + 3599, by="requests", top="2")
    assert [usage.model for usage in told.models] == ["", "b"]
    assert (told.model_count, told.total.requests, told.total.bytes_in) == (3, 17, 11)
    assert used(path, NOON, by="bytes_in").models[0] == Usage("a", requests=3, bytes_in=11)


def test_only_the_hours_asked_for_count(book, path):
    for hours in range(5):
        book.add([Usage("a", requests=10**hours)], NOON - hours * HOUR_SECONDS)
    assert used(path, since="1h").total.requests == 11
    assert used(path, since="2h", until="1h").total.requests == 100
    assert used(path, NOON + DAY_SECONDS * 9, since="1h").models == []


class Clocks:
    """The wall clock and the monotonic one, as a book looks at them."""

    def __init__(self, path):
        self.path, self.wall, self.steady = path, NOON, 0.0
        self.book = Book(path, days=2, monotonic=lambda: self.steady)

    def go(self, seconds):
        self.steady += seconds
        self.jump(seconds)

    def jump(self, seconds):
        self.wall += seconds
        self.book.add([Usage("a", requests=1)], self.wall)

    def requests(self):
        return used(self.path, NOON + DAY_SECONDS * 999, since="9999d").total.requests


@pytest.fixture
def clocks(path):
    clocks = Clocks(path)
    yield clocks
    clocks.book.close()


def test_what_is_older_than_the_days_kept_goes(clocks):
    for _ in range(4):
        clocks.go(DAY_SECONDS)
    assert clocks.requests() == 3


def test_nothing_goes_by_a_clock_that_jumps_ahead_before_it_has_gone_evenly_for_an_hour(clocks):
    for _ in range(2):
        clocks.go(DAY_SECONDS)
    for seconds in (400 * DAY_SECONDS, -400 * DAY_SECONDS):
        clocks.jump(seconds)
        for _ in range(59):
            clocks.go(60)
    assert clocks.requests() == 2 + 2 * 60
    for _ in range(3):
        clocks.go(DAY_SECONDS)
    assert clocks.requests() == 60 + 3  # what is old by now is gone, hours to come are not


def test_nothing_goes_in_a_new_servers_first_hour(path):
    first = Book(path, days=2)
    first.add([Usage("a", requests=1)], NOON)
    first.close()
    with contextlib.closing(Book(path, days=2)) as second:
        second.add([Usage("a", requests=1)], NOON + 400 * DAY_SECONDS)
    assert used(path, NOON + 400 * DAY_SECONDS, since="9999d").total.requests == 2


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.rename(path.with_name("old"))])
def test_a_file_that_was_taken_away_is_begun_anew(book, path, harm):
    book.add([Usage("a", requests=1)], NOON)
    harm(path)
    book.add([Usage("b", requests=1)], NOON)
    assert "b" in [usage.model for usage in used(path).models]


def put_directory(path):
    path.unlink()
    path.mkdir()


def put_another_version(path):
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 9")


@pytest.mark.parametrize("put", [put_directory, put_another_version])
def test_what_took_the_files_place_is_not_written_to(book, path, put):
    put(path)
    for _ in range(2):
        with pytest.raises(UsageUnreadable):
            book.add([Usage("a", requests=1)], NOON)
    path.rename(path.with_name("theirs"))
    book.add([Usage("a", requests=1)], NOON)
    assert used(path).total.requests == 1


def test_a_second_server_is_kept_out_and_the_next_one_goes_on(path):
    first = Book(path, days=2)
    with pytest.raises(ConfigError, match=r"another server writes to .*ledger\.sqlite3$"):
        Book(path, days=2)
    first.add([Usage("a", requests=1)], NOON)
    first.close()
    second = Book(path, days=2)
    second.add([Usage("a", requests=1)], NOON)
    second.close()
    assert used(path).total.requests == 2


def test_a_file_of_another_version_or_kind_is_refused_and_left_alone(path, tmp_path):
    Book(path, days=2).close()
    file = sqlite3.connect(path)
    file.execute("PRAGMA user_version = 7")
    file.close()
    with pytest.raises(ConfigError, match="the form 7"):
        Book(path, days=2)
    other = tmp_path / "letters"
    other.write_text("dear sir" * 1000)
    with pytest.raises(ConfigError, match="is no ledger"):
        Book(other, days=2)
    assert other.read_text().startswith("dear sir")
    with pytest.raises(ConfigError, match="can't be had"):
        Book(other / "ledger", days=2)


KILLED = """
import asyncio, sys
from pathlib import Path
from mme.usage.accounts import Accounts
from mme.usage.keeping import Keeper
from mme.usage.top import TopModels

async def main():
    accounts = Accounts()
    keeper = Keeper(accounts, TopModels(5))
    await keeper.open(Path(sys.argv[1]), 9)
    account = accounts.enter("a", 10, 0.1)
    for number in range(1, 10**6):
        account.answered(1, 1)
        await keeper.write()
        print(number, flush=True)

asyncio.run(main())
"""


def test_what_was_written_outlives_a_killed_server(path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        lines = [process.stdout.readline() for _ in range(20)]
    finally:
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines(keepends=True)
        process.wait()
        process.stdout.close()
    told = [line for line in lines + rest if line.endswith("\n")]
    book = Book(path, days=9)
    try:
        requests = used(path, time.time()).total.requests
    finally:
        book.close()
    assert int(told[-1]) <= requests <= int(told[-1]) + 1


@pytest.fixture
async def keeper():
    keeper = Keeper(Accounts(), TopModels(5), clock=lambda: NOON)
    yield keeper
    await keeper.close()


async def test_the_newest_usage_is_in_the_answer_and_the_rest_is_written_at_the_end(path):
    accounts = Accounts()
    keeper = Keeper(accounts, TopModels(5), clock=lambda: NOON)
    await keeper.open(path, 9)
    accounts.enter("a", 10, 0.1).answered(1, 2)
    assert (await keeper.read(read_window({}, NOON))).total.requests == 1
    accounts.enter("a", 10, 0.1).answered(1, 2)
    await keeper.close()
    assert used(path).total.requests == 2
    assert used(path).total.loads == 2


async def test_without_a_ledger_the_top_is_known_and_a_question_is_refused(keeper):
    keeper.accounts.enter("a", 10, 0.1).answered(1, 2)
    await keeper.write()
    assert [top.model for top in keeper.top.shown()] == ["a"]
    with pytest.raises(InvalidRequest, match="keeps no ledger"):
        await keeper.read(read_window({}, NOON))


async def test_what_cannot_be_written_is_kept_and_written_later(path, keeper):
    await keeper.open(path, 9)
    accounts, blocker = keeper.accounts, sqlite3.connect(path)
    blocker.execute("ALTER TABLE usage RENAME TO taken_away")
    for _ in range(2):
        accounts.enter("a", 1, 0.0).answered(1, 1)
        accounts.enter("b", 1, 0.0).answered(1, 1)
        await keeper.write()
    assert keeper.unwritten_count == 2
    blocker.execute("ALTER TABLE taken_away RENAME TO usage")
    blocker.close()
    await keeper.write()
    assert keeper.unwritten_count == 0
    assert used(path).total.requests == 4


async def test_a_writer_that_is_cancelled_loses_and_doubles_nothing(path, keeper):
    await keeper.open(path, 9)
    accounts = keeper.accounts
    account = accounts.enter("a", 1, 0.0)
    for turns in range(12):
        account.answered(1, 1)
        writing = asyncio.create_task(keeper.write())
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])
    await keeper.write()
    assert used(path).total.requests == 12


async def test_fifty_thousand_models_are_written_without_holding_up_the_loop(path, keeper):
    await keeper.open(path, 9)
    accounts = keeper.accounts
    for number in range(50_000):
        accounts.enter(f"tenants/acme-{number:05}/model.tar.gz", 1, 0.0).answered(1, 1)
    writing, turns = asyncio.create_task(keeper.write()), 0
    while accounts.noted_count:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 50  # others had as many turns meanwhile
    await writing
    told = used(path, top="3")
    assert (told.model_count, len(told.models)) == (50_000, 3)
