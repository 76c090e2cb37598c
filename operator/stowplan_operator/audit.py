"""Are the indexes what the API server has? A watch can die without a sign.

Before the first cycle under a Lease every object of a LIST must be in the indexes; afterwards, every five minutes, the
two are compared, and a difference that stays ends the process: a new one reads everything anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from stowplan_operator import api, kube
from stowplan_operator.store import Store, is_older

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 300
_CONFIRM_AFTER_SECONDS = 20
_PAUSE_AFTER_ERROR_SECONDS = 2


class StaleIndexError(RuntimeError):
    """The indexes differ from the API server, and go on differing."""


def compare(listed: Mapping[str, str], indexed: Mapping[str, str]) -> set[str]:
    """UIDs whose indexed state is behind the list: missing, or of an older resourceVersion."""
    return {uid for uid, version in listed.items() if uid not in indexed or is_older(indexed[uid], version)}


async def _differences(store: Store, api_server: kube.KubeApi, namespaces: tuple[str, ...]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    tables = {
        "nodes": store.nodes.indexed_versions,
        "pods": store.pods.indexed_versions,
        api.PLURAL: store.jobs.indexed_versions,
        api.QUEUES: store.queues.indexed_versions,
        **{plural: table.indexed_versions for plural, table in store.limits.items()},
    }
    for resource, indexed in tables.items():
        # Pods of all namespaces take room; only jobs are those of the namespaces that were chosen.
        scopes: tuple[str | None, ...] = namespaces if namespaces and resource == api.PLURAL else (None,)
        for scope in scopes:
            try:
                listed = await api_server.list_keys(resource, scope)
            except kube.ApiError as error:
                if not error.is_not_found or resource != api.QUEUES:
                    raise
                listed = {}  # its CRD is not installed: Queues are optional
            found.setdefault(resource, set()).update(compare(listed, indexed()))
    return {resource: uids for resource, uids in found.items() if uids}


async def wait_until_indexed(store: Store, api_server: kube.KubeApi, namespaces: tuple[str, ...]) -> None:
    """Return once every listed object is in the indexes: a plan before that could give accelerators twice."""
    missing: set[str] | None = None
    while missing is None or missing:
        try:
            differing = set().union(*(await _differences(store, api_server, namespaces)).values())
        except kube.ApiError as error:
            if 400 <= error.status < 500 and error.status != 429:
                raise
            logger.warning("cannot compare the indexes with a LIST: %s", error)
            await asyncio.sleep(_PAUSE_AFTER_ERROR_SECONDS)
            continue
        # What changed or went since the first LIST has never to be waited for: in a busy cluster there is always some.
        missing = differing if missing is None else missing & differing
        if missing:
            logger.info("indexes are still filling: %d objects", len(missing))
            await asyncio.sleep(0.5)


async def run(store: Store, api_server: kube.KubeApi, namespaces: tuple[str, ...]) -> None:
    """Compare every five minutes; raise StaleIndexError when a difference lasts."""
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        try:
            first = await _differences(store, api_server, namespaces)
            if not first:
                continue
            await asyncio.sleep(_CONFIRM_AFTER_SECONDS)
            second = await _differences(store, api_server, namespaces)
        except kube.ApiError as error:
            logger.warning("cannot compare the indexes with a LIST: %s", error)
            continue
        lasting = {
            resource: len(uids & second.get(resource, set()))
            for resource, uids in first.items()
            if uids & second.get(resource, set())
        }
        if lasting:
            raise StaleIndexError(f"the watches have missed changes: {lasting}")
