"""Servers that send too much, too slowly or without an end: every read ends in time, in little memory, with a cause.

Raw sockets, since a library's server would not send such answers. Rank 0's metrics are a user's program, and the
address of Prometheus may be anybody's; neither may hold the operator up.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import pathlib
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import cast

import aiohttp
import pytest

from stowplan_allocator.types import Resources
from stowplan_operator import kube, progress_reader, views
from stowplan_operator.prometheus import PrometheusClient, PrometheusError

# Short where the end of the time is what is waited for.
SHORT_SECONDS, LONG_SECONDS = 0.1, 10.0
MAX_BYTES = 100_000
# Beside what was asked for: the sockets' buffers on both sides, and what the parser takes ahead.
MAX_SENT_BYTES = 16 << 20
OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"Content-Type: text/plain\r\n"
PACKED = OK + b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
Pieces = Iterator[bytes]


def forever(first: bytes, piece: bytes) -> Callable[[], Pieces]:
    def pieces() -> Pieces:
        yield first
        while True:
            yield piece

    return pieces


def bomb() -> Pieces:
    """A gigabyte of blanks in a megabyte."""
    yield PACKED
    packer = zlib.compressobj(wbits=31)
    first, again = (packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    for piece in (first, *itertools.repeat(again, 1023)):
        yield b"%x\r\n%s\r\n" % (len(piece), piece)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
    """What a server sends, how long it waits between pieces, and the cause that is then said.

    ``is_skipped``: the client keeps nothing of it.
    """

    pieces: Callable[[], Pieces]
    says: str
    pause_seconds: float = 0
    is_skipped: bool = False


TOO_LARGE = r"larger than 100000 bytes|more than 100000 bytes"
TOO_SLOW = r"no answer within|gave no metrics within"
NO_HTTP = r"the connection failed|cannot be read"

ATTACKS = {
    "a body without an end": Attack(says=TOO_LARGE, pieces=forever(PLAIN + b"\r\n", b"x" * 65536)),
    "a body that is promised and comes a byte at a time": Attack(
        says=TOO_SLOW, pieces=forever(PLAIN + b"Content-Length: 90000\r\n\r\n", b"x"), pause_seconds=0.02
    ),
    "a head that comes a byte at a time": Attack(says=TOO_SLOW, pieces=forever(OK, b"X"), pause_seconds=0.02),
    "nothing at all": Attack(says=TOO_SLOW, pieces=lambda: iter(()), pause_seconds=5),
    "headers without an end": Attack(says=NO_HTTP, pieces=forever(OK, b"X-A: b\r\n" * 1000)),
    "one header without an end": Attack(says=NO_HTTP, pieces=forever(OK + b"X-A: ", b"b" * 65536)),
    "a status line without an end": Attack(says=NO_HTTP, pieces=forever(b"HTTP/1.1 200 ", b"O" * 65536)),
    "interim answers without an end": Attack(
        says=TOO_SLOW, pieces=forever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
    ),
    "a chunk of an exabyte": Attack(
        says=TOO_LARGE, pieces=forever(PLAIN + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", b"x" * 65536)
    ),
    "a chunk's size without an end": Attack(
        says=TOO_SLOW, pieces=forever(PLAIN + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536), is_skipped=True
    ),
    "trailers without an end": Attack(
        says=NO_HTTP, pieces=forever(PLAIN + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X-A: b\r\n" * 1000)
    ),
    "no HTTP": Attack(says=NO_HTTP, pieces=forever(b"SSH-2.0-OpenSSH\r\n", b"\x00" * 1000)),
    "a small answer that unpacks to a gigabyte": Attack(says=TOO_LARGE + "|packed", pieces=bomb),
    "what says that it is packed and is not": Attack(
        says=NO_HTTP + "|packed", pieces=lambda: iter((PACKED, b"5\r\nplain\r\n0\r\n\r\n"))
    ),
    "a redirect to the cloud's metadata": Attack(
        says="HTTP 302",
        pieces=lambda: iter((b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",)),
    ),
}


class Server:
    """Sends one attack to whoever connects."""

    def __init__(self, attack: Attack) -> None:
        self._attack = attack
        self.sent = 0
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in self._attack.pieces():
                writer.write(piece)
                self.sent += len(piece)
                await writer.drain()
                await asyncio.sleep(self._attack.pause_seconds)
            await asyncio.sleep(self._attack.pause_seconds)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def of_prometheus(session: aiohttp.ClientSession, port: int, timeout_seconds: float) -> str:
    """Read GPUs; what the error says."""
    client = PrometheusClient(
        url=f"http://127.0.0.1:{port}", timeout_seconds=timeout_seconds, max_bytes=MAX_BYTES, session=session
    )
    with pytest.raises(PrometheusError, match=r"Prometheus at http://127\.0\.0\.1") as caught:
        await client.read_gpus(now_seconds=0)
    return str(caught.value)


async def of_rank_zero(session: aiohttp.ClientSession, port: int, timeout_seconds: float) -> str:
    """Read progress; what the error says."""
    pod = views.PodView(
        **dict.fromkeys(("namespace", "name", "uid", "resource_version", "owner_uid", "job", "node"), "x"),
        **dict.fromkeys(("phase", "waiting_reason", "waiting_message", "disruption"), ""),
        **dict.fromkeys(("deleting_since", "created_at", "started_at"), 0.0),
        **dict.fromkeys(("managed", "ready", "running"), True),
        attempt=1,
        rank=0,
        ip="127.0.0.1",
        requests=Resources(),
        end=None,
    )
    with pytest.raises(progress_reader.ProgressError, match=r"pod x at 127\.0\.0\.1") as caught:
        await progress_reader.read_progress(
            pod,
            kube=cast(kube.KubeApi, None),
            via="direct",
            session=session,
            timeout_seconds=timeout_seconds,
            max_bytes=MAX_BYTES,
            port=port,
        )
    return str(caught.value)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("read", [of_prometheus, of_rank_zero], ids=["Prometheus", "rank 0"])
async def test_a_read_ends_in_time_and_takes_little(
    attack: Attack, read: Callable[[aiohttp.ClientSession, int, float], Awaitable[str]], session: aiohttp.ClientSession
) -> None:
    handler = Server(attack)
    limit = SHORT_SECONDS if attack.says == TOO_SLOW else LONG_SECONDS
    async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
        began = time.monotonic()
        said = await read(session, server.sockets[0].getsockname()[1], limit)
        seconds = time.monotonic() - began
        await session.close()
        server.close_clients()
    assert re.search(attack.says, said), said
    assert seconds < limit + 1
    assert handler.sent < MAX_SENT_BYTES or attack.is_skipped
    assert handler.connections <= 2, "at most one new try, and never elsewhere"


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["of_prometheus", "of_rank_zero"])
def test_a_small_answer_that_unpacks_to_a_gigabyte_is_never_unpacked(reader: str) -> None:
    """In a process of its own, whose largest size only this read can raise."""
    script = f"""
import asyncio, resource, sys
import aiohttp
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import test_hostile_servers as hostile

async def main():
    handler = hostile.Server(hostile.ATTACKS["a small answer that unpacks to a gigabyte"])
    async with aiohttp.ClientSession() as session, await asyncio.start_server(handler, "127.0.0.1", 0) as server:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await hostile.{reader}(session, server.sockets[0].getsockname()[1], 10)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        server.close_clients()

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 64 * 1024, "KiB"
