"""Answers that no client may wait for: handlers of servers that mean harm, or hang."""

from __future__ import annotations

import asyncio

from aiohttp import web


async def endless(request: web.Request) -> web.StreamResponse:
    """An answer that goes on until the client leaves."""
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" " * 65536)
    except ConnectionError:
        return response


async def never(_: web.Request) -> web.StreamResponse:
    """No answer before any client gives up."""
    await asyncio.sleep(30)
    raise AssertionError("a client waited for this")
