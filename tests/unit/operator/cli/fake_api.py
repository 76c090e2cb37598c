"""The paths of the API server that the CLI uses, served on loopback from a thread of its own.

Answers have the shape of kube-apiserver's, its errors included; ``moves`` is called with the job before each
answer about it, so that a test can let time pass.
"""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from stowplan_operator import api

Json = dict[str, Any]
_JOBS = f"/apis/{api.API_VERSION}"


@dataclass
class State:
    """What the fake cluster holds, and how it misbehaves."""

    jobs: list[Json] = field(default_factory=list)
    pods: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    moves: Callable[[Json], None] | None = None
    forbidden: set[str] = field(default_factory=set)
    fails_with: int = 0
    refuses: tuple[int, str, str] | None = None
    installed: bool = True
    page: int = 500
    patches: list[Json] = field(default_factory=list)
    log_queries: list[dict[str, str]] = field(default_factory=list)
    # Pod → the port on this machine that a forwarded port of it leads to.
    forwards: dict[str, int] = field(default_factory=dict)
    # Namespace/name → when it was renewed.
    leases: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """Ends a request with a Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


class FakeApi:
    """Start with ``start``; ``state`` is replaced per test."""

    def __init__(self) -> None:
        self.state = State()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        application = web.Application(middlewares=[self._errors])
        application.add_routes(
            [
                web.get(f"{_JOBS}/{api.PLURAL}", self._list_jobs),
                web.get(_JOBS + "/namespaces/{namespace}/" + api.PLURAL, self._list_jobs),
                web.get(_JOBS + "/namespaces/{namespace}/" + api.PLURAL + "/{name}", self._get_job),
                web.post(_JOBS + "/namespaces/{namespace}/" + api.PLURAL, self._try_job),
                web.patch(_JOBS + "/namespaces/{namespace}/" + api.PLURAL + "/{name}", self._patch_job),
                web.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", self._review),
                web.get("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}", self._get_lease),
                web.get("/api/v1/namespaces/{namespace}/events", self._list_events),
                web.get("/api/v1/namespaces/{namespace}/pods", self._list_pods),
                web.get("/api/v1/namespaces/{namespace}/pods/{name}/log", self._log),
                web.get("/api/v1/namespaces/{namespace}/pods/{name}/portforward", self._port_forward),
            ]
        )
        runner = web.AppRunner(application, access_log=None)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    @web.middleware
    async def _errors(self, request: web.Request, handler: Any) -> web.StreamResponse:
        state = self.state
        if not state.installed and request.path.startswith(_JOBS):
            return web.Response(status=404, text="404 page not found\n")
        try:
            if state.fails_with:
                raise RefusedError(state.fails_with, "Broken", "told to fail")
            answer: web.StreamResponse = await handler(request)
        except RefusedError as error:
            status = {"kind": "Status", "status": "Failure", "reason": error.reason, "message": error.message}
            return web.json_response({**status, "code": error.code}, status=error.code)
        return answer

    def _allow(self, verb: str, resource: str) -> None:
        if f"{verb} {resource}" in self.state.forbidden:
            message = f'{resource} is forbidden: User "jane" cannot {verb} resource "{resource}"'
            raise RefusedError(403, "Forbidden", message)

    async def _list_jobs(self, request: web.Request) -> web.Response:
        namespace = request.match_info.get("namespace")
        self._allow("list", api.PLURAL if namespace else f"{api.PLURAL} everywhere")
        found = [one for one in self.state.jobs if namespace in (None, one["metadata"]["namespace"])]
        found = [one for one in found if _selected(one, request)]
        start = int(request.query.get("continue", 0))
        end = start + self.state.page
        more = {"continue": str(end)} if end < len(found) else {}
        return web.json_response({"metadata": more, "items": found[start:end]})

    def _find(self, request: web.Request) -> Json:
        for one in self.state.jobs:
            meta = one["metadata"]
            if (meta["namespace"], meta["name"]) == (request.match_info["namespace"], request.match_info["name"]):
                return one
        raise RefusedError(404, "NotFound", f'{api.PLURAL}.{api.GROUP} "{request.match_info["name"]}" not found')

    async def _get_job(self, request: web.Request) -> web.Response:
        self._allow("get", api.PLURAL)
        body = self._find(request)
        if self.state.moves:
            self.state.moves(body)
            body = self._find(request)
        return web.json_response(body)

    async def _try_job(self, request: web.Request) -> web.Response:
        """Takes what is only tried, and refuses what ``refuses`` says: code, reason and message."""
        self._allow("create", api.PLURAL)
        assert dict(request.query) == {"dryRun": "All", "fieldValidation": "Strict"}
        body = json.loads(await request.text())
        assert body["metadata"]["namespace"] == request.match_info["namespace"]
        if self.state.refuses:
            raise RefusedError(*self.state.refuses)
        return web.json_response(body, status=201)

    async def _patch_job(self, request: web.Request) -> web.Response:
        self._allow("patch", api.PLURAL)
        body = self._find(request)
        if request.content_type != "application/merge-patch+json":
            raise RefusedError(415, "UnsupportedMediaType", request.content_type)
        patch = json.loads(await request.text())
        if patch["metadata"]["uid"] != body["metadata"]["uid"]:
            raise RefusedError(409, "Conflict", "the UID in the precondition does not match")
        self.state.patches.append(patch)
        body["spec"].update(patch["spec"])
        return web.json_response(body)

    async def _review(self, request: web.Request) -> web.Response:
        """Whether the user may do it; ``NAME everywhere`` is meant where no namespace is named, as in ``forbidden``."""
        wanted = json.loads(await request.text())["spec"]["resourceAttributes"]
        resource = "/".join(part for part in (wanted["resource"], wanted["subresource"]) if part)
        right = f"{wanted['verb']} {resource}" + ("" if wanted["namespace"] else " everywhere")
        return web.json_response({"status": {"allowed": right not in self.state.forbidden}}, status=201)

    async def _get_lease(self, request: web.Request) -> web.Response:
        self._allow("get", "leases")
        place = "{namespace}/{name}".format_map(request.match_info)
        if place not in self.state.leases:
            raise RefusedError(404, "NotFound", f'leases.coordination.k8s.io "{place}" not found')
        return web.json_response({"spec": {"renewTime": self.state.leases[place], "leaseDurationSeconds": 15}})

    async def _list_events(self, request: web.Request) -> web.Response:
        self._allow("list", "events")
        uid = request.query["fieldSelector"].removeprefix("involvedObject.uid=")
        found = [one for one in self.state.events if one["involvedObject"]["uid"] == uid]
        return web.json_response({"metadata": {}, "items": found})

    async def _list_pods(self, request: web.Request) -> web.Response:
        self._allow("list", "pods")
        namespace = request.match_info["namespace"]
        here = [one for one in self.state.pods if one["metadata"].get("namespace", namespace) == namespace]
        return web.json_response({"metadata": {}, "items": [one for one in here if _selected(one, request)]})

    async def _log(self, request: web.Request) -> web.StreamResponse:
        self._allow("get", "pods/log")
        name = request.match_info["name"]
        self.state.log_queries.append(dict(request.query))
        if name not in self.state.logs:
            raise RefusedError(404, "NotFound", f'pods "{name}" not found')
        lines = self.state.logs[name].splitlines(keepends=True)
        if "tailLines" in request.query:
            lines = lines[max(0, len(lines) - int(request.query["tailLines"])) :]
        answer = web.StreamResponse()
        await answer.prepare(request)
        for line in lines:
            await answer.write(line.encode())
        await answer.write_eof()
        return answer

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        """As kube-apiserver and the kubelet forward a port over v4.channel.k8s.io."""
        self._allow("create", "pods/portforward")
        name, port = request.match_info["name"], int(request.query["ports"])
        if name not in self.state.forwards:
            raise RefusedError(404, "NotFound", f'pods "{name}" not found')
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        for channel in (b"\0", b"\1"):
            await socket.send_bytes(channel + port.to_bytes(2, "little"))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.state.forwards[name])
        except OSError:
            await socket.send_bytes(b"\1error forwarding port: connection refused")
            await socket.close()
            return socket

        async def answer() -> None:
            while piece := await reader.read(1000):
                await socket.send_bytes(b"\0" + piece)
            await socket.close()

        answering = asyncio.create_task(answer())
        async for message in socket:
            writer.write(message.data[1:])
        await answering
        writer.close()
        return socket


def _selected(one: Json, request: web.Request) -> bool:
    wanted = [pair.split("=") for pair in request.query.get("labelSelector", "").split(",") if pair]
    labels = one["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in wanted)
