"""What the DCGM exporter's series are called, and how those of one GPU become one reading. Pure.

An answer of Prometheus is not trusted to be one: ``parse_vector`` says what is wrong with it, and values that
cannot be (NaN, negative, DCGM's "blank") are no values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stowplan_operator.views import GpuReading

XID = "DCGM_FI_DEV_XID_ERRORS"
UTILISATION = "DCGM_FI_DEV_GPU_UTIL"
MEMORY_USED = "DCGM_FI_DEV_FB_USED"
MEMORY_FREE = "DCGM_FI_DEV_FB_FREE"
MEMORY_RESERVED = "DCGM_FI_DEV_FB_RESERVED"
TEMPERATURE = "DCGM_FI_DEV_GPU_TEMP"
POWER = "DCGM_FI_DEV_POWER_USAGE"
FAMILIES = (XID, MEMORY_USED, MEMORY_FREE, MEMORY_RESERVED, UTILISATION, TEMPERATURE, POWER)

# Labels that scrape configurations add name the Kubernetes node for certain; the exporter's own
# host name is its pod's name where NODE_NAME is not set.
_NODE_LABELS = ("node", "kubernetes_node", "exported_node", "Hostname", "hostname")
_UUID_LABELS = ("UUID", "uuid")
# Whose the GPU is. Where the scrape configuration adds labels of the exporter's pod, Prometheus renames the exporter's.
_POD_LABELS = (("exported_namespace", "exported_pod"), ("namespace", "pod"))
LABELS = (*_NODE_LABELS, "gpu", *_UUID_LABELS, "GPU_I_ID")
# Only of XIDs it matters whose they are; each further label makes every answer longer.
LABELS_OF_XIDS = (*LABELS, *(label for pair in _POD_LABELS for label in pair))

_LARGEST_VALUE = 1e9  # DCGM marks "blank" by values near 2^31 and 2^63
_LARGEST_XID = 999


class Sample(NamedTuple):
    """One GPU's (or MIG instance's) value of one family."""

    node: str
    gpu: str
    uuid: str
    instance: str
    value: float
    at_seconds: float
    pod: str = ""


@dataclass(slots=True)
class _Gpu:
    values: dict[str, dict[str, float]] = field(default_factory=dict)  # family → MIG instance → value
    sampled_at: float = 0.0
    pods: set[str] = field(default_factory=set)


class Readings:
    """Joins samples of all families by node, GPU index and UUID."""

    def __init__(self) -> None:
        self._gpus: dict[tuple[str, str, str], _Gpu] = {}

    def take(self, family: str, body: bytes, *, oldest_seconds: float) -> tuple[int, int]:
        """Take an answer in: how many samples were used, and how many were too old. ValueError as ``parse_vector``."""
        samples = parse_vector(body)
        fresh = [sample for sample in samples if sample.at_seconds >= oldest_seconds]
        for sample in fresh:
            self.add(family, sample)
        return len(fresh), len(samples) - len(fresh)

    def add(self, family: str, sample: Sample) -> None:
        """Take one sample in; of two for the same thing (scraped twice) the larger counts."""
        key = sample.node, sample.gpu, sample.uuid
        gpu = self._gpus.get(key)
        if gpu is None:
            gpu = self._gpus[key] = _Gpu()
        values = gpu.values.setdefault(family, {})
        known = values.get(sample.instance)
        values[sample.instance] = sample.value if known is None else max(sample.value, known)
        gpu.sampled_at = max(gpu.sampled_at, sample.at_seconds)
        if sample.pod:
            gpu.pods.add(sample.pod)

    def by_node(self) -> dict[str, tuple[GpuReading, ...]]:
        """One reading per GPU, in the order of the GPUs' indexes."""
        nodes: dict[str, list[GpuReading]] = {}
        for (node, index, uuid), gpu in self._gpus.items():
            nodes.setdefault(node, []).append(_reading(index, uuid, gpu))
        return {node: tuple(sorted(readings, key=_index_order)) for node, readings in nodes.items()}


def _index_order(reading: GpuReading) -> tuple[int, str, str]:
    return (int(reading.index) if reading.index.isdecimal() else 1 << 30, reading.index, reading.uuid)


def _reading(index: str, uuid: str, gpu: _Gpu) -> GpuReading:
    def largest(family: str) -> float | None:
        return max(gpu.values[family].values()) if family in gpu.values else None

    def total(family: str) -> float | None:
        return sum(gpu.values[family].values()) if family in gpu.values else None

    used, free = total(MEMORY_USED), total(MEMORY_FREE)
    # Instances of a partitioned (MIG) GPU do not add up to its memory: then the total stays unknown.
    partitioned = any(instance for values in gpu.values.values() for instance in values)
    known = used is not None and free is not None and not partitioned
    xid = largest(XID) or 0.0
    return GpuReading(
        index=index,
        uuid=uuid,
        xid=int(xid) if xid <= _LARGEST_XID else 0,
        utilisation_percent=largest(UTILISATION),
        memory_used_mib=used,
        memory_total_mib=(used or 0.0) + (free or 0.0) + (total(MEMORY_RESERVED) or 0.0) if known else None,
        temperature_celsius=largest(TEMPERATURE),
        power_watts=largest(POWER),
        sampled_at=gpu.sampled_at,
        pod=min(gpu.pods) if len(gpu.pods) == 1 else "",
    )


def parse_vector(body: bytes) -> list[Sample]:
    """The samples of an instant query's JSON answer; ValueError says what is wrong with the answer.

    Samples without a node or without a usable number are left out.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        what = "HTML" if body.lstrip()[:1] == b"<" else "no JSON"
        raise ValueError(f"the answer is {what} ({type(error).__name__})") from None
    if not isinstance(answer, dict):
        raise ValueError("the answer is not that of a Prometheus query")
    if answer.get("status") != "success":
        raise ValueError(f"the query was refused: {refusal(answer)}")
    data = answer.get("data")
    if not isinstance(data, dict) or data.get("resultType") != "vector" or not isinstance(data.get("result"), list):
        raise ValueError("the answer holds no instant vector")
    return [sample for item in data["result"] for sample in _samples(item)]


def refusal(answer: Mapping[str, Any]) -> str:
    """The reason that Prometheus gives in an answer that is an error."""
    return f"{answer.get('errorType') or 'error'}: {answer.get('error') or 'no reason given'}"[:300]


def _samples(item: Any) -> Iterator[Sample]:
    labels = item.get("metric") if isinstance(item, dict) else None
    pair = item.get("value") if isinstance(item, dict) else None
    if not isinstance(labels, dict) or not isinstance(pair, list) or len(pair) != 2:
        return
    try:
        at_seconds, value = float(pair[0]), float(pair[1])
    except (TypeError, ValueError, OverflowError):
        return
    node = _first(labels, _NODE_LABELS)
    if node and math.isfinite(at_seconds) and 0 <= value < _LARGEST_VALUE:
        gpu, uuid, instance = str(labels.get("gpu", "")), _first(labels, _UUID_LABELS), str(labels.get("GPU_I_ID", ""))
        yield Sample(node, gpu, uuid, instance, value, at_seconds, _pod(labels))


def _pod(labels: Mapping[str, Any]) -> str:
    for namespace, pod in _POD_LABELS:
        if labels.get(namespace) and labels.get(pod):
            return f"{labels[namespace]}/{labels[pod]}"
    return ""


def _first(labels: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if value := labels.get(name):
            return str(value)
    return ""
