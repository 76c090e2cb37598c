"""Progress that others can read: Prometheus metrics while training, a summary in the pod's status at its end.

Three lines in any script that torchrun starts, with or without the rest of this package:

    from stowplan_trainer import progress
    report = progress.serve(steps_total=1000)
    report(step, loss=loss, samples=64)          # after each step; every rank may call it, rank 0 counts

What must stay true: reporting never ends or slows training (a port that is taken costs a warning, an HTTP client waits
alone), nothing here needs torch, and metrics are there before the first step. A script that serves the same names by
other means is as good. The names are part of the product's interface.
"""

import collections
import http.server
import json
import math
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable

from stowplan_trainer import environment

TERMINATION_MESSAGE_BYTES = 4096
RATE_WINDOW_SECONDS = 30.0
HELP = {
    "stowplan_train_step": "Optimiser steps done, the resumed ones included.",
    "stowplan_train_steps_total": "Optimiser steps that the whole run takes.",
    "stowplan_train_loss": "Mean training loss over all ranks, as last reported.",
    "stowplan_train_samples_per_second": "Samples trained per second by all ranks together, over the last 30 s.",
    "stowplan_train_checkpoint_step": "Step of the last committed checkpoint.",
    "stowplan_train_checkpoint_timestamp_seconds": "Unix time of the last committed checkpoint.",
    "stowplan_train_checkpoint_save_seconds": "Seconds that the last save took, from the call until it was durable.",
    "stowplan_train_eval_accuracy": "Held-out accuracy, 0 to 1, as last evaluated.",
    "stowplan_train_attempt": "Which whole-gang start this is, from 1.",
}


class Progress:
    """The numbers, as last reported. Safe to read from the server's thread: each report replaces whole values."""

    def __init__(self, *, steps_total: int, step: int = 0, attempt: int = 1, clock: Callable[[], float] = time.time):
        """`clock` gives Unix seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._samples = 0
        self._window: collections.deque[tuple[float, int]] = collections.deque([(clock(), 0)])
        self._values: dict[str, float] = {
            "stowplan_train_step": step,
            "stowplan_train_steps_total": steps_total,
            "stowplan_train_attempt": attempt,
        }

    def __call__(self, step: int, *, loss: float | None = None, samples: int = 0) -> None:
        """Report that `step` steps are done; `samples` were trained by all ranks together since the last report."""
        now = self._clock()
        with self._lock:
            self._values["stowplan_train_step"] = step
            if loss is not None:
                self._values["stowplan_train_loss"] = loss
            self._samples += samples
            self._window.append((now, self._samples))
            while len(self._window) > 2 and now - self._window[1][0] > RATE_WINDOW_SECONDS:
                self._window.popleft()
            start, before = self._window[0]
            if samples and now > start:
                self._values["stowplan_train_samples_per_second"] = (self._samples - before) / (now - start)

    def resumed(self, step: int) -> None:
        """Report the step at which this process starts, before it makes its first step."""
        with self._lock:
            self._values["stowplan_train_step"] = step
            self._window = collections.deque([(self._clock(), self._samples)])

    def checkpoint(self, step: int, *, unix_seconds: float | None = None, save_seconds: float | None = None) -> None:
        """Report a committed (or loaded) checkpoint, and how long its save took where this process made it."""
        with self._lock:
            self._values["stowplan_train_checkpoint_step"] = step
            self._values["stowplan_train_checkpoint_timestamp_seconds"] = (
                self._clock() if unix_seconds is None else unix_seconds
            )
            if save_seconds is not None:
                self._values["stowplan_train_checkpoint_save_seconds"] = save_seconds

    def evaluated(self, accuracy: float) -> None:
        """Report a held-out accuracy."""
        with self._lock:
            self._values["stowplan_train_eval_accuracy"] = accuracy

    @property
    def samples_per_second(self) -> float:
        """The rate as served; 0 before the first report."""
        return self._values.get("stowplan_train_samples_per_second", 0.0)

    def text(self) -> str:
        """The Prometheus text format, version 0.0.4. What was never reported is not in it."""
        with self._lock:
            values = dict(self._values)
        lines = []
        for name, text in HELP.items():
            if name in values:
                lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {_number(values[name])}"]
        return "\n".join(lines) + "\n"

    def summary(self, **more: object) -> str:
        """The last numbers as one line of JSON, for the container's termination message."""
        names = {
            "step": "stowplan_train_step",
            "stepsTotal": "stowplan_train_steps_total",
            "loss": "stowplan_train_loss",
            "accuracy": "stowplan_train_eval_accuracy",
            "samplesPerSecond": "stowplan_train_samples_per_second",
            "checkpointStep": "stowplan_train_checkpoint_step",
            "checkpointTime": "stowplan_train_checkpoint_timestamp_seconds",
            "attempt": "stowplan_train_attempt",
        }
        with self._lock:
            found = {key: self._values[name] for key, name in names.items() if name in self._values}
        numbers = {key: round(value, 6) for key, value in found.items() if math.isfinite(value)}
        return json.dumps({"stowplan": {**numbers, **more}})


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, progress: Progress):
        self.progress = progress
        if dual := socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        super().__init__(("::" if dual else "0.0.0.0", port), _Handler)  # noqa: S104 - the operator reads it from outside

    def server_bind(self) -> None:
        if self.address_family is socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)  # not HTTPServer's, which looks up a name and may wait for DNS

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = 5.0
    wbufsize = -1  # one packet for head and body: a process that ends in between would leave half an answer

    def do_GET(self) -> None:
        if self.path.split("?")[0] not in ("/", "/metrics"):
            self.send_error(404)
            return
        server = self.server
        assert isinstance(server, _Server)
        body = server.progress.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def start_server(progress: Progress, *, port: int) -> int:
    """Serve in a daemon thread and return the port (chosen by the system where 0 is given)."""
    server = _Server(port, progress)
    threading.Thread(target=server.serve_forever, name="stowplan-metrics", daemon=True).start()
    return int(server.server_address[1])


def serve(*, steps_total: int, step: int = 0) -> Progress:
    """Serve on STOWPLAN_METRICS_PORT, on rank 0 only; the other ranks get an object that nobody reads."""
    env = environment.Environment.read()
    progress = Progress(steps_total=steps_total, step=step, attempt=env.attempt)
    if env.rank == 0 and env.metrics_port is not None:
        try:
            start_server(progress, port=env.metrics_port)
        except OSError as error:
            print(f"no progress metrics: STOWPLAN_METRICS_PORT={env.metrics_port}: {error}", file=sys.stderr)
    return progress


def write_termination_message(text: str) -> bool:
    """Leave `text` in the pod's status, where the kubelet has mounted a file for it; False where it has not.

    The kubelet reads at most 4096 bytes. The file is a mount: it can be written but not replaced.
    """
    path = environment.Environment.read().termination_log
    if not path.exists():
        return False
    data = text.encode()
    if len(data) > TERMINATION_MESSAGE_BYTES:
        data = b"..." + data[len(data) - TERMINATION_MESSAGE_BYTES + 3 :]
        data = data.decode(errors="ignore").encode()
    try:
        path.write_bytes(data)
    except OSError as error:
        print(f"no termination message: {path}: {error}", file=sys.stderr)
        return False
    return True
