"""Metrics and the termination message: what the operator reads."""

import http.client
import json
import math
import re
import socket

import pytest

from stowplan_trainer import progress


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def report(clock):
    return progress.Progress(steps_total=220, step=40, attempt=2, clock=clock)


def values(text):
    return dict(line.split(" ") for line in text.splitlines() if not line.startswith("#"))


def get(port, path="/metrics"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()
    finally:
        connection.close()


def test_the_metric_names_are_frozen():
    assert list(progress.HELP) == [
        "stowplan_train_step",
        "stowplan_train_steps_total",
        "stowplan_train_loss",
        "stowplan_train_samples_per_second",
        "stowplan_train_checkpoint_step",
        "stowplan_train_checkpoint_timestamp_seconds",
        "stowplan_train_checkpoint_save_seconds",
        "stowplan_train_eval_accuracy",
        "stowplan_train_attempt",
    ]


def test_before_the_first_step_only_what_is_known_is_served(report):
    assert values(report.text()) == {
        "stowplan_train_step": "40",
        "stowplan_train_steps_total": "220",
        "stowplan_train_attempt": "2",
    }


def test_all_numbers_as_reported(report, clock):
    clock.now += 2
    report(41, loss=0.5, samples=64)
    report.checkpoint(40, unix_seconds=990.5, save_seconds=1.25)
    report.evaluated(0.96)
    assert values(report.text()) == {
        "stowplan_train_step": "41",
        "stowplan_train_steps_total": "220",
        "stowplan_train_loss": "0.5",
        "stowplan_train_samples_per_second": "32.0",
        "stowplan_train_checkpoint_step": "40",
        "stowplan_train_checkpoint_timestamp_seconds": "990.5",
        "stowplan_train_checkpoint_save_seconds": "1.25",
        "stowplan_train_eval_accuracy": "0.96",
        "stowplan_train_attempt": "2",
    }


def test_the_text_is_in_prometheus_format(report):
    report(41, loss=math.inf, samples=1)
    for line in report.text().splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) stowplan_train_\w+ .+|stowplan_train_\w+ (NaN|[+-]Inf|[0-9.e+-]+)", line)


@pytest.mark.parametrize(
    ("loss", "want"), [(math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (1e-9, "1e-09")]
)
def test_a_loss_that_went_astray_is_shown_as_it_is(report, loss, want):
    report(41, loss=loss)
    assert values(report.text())["stowplan_train_loss"] == want
    assert "loss" not in json.loads(report.summary())["stowplan"] or math.isfinite(loss)


def test_the_rate_is_that_of_the_last_30_seconds(report, clock):
    for _ in range(100):
        clock.now += 1
        report(41, samples=1000)
    for _ in range(31):
        clock.now += 1
        report(42, samples=10)
    assert report.samples_per_second == pytest.approx(10, rel=0.01)


def test_a_resumed_run_does_not_count_its_start_up_time(report, clock):
    clock.now += 500
    report.resumed(80)
    clock.now += 1
    report(81, samples=64)
    assert report.samples_per_second == 64


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in ("RANK", "STOWPLAN_ATTEMPT", "STOWPLAN_METRICS_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "termination-log"))
    return monkeypatch


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_rank_0_serves_what_is_reported(environment):
    port = free_port()
    environment.setenv("STOWPLAN_METRICS_PORT", str(port))
    report = progress.serve(steps_total=10, step=3)
    status, content_type, text = get(port)
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert values(text)["stowplan_train_step"] == "3"
    report(4, loss=0.25)
    assert values(get(port)[2])["stowplan_train_loss"] == "0.25"
    assert get(port, "/etc/passwd")[0] == 404


def test_the_other_ranks_serve_nothing(environment):
    port = free_port()
    environment.setenv("STOWPLAN_METRICS_PORT", str(port))
    environment.setenv("RANK", "1")
    progress.serve(steps_total=10)(1, loss=1.0)
    with pytest.raises(ConnectionRefusedError):
        get(port)


def test_a_port_that_is_taken_is_a_warning_not_an_end(environment, capsys):
    with socket.create_server(("0.0.0.0", 0)) as taken:
        environment.setenv("STOWPLAN_METRICS_PORT", str(taken.getsockname()[1]))
        progress.serve(steps_total=10)(1, loss=1.0)
    assert "no progress metrics: STOWPLAN_METRICS_PORT=" in capsys.readouterr().err


def test_a_client_that_never_asks_does_not_keep_others_waiting(report):
    port = progress.start_server(report, port=0)
    with socket.create_connection(("127.0.0.1", port)):
        assert get(port)[0] == 200


def test_the_summary_is_what_the_operator_reads_from_the_pods_status(report, clock):
    clock.now += 1
    report(220, loss=0.123456789, samples=32)
    report.checkpoint(220)
    report.evaluated(0.975)
    assert json.loads(report.summary()) == {
        "stowplan": {
            "step": 220,
            "stepsTotal": 220,
            "loss": 0.123457,
            "accuracy": 0.975,
            "samplesPerSecond": 32.0,
            "checkpointStep": 220,
            "checkpointTime": 1001.0,
            "attempt": 2,
        }
    }
    assert json.loads(report.summary(stopped=True))["stowplan"]["stopped"] is True


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("short", "short", id="a short one is written whole"),
        pytest.param("x" * 4096, "x" * 4096, id="4096 bytes just fit"),
        pytest.param("a" * 9000 + "the end", "..." + "a" * 4086 + "the end", id="of a long one the end stays"),
        pytest.param("é" * 4000, "..." + "é" * 2046, id="a cut never splits a character"),
    ],
)
def test_termination_message(environment, tmp_path, text, want):
    (tmp_path / "termination-log").touch()
    assert progress.write_termination_message(text)
    written = (tmp_path / "termination-log").read_bytes()
    assert written.decode() == want
    assert len(written) <= 4096


def test_no_termination_message_where_the_kubelet_mounted_no_file(environment, tmp_path):
    assert not progress.write_termination_message("text")
    assert not (tmp_path / "termination-log").exists()
