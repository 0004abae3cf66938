"""No more is sent than there is room for, however many uploads are under way at once."""

from __future__ import annotations

import asyncio
import random

import pytest

from kbsync.contract.managing import Capacity
from kbsync.errors import Halted, TargetError, Unavailable
from kbsync.targets.zhipu.upload import INTERVAL, AccountSpace


class Account:
    """Capacity of 1000 bytes. A document counts only when its upload has ended, as at the vendor."""

    def __init__(self, used: int = 0) -> None:
        self.used, self.now, self.asked = used, 0.0, 0
        self.allowance = AccountSpace(self._capacity, lambda: self.now)

    async def _capacity(self) -> Capacity:
        self.asked += 1
        await asyncio.sleep(0)
        return Capacity(self.used, 1000)

    async def trouble(self, size: int) -> TargetError | None:
        try:
            await self.allowance.take("a.md", size)
        except TargetError as error:
            return error
        return None

    def store(self, size: int) -> None:
        self.used += size
        self.allowance.ended(size, stored=True)


async def test_uploads_that_together_exceed_the_room_do_not_all_begin() -> None:
    account = Account(used=900)
    found = await asyncio.gather(*[account.trouble(40) for _ in range(5)])
    assert sum(one is None for one in found) == 2
    assert account.asked == 1


async def test_what_is_under_way_is_not_forgotten_when_the_vendor_is_asked_again() -> None:
    account = Account(used=900)
    assert await account.trouble(60) is None
    account.now += INTERVAL + 1
    assert isinstance(await account.trouble(60), Unavailable)
    assert account.asked == 2


async def test_what_may_fit_when_uploads_under_way_have_ended_waits_and_nobody_is_called() -> None:
    account = Account(used=900)
    assert await account.trouble(60) is None
    waiting = await account.trouble(80)
    assert isinstance(waiting, Unavailable)
    assert waiting.untried
    assert waiting.reason.endswith("it waits for the uploads under way")
    assert isinstance(await account.trouble(101), Halted)
    account.allowance.ended(60, stored=False)
    assert await account.trouble(80) is None


async def test_what_no_longer_fits_is_a_persons_business() -> None:
    account = Account(used=900)
    assert await account.trouble(60) is None
    account.store(60)
    found = await account.trouble(60)
    assert isinstance(found, Halted)
    assert found.halt == "quota"


@pytest.mark.parametrize("seed", range(20))
async def test_never_more_is_sent_than_there_is_room_for(seed: int) -> None:
    chance, account = random.Random(seed), Account(used=500)
    under_way: list[int] = []
    for _ in range(300):
        size = chance.randrange(1, 90)
        if await account.trouble(size) is None:
            under_way.append(size)
        assert account.used + sum(under_way) <= 1000
        if under_way and chance.random() < 0.4:
            ended = under_way.pop(chance.randrange(len(under_way)))
            if chance.random() < 0.5:
                account.store(ended)
            else:
                account.allowance.ended(ended, stored=False)
        account.now += chance.choice([0.0, 10.0, INTERVAL])
