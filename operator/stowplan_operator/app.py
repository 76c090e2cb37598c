"""The operator's process: puts the parts together, and ends when one of them can only be helped by a new process.

Parts: kopf (watches and indexes), telemetry and progress pollers, the planner loop under the Lease, the audit of
the indexes, the servers for metrics and probes. Every part reads settings through one source that is re-read on
change.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping

import aiohttp

from stowplan_allocator import advising
from stowplan_allocator.worker import PlannerWorker
from stowplan_operator import audit, kube, settings, views
from stowplan_operator.advisor import Advisor
from stowplan_operator.answers import Desk
from stowplan_operator.handlers import Watcher, connection_info
from stowplan_operator.http_server import HttpServer, Liveness, planner_max_age_seconds
from stowplan_operator.leader import Leader, NotLeaderError
from stowplan_operator.metrics import Metrics
from stowplan_operator.moments import Readings
from stowplan_operator.planner import Planner
from stowplan_operator.progress_poller import ProgressPoller
from stowplan_operator.progress_reader import read_progress
from stowplan_operator.prometheus import PrometheusClient
from stowplan_operator.store import Store
from stowplan_operator.telemetry import TelemetryPoller

logger = logging.getLogger(__name__)

PLANNER = "planner"
_SETTINGS_CHECK_SECONDS = 5
_FIRST_TELEMETRY_SECONDS = 10
_PAUSE_AFTER_ERROR_SECONDS = 2.0


# What the process is built from at its start.
_FIXED_SETTINGS = (
    *("namespaces", "accelerator_resource", "lease", "leader_election"),
    *("metrics_port", "health_port", "answers_port"),
)


class NewProcessNeededError(RuntimeError):
    """Settings changed that hold only from the start of a process."""


class SettingsSource:
    """The settings in force; ``watch`` re-reads the file on change, and a bad one keeps the old."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._seen = self._fingerprint()
        self.current = settings.load(environ)
        _warn_of_open_ports(self.current)

    def _fingerprint(self) -> str:
        path = settings.settings_path(self._environ)
        try:
            return path.read_text()
        except OSError:
            return ""

    def refresh(self, metrics: Metrics) -> bool:
        """Whether new settings came into force; NewProcessNeededError where they cannot in this process."""
        text = self._fingerprint()
        if text == self._seen:
            return False
        self._seen = text
        try:
            new = settings.load(self._environ)
        except ValueError as error:
            metrics.count_settings_error()
            logger.error("the changed settings are refused and the old ones stay in force: %s", error)
            return False
        fixed = [name for name in _FIXED_SETTINGS if getattr(new, name) != getattr(self.current, name)]
        if fixed:
            raise NewProcessNeededError(f"changed settings that only a new process takes up: {', '.join(fixed)}")
        self.current = new
        logger.info("new settings are in force")
        _warn_of_open_ports(new)
        return True

    async def watch(self, metrics: Metrics, on_change: Callable[[], None]) -> None:
        """Look every few seconds, for as long as the process lives."""
        while True:
            await asyncio.sleep(_SETTINGS_CHECK_SECONDS)
            if self.refresh(metrics):
                on_change()


def _warn_of_open_ports(chosen: settings.Settings) -> None:
    if not chosen.network_policy:
        logger.warning(
            "settings: networkPolicy is false: no NetworkPolicy is made, so whoever reaches the rendezvous port of a "
            "training pod runs code in it; set it to true, or keep others out by policies of your own"
        )


