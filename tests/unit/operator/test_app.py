"""Settings while the operator runs."""

from __future__ import annotations

import pathlib

import pytest

from stowplan_operator.app import NewProcessNeededError, SettingsSource
from stowplan_operator.metrics import Metrics

FIXED = {
    "the namespaces": "namespaces: [team-a]",
    "the accelerator": "acceleratorResource: amd.com/gpu",
    "the Lease": "lease: {durationSeconds: 30}",
    "leader election": "leaderElection: false",
}


def a_source(path: pathlib.Path, text: str = "") -> SettingsSource:
    path.write_text(text)
    return SettingsSource({"STOWPLAN_SETTINGS": str(path)})


@pytest.mark.parametrize("text", FIXED.values(), ids=FIXED)
def test_what_only_a_new_process_can_take_up_asks_for_one(text: str, tmp_path: pathlib.Path) -> None:
    source = a_source(tmp_path / "settings.yaml")
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(NewProcessNeededError, match=r"only a new process takes up: \w+"):
        source.refresh(Metrics(version="test"))


def test_other_settings_hold_from_now_on(tmp_path: pathlib.Path) -> None:
    source = a_source(tmp_path / "settings.yaml", "namespaces: [team-a]")
    (tmp_path / "settings.yaml").write_text("namespaces: [team-a]\nplanner: {resyncSeconds: 7}")
    assert source.refresh(Metrics(version="test"))
    assert source.current.planner.resync_seconds == 7


def test_wrong_ones_keep_the_old(tmp_path: pathlib.Path) -> None:
    source = a_source(tmp_path / "settings.yaml", "planner: {resyncSeconds: 7}")
    (tmp_path / "settings.yaml").write_text("planner: {resyncSeconds: -7}")
    assert not source.refresh(Metrics(version="test"))
    assert source.current.planner.resync_seconds == 7


def test_switching_the_network_policies_off_is_said_at_the_start_and_on_change(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = a_source(tmp_path / "settings.yaml", "networkPolicy: true")
    assert not caplog.records
    (tmp_path / "settings.yaml").write_text("networkPolicy: false")
    source.refresh(Metrics(version="test"))
    a_source(tmp_path / "other.yaml", "networkPolicy: false")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.startswith("settings: networkPolicy is false") for text in warnings] == [True, True]
