"""Guessing is slow, and those who need not guess are not."""

from __future__ import annotations

import asyncio

import pytest

from latentd.server import wrong_tries
from latentd.server.wrong_tries import FREE_TRIES, INTERVAL, MOST_WAITING, WrongTries
from latentd.testing import AppFactory


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tries(clock: Clock) -> WrongTries:
    return WrongTries(clock, clock.sleep)


def guess(tries: WrongTries, count: int, address: str = "10.0.0.1") -> None:
    async def one(number: int) -> None:
        assert await tries.turn(address, b"%d" % number) is None
        tries.wrong(address)

    for number in range(count):
        asyncio.run(one(number))


def test_the_first_tries_are_free_and_then_each_takes_a_second(tries: WrongTries, clock: Clock) -> None:
    guess(tries, FREE_TRIES)
    assert clock.now == 1000
    guess(tries, 61)
    assert clock.now == pytest.approx(1000 + 60 * INTERVAL)


def test_another_address_is_free(tries: WrongTries, clock: Clock) -> None:
    guess(tries, 20)
    before = clock.now
    guess(tries, FREE_TRIES, "10.0.0.2")
    assert clock.now == before


def test_addresses_of_one_network_of_version_6_are_one(tries: WrongTries, clock: Clock) -> None:
    for host in range(20):
        guess(tries, 1, f"2001:db8::{host:x}")
    assert clock.now > 1000


def test_credentials_that_were_right_never_wait(tries: WrongTries, clock: Clock) -> None:
    tries.right(b"the right ones")
    guess(tries, 20)
    before = clock.now
    assert asyncio.run(tries.turn("10.0.0.1", b"the right ones")) is None
    assert clock.now == before


def test_many_at_once_are_refused_unseen(clock: Clock) -> None:
    async def wait(seconds: float) -> None:
        await asyncio.sleep(0)

    tries = WrongTries(clock, wait)
    guess(tries, FREE_TRIES)

    async def all_at_once() -> list[float | None]:
        return await asyncio.gather(*(tries.turn("10.0.0.1", b"%d" % n) for n in range(1000)))

    answers = asyncio.run(all_at_once())
    assert answers.count(None) == MOST_WAITING + 1
    assert all(seconds > MOST_WAITING for seconds in answers if seconds is not None)


def test_wrong_tries_are_forgotten(tries: WrongTries, clock: Clock) -> None:
    guess(tries, 20)
    clock.now += 1000
    before = clock.now
    guess(tries, FREE_TRIES)
    assert clock.now == before


def test_addresses_are_bounded(tries: WrongTries) -> None:
    for number in range(wrong_tries.ADDRESSES + 50):
        tries.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(tries._tries) == wrong_tries.ADDRESSES


def test_the_server_logs_and_slows_wrong_tries(
    latentd_app: AppFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wrong_tries, "FREE_TRIES", 1)
    monkeypatch.setattr(wrong_tries, "MOST_WAITING", 0)
    monkeypatch.setattr(wrong_tries, "INTERVAL", 100.0)
    client = latentd_app(flags=["--api-auth", "ann:secret"])
    wrong = [client.get("/sdapi/v1/samplers", auth=("ann", f"guess\n{n}")) for n in range(4)]
    assert [reply.status_code for reply in wrong] == [401, 401, 429, 429]
    assert int(wrong[-1].headers["retry-after"]) > 50
    said = [record.getMessage() for record in caplog.records if "wrong credentials" in record.getMessage()]
    assert said == ["wrong credentials from unknown, try 1", "wrong credentials from unknown, try 2"]
    assert client.get("/livez").status_code == 200
