"""A GET to what listens on the loopback of a pod, through the API server's port forwarding.

The API server checks who may (``pods/portforward``), and the kubelet connects inside the pod, so nobody else in the
cluster's network can reach the port. Spoken is the WebSocket form of port forwarding, ``v4.channel.k8s.io``: the first
byte of a frame is its channel, 0 for data and 1 for errors, and the first frame of each channel only repeats the port.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import socket
from dataclasses import dataclass
from typing import cast

import aiohttp

from stowplan_operator import kube

PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERRORS = 0, 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: HTTP status, headers with names in lower case, and the body as it was sent."""

    status: int
    headers: dict[str, str]
    body: bytes


async def get(
    api_server: kube.Kube, namespace: str, pod: str, *, port: int, path: str, timeout_seconds: float
) -> Answer:
    """The pod's answer. ``kube.ApiError`` where the API server refuses, or the pod does not answer (status 502)."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
    where = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
    received = bytearray()
    errors = bytearray()
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            api_server.websocket(where, params={"ports": str(port)}, protocol=PROTOCOL) as socket,
        ):
            await socket.send_bytes(bytes([_DATA]) + request.encode())
            opened: set[int] = set()
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                    continue
                channel, piece = message.data[0], message.data[1:]
                if channel not in opened:
                    opened.add(channel)
                elif channel == _DATA:
                    received += piece
                    if _is_whole(received):
                        break
                elif channel == _ERRORS:
                    errors += piece
                    break
    except TimeoutError:
        raise kube.ApiError(0, "Timeout", f"pod {pod} did not answer within {timeout_seconds:g} s") from None
    if errors:
        raise kube.ApiError(502, "PortForward", errors.decode(errors="replace").strip())
    return _parsed(bytes(received), pod=pod)


def _is_whole(received: bytearray) -> bool:
    """Whether the body is as long as its header says; what says no length ends with its connection."""
    head, gap, body = received.partition(b"\r\n\r\n")
    if not gap:
        return False
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return len(body) >= int(value)
    return False


class _Received(io.BytesIO):
    """Bytes that ``http.client`` takes for a socket."""

    def makefile(self, *_: object) -> _Received:
        return self


def _parsed(received: bytes, *, pod: str) -> Answer:
    answer = http.client.HTTPResponse(cast("socket.socket", _Received(received)))
    try:
        answer.begin()
        body = answer.read()
    except http.client.HTTPException as error:
        raise kube.ApiError(502, "PortForward", f"pod {pod} broke off its answer ({type(error).__name__})") from None
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)