class App:
    """One operator process."""

    def __init__(self, source: SettingsSource) -> None:
        self._source = source
        self._metrics = Metrics(version=importlib.metadata.version("stowplan"))
        self._liveness = Liveness()
        self._leader: Leader | None = None
        self._desk = Desk(leader=lambda: self._leader.holder if self._leader else "")
        self._changed = asyncio.Event()
        self._indexed = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Run until a signal comes, the Lease is lost, or a part fails."""
        current = self._source.current
        stop = asyncio.Event()
        _end_on_signals(stop)
        server = HttpServer(
            metrics=self._metrics,
            liveness=self._liveness,
            metrics_port=current.metrics_port,
            health_port=current.health_port,
            answers_port=current.answers_port,
            desk=self._desk,
        )
        async with contextlib.AsyncExitStack() as stack:
            await server.start()
            stack.push_async_callback(server.stop)
            api_server = await kube.Kube.connect()
            stack.push_async_callback(api_server.close)
            # Pods of users answer on this session: no cookie of theirs is kept.
            session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
            solver = PlannerWorker()
            stack.callback(solver.close)
            self._leader = leader = Leader(
                leases=api_server,
                name=current.lease.name,
                namespace=current.lease.namespace or kube.own_namespace(),
                duration_seconds=current.lease.duration_seconds,
            )
            stack.push_async_callback(leader.release)
            await self._run_parts(api_server, session, solver, leader, stop)

    async def _run_parts(
        self,
        api_server: kube.Kube,
        session: aiohttp.ClientSession,
        solver: PlannerWorker,
        leader: Leader,
        stop: asyncio.Event,
    ) -> None:
        watcher = Watcher(
            accelerator_resource=self._source.current.accelerator_resource,
            namespaces=self._source.current.namespaces,
            connection=lambda: connection_info(api_server.configuration),
            on_change=self._changed.set,
            on_event=self._metrics.note_watch_event,
        )
        telemetry = TelemetryPoller(
            settings=lambda: self._source.current,
            connect=lambda chosen: PrometheusClient(
                url=chosen.url,
                timeout_seconds=chosen.timeout_seconds,
                max_bytes=chosen.max_bytes,
                session=session,
                stale_after_seconds=chosen.stale_after_seconds,
            ),
            on_change=self._changed.set,
        )
        parts = {
            "kopf": asyncio.create_task(watcher.run()),
            "telemetry": asyncio.create_task(telemetry.run()),
            "settings": asyncio.create_task(self._source.watch(self._metrics, self._changed.set)),
            "readiness": asyncio.create_task(self._become_ready(watcher, api_server, stop)),
            "stop": asyncio.create_task(stop.wait()),
        }

        async def lead() -> None:
            await self._lead(api_server, session, solver, leader, watcher, telemetry)

        if self._source.current.leader_election:
            parts["lease"] = asyncio.create_task(leader.run(lead))
        else:
            parts["lease"] = asyncio.create_task(lead())
        try:
            await asyncio.wait(parts.values(), return_when=asyncio.FIRST_COMPLETED)
            for name, task in parts.items():
                error = task.exception() if task.done() and not task.cancelled() else None
                # kopf ends without an error on a signal that comes while it starts.
                asked_to_stop = name in ("kopf", "stop") and error is None
                if task.done() and not asked_to_stop:
                    raise RuntimeError(f"{name} ended, so the operator does: {error or 'no error'}") from error
        finally:
            for task in parts.values():
                task.cancel()
            await asyncio.gather(*parts.values(), return_exceptions=True)

    async def _become_ready(self, watcher: Watcher, api_server: kube.Kube, stop: asyncio.Event) -> None:
        """Ready once the indexes are filled, as a follower too; then wait for ever."""
        await watcher.started.wait()
        assert watcher.store is not None
        await audit.wait_until_indexed(watcher.store, api_server, self._source.current.namespaces)
        _end_on_signals(stop)
        self._liveness.set_ready()
        self._indexed.set()
        await asyncio.Event().wait()

    async def _lead(
        self,
        api_server: kube.Kube,
        session: aiohttp.ClientSession,
        solver: PlannerWorker,
        leader: Leader,
        watcher: Watcher,
        telemetry: TelemetryPoller,
    ) -> None:
        """Plan for as long as the Lease is held; an error here ends the process, not the planner alone."""
        current = self._source.current
        logger.info("this process leads")
        self._metrics.set_leader(True)
        self._desk.lead(True)
        try:
            await self._indexed.wait()
            assert watcher.store is not None
            # Again: what the leader before us wrote last, our watches need not have shown yet.
            await audit.wait_until_indexed(watcher.store, api_server, current.namespaces)
            await telemetry.wait_for_first_attempt(timeout_seconds=_FIRST_TELEMETRY_SECONDS)
            progress = ProgressPoller(
                running=lambda: _running_rank_zeros(watcher.store),
                read=lambda pod: read_progress(
                    pod,
                    kube=api_server,
                    via=self._source.current.progress.via,
                    session=session,
                    timeout_seconds=self._source.current.progress.timeout_seconds,
                ),
                settings=lambda: self._source.current,
                on_change=lambda uid: self._change_soon(),
            )

            def guard() -> None:
                """Before every write: the Lease is ours; and a cycle of many writes is a planner at work."""
                if current.leader_election:
                    leader.guard()
                self._liveness.beat(PLANNER)

            api_server.guard = guard
            advisor = Advisor(
                seen=lambda: self._desk.seen,
                ask=advising.ask,
                settings=lambda: self._source.current,
                on_change=self._changed.set,
            )
            planner = Planner(
                api_server=api_server,
                store=watcher.store,
                solver=solver,
                metrics=self._metrics,
                get_settings=lambda: self._source.current,
                get_readings=lambda: Readings(
                    telemetry=telemetry.current,
                    progress=progress.latest(),
                    eta=progress.etas(),
                    progress_errors=progress.errors(),
                    seconds_left=progress.seconds_left(),
                    paces=progress.paces(),
                    advice=advisor.latest(),
                    advised_on=advisor.advised_on(),
                ),
                namespace=current.lease.namespace or kube.own_namespace(),
                guard=guard,
                desk=self._desk,
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(progress.run())
                group.create_task(advisor.run())
                group.create_task(audit.run(watcher.store, api_server, current.namespaces))
                group.create_task(self._plan_forever(planner, telemetry))
        except (Exception, asyncio.CancelledError) as error:
            if not isinstance(error, asyncio.CancelledError):
                self._liveness.fail(PLANNER, str(error))
                logger.exception("the planner ended")
            raise
        finally:
            self._liveness.unwatch(PLANNER)
            self._metrics.set_leader(False)
            self._desk.lead(False)

    def _change_soon(self) -> None:
        """Have a cycle within half a progress interval: reports of many jobs share one."""
        if self._soon is None:
            wait = self._source.current.progress.interval_seconds / 2
            self._soon = asyncio.get_running_loop().call_later(wait, self._changed.set)

    async def _plan_forever(self, planner: Planner, telemetry: TelemetryPoller) -> None:
        """Cycle when something changed, or when a deadline or the resync interval is over."""
        self._liveness.watch(PLANNER, max_age_seconds=planner_max_age_seconds(self._source.current))
        while True:
            self._changed.clear()
            if self._soon is not None:
                self._soon.cancel()
                self._soon = None
            began = time.monotonic()
            pause, succeeded = _PAUSE_AFTER_ERROR_SECONDS, False
            try:
                pause = await planner.cycle()
                succeeded = True
            except NotLeaderError:
                raise
            except Exception:
                logger.exception("a planner cycle failed; the next one starts from what the API server has")
            self._metrics.record_cycle(time.monotonic() - began, succeeded=succeeded)
            self._metrics.set_telemetry(telemetry.current)
            self._liveness.beat(PLANNER)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause)
            await asyncio.sleep(self._source.current.planner.debounce_seconds)


def _end_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT end the process at once.

    kopf takes them for itself when it starts, so they are taken back then: it would stop its watches first and wait
    five seconds for all other tasks, in which the planner goes on without watches, and then cancel the planner.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def _running_rank_zeros(store: Store | None) -> list[tuple[str, views.PodView]]:
    """(job UID, pod) of rank 0 of every attempt of our jobs that runs."""
    if store is None:
        return []
    ours = {(job.namespace, job.uid) for job in store.jobs}
    zeros = (pod for pod in store.pods if pod.managed and pod.rank == 0 and pod.running)
    return [(pod.owner_uid, pod) for pod in zeros if (pod.namespace, pod.owner_uid) in ours]


async def main() -> None:
    """Read the settings and run; ValueError where they are wrong."""
    await App(SettingsSource()).run()
