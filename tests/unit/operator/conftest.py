"""What tests of the operator's HTTP clients share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client's session, closed after the test."""
    async with aiohttp.ClientSession() as opened:
        yield opened
