"""What one origin allows: who goes in, in which order, and what happens to those who cannot."""

import asyncio
import logging
import time

import pytest

from playhead import Busy
from playhead import limits as module
from playhead.limits import Limits
from tests.fakes.origin import settled

NOON = 86_400 * 20_000 + 43_200.0  # 2024-10-04 12:00 UTC


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def suspends(limits: Limits) -> bool:
    """Does entering wait for anything?"""
    entering = limits.enter()
    try:
        entering.send(None)
    except StopIteration:
        return False
    entering.close()
    return True


# ── connections ──


def test_without_limits_nobody_waits_even_without_a_loop() -> None:
    limits = Limits()
    assert not any(suspends(limits) for _ in range(1000))
    for _ in range(1000):
        limits.leave()
    assert limits.spent() == (0, None)


async def test_no_more_connections_than_there_may_be() -> None:
    limits, inside, most = Limits(connections=3), 0, 0

    async def read() -> None:
        nonlocal inside, most
        await limits.enter()
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.001)
        inside -= 1
        limits.leave()

    await asyncio.gather(*(read() for _ in range(20)))
    assert most == 3
    assert limits.inside == 0 and not limits.waiting


async def test_lower_priorities_go_first_and_equals_in_order() -> None:
    limits, order = Limits(connections=1), list[str]()

    async def read(name: str, priority: int) -> None:
        await limits.enter(priority)
        order.append(name)
        limits.leave()

    await limits.enter()
    readers = [("c", 5), ("a", 0), ("d", 5), ("b", 1)]
    tasks = [asyncio.create_task(read(*reader)) for reader in readers]
    await asyncio.sleep(0)
    limits.leave()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c", "d"]


@pytest.mark.parametrize("granted", [False, True])
async def test_who_is_cancelled_loses_nothing(granted: bool) -> None:
    limits = Limits(connections=1, rate=1000)
    await limits.enter()
    first, second = (asyncio.create_task(limits.enter()) for _ in "ab")
    await asyncio.sleep(0)
    if granted:
        limits.leave()  # gives the place to the first, which is cancelled before it knows
    first.cancel()
    if not granted:
        limits.leave()
    async with asyncio.timeout(1):
        await second
    assert first.cancelled() or (await asyncio.gather(first, return_exceptions=True))
    limits.leave()
    assert limits.inside == 0 and not limits.waiting and limits.timer is None


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    limits = Limits(connections=1, name="box")
    await limits.enter()
    with pytest.raises(Busy, match="box: no connection") as refused:
        await limits.enter()
    assert refused.value.after == 1
    assert not limits.waiting
    limits.leave()
    await limits.enter()


async def test_any_mixture_of_arrivals_and_cancellations_keeps_count() -> None:
    limits = Limits(connections=2, rate=5000)

    async def read(number: int) -> None:
        await limits.enter(number % 3)
        try:
            await asyncio.sleep(0.001 * (number % 3))
        finally:
            limits.leave()

    tasks = [asyncio.create_task(read(number)) for number in range(60)]
    for task in tasks[::2]:
        await asyncio.sleep(0.0005)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert limits.inside == 0 and not limits.waiting
    await settled(lambda: limits.timer is None)


# ── requests a second ──


async def test_a_burst_and_then_the_rate() -> None:
    limits = Limits(rate=50)
    assert not any(suspends(limits) for _ in range(45))  # some tokens may have come meanwhile
    began = time.monotonic()
    for _ in range(15):
        await limits.enter()
    assert 0.15 < time.monotonic() - began < 1


async def test_a_rate_below_one_lets_one_in_at_once() -> None:
    limits = Limits(rate=0.5)
    assert not suspends(limits)
    waiting = asyncio.create_task(limits.enter())
    await asyncio.sleep(0.01)
    assert not waiting.done() and limits.timer
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert limits.timer is None


# ── bytes a day ──


async def test_the_day_is_spent_and_a_new_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limits = Limits(bytes_per_day=1000, clock=clock, name="box")
    with caplog.at_level(logging.WARNING):
        limits.count(799)
        assert not caplog.records
        limits.count(1)
        limits.count(1)
        assert [record.getMessage()[:9] for record in caplog.records] == ["box: 80 %"]
        await limits.enter()
        limits.count(500)
        limits.count(500)
        assert len(caplog.records) == 2
    assert limits.spent() == (1801, 1000)
    with pytest.raises(Busy, match="raise `bytes_per_day`, or wait until 2024-10-05 00:00 UTC") as refused:
        await limits.enter()
    assert refused.value.after == 43_200
    clock.now += 43_200
    assert limits.spent() == (0, 1000)
    assert not suspends(limits)
    with caplog.at_level(logging.WARNING):
        limits.count(1000)
    assert len(caplog.records) == 3


async def test_who_waited_while_the_day_was_spent_is_refused() -> None:
    limits = Limits(connections=1, bytes_per_day=10, clock=Clock())
    await limits.enter()
    waiting = asyncio.create_task(limits.enter())
    await asyncio.sleep(0)
    limits.count(10)
    limits.leave()
    with pytest.raises(Busy, match="bytes_per_day"):
        await waiting
    assert limits.inside == 0


def test_the_count_survives_a_restart_of_the_same_day(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    before = Limits(bytes_per_day=1000, clock=clock)
    before.count(900)
    assert before.state() == ("2024-10-04", 900)
    after = Limits(bytes_per_day=1000, clock=clock)
    after.count(5)
    after.restore(*before.state())
    caplog.clear()
    after.count(5)
    assert after.spent() == (910, 1000)
    assert not caplog.records  # it was told before
    clock.now += 86_400
    tomorrow = Limits(bytes_per_day=1000, clock=clock)
    tomorrow.restore("2024-10-04", 900)
    assert tomorrow.spent() == (0, 1000)
