"""Settings: defaults, the file, what is refused and how."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest

from stowplan_allocator import types
from stowplan_operator import settings


def test_an_empty_file_gives_the_defaults() -> None:
    assert settings.parse({}) == settings.Settings()


def test_the_defaults_are_what_the_documentation_says() -> None:
    default = settings.Settings()
    assert (default.accelerator_resource, default.product_label) == ("nvidia.com/gpu", "nvidia.com/gpu.product")
    assert [(level.name, level.label) for level in default.topology_levels] == [
        ("zone", "topology.kubernetes.io/zone"),
        ("rack", "topology.stowplan.dev/rack"),
    ]
    assert (default.lease.name, default.lease.duration_seconds) == ("stowplan-operator", 15)
    assert (default.planner.solver, default.planner.strategy, default.planner.time_limit_seconds) == (
        "HiGHS",
        "exact",
        10,
    )
    assert (default.prometheus.url, default.prometheus.stale_after_seconds) == ("", 120)
    assert (default.priority_class_name, default.network_policy, default.leader_election) == (
        "stowplan-gang",
        True,
        True,
    )
    assert (default.health.xid_actions, default.health.node_lost_after_seconds) == ({}, 25)


def test_names_are_in_camel_case() -> None:
    raw = {"prometheus": {"staleAfterSeconds": 60}, "planner": {"timeLimitSeconds": 3}, "networkPolicy": False}
    found = settings.parse(raw)
    assert (found.prometheus.stale_after_seconds, found.planner.time_limit_seconds, found.network_policy) == (
        60,
        3,
        False,
    )


def test_the_defaults_of_planning_are_the_allocators() -> None:
    ours, theirs = settings.Settings().planner, types.Settings()
    shared = {field.name for field in dataclasses.fields(types.Settings)} & settings.PlannerSettings.model_fields.keys()
    assert {"strategy", "solver", "seed", "gap_tolerance", "late_tiers_seconds", "time_limit_seconds"} <= shared
    assert {name: getattr(ours, name) for name in shared} == {name: getattr(theirs, name) for name in shared}


@pytest.mark.parametrize("strategy", types.Strategy)
def test_every_strategy_can_be_chosen_by_its_name(strategy: types.Strategy) -> None:
    assert settings.parse({"planner": {"strategy": strategy.value}}).planner.strategy is strategy


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown setting": ({"promtheus": {}}, r"^settings: promtheus: Extra inputs"),
    "an unknown setting inside": ({"planner": {"timelimit": 1}}, r"^settings: planner\.timelimit: "),
    "a number out of range": ({"planner": {"timeLimitSeconds": 0}}, r"^settings: planner\.timeLimitSeconds: "),
    "a word that is none of the choices": (
        {"planner": {"strategy": "magic"}},
        r"^settings: planner\.strategy: Input should be 'exact', 'greedy', ",
    ),
    "an XID action that is none": (
        {"health": {"xidActions": {"79": "Ignore"}}},
        r"^settings: health\.xidActions\.79: ",
    ),
    "an XID that is no number": ({"health": {"xidActions": {"x": "Record"}}}, r"^settings: health\.xidActions\.x\."),
    "an empty solver": ({"planner": {"solver": ""}}, r"^settings: planner\.solver: "),
    "more resizes than a history keeps": ({"elastic": {"maxPerHour": 25}}, r"^settings: elastic\.maxPerHour: "),
    "more preemptions than that": ({"preemption": {"maxPerHour": 25}}, r"^settings: preemption\.maxPerHour: "),
    "a gap that is no share": ({"planner": {"gapTolerance": 1}}, r"^settings: planner\.gapTolerance: "),
    "a negative seed": ({"planner": {"seed": -1}}, r"^settings: planner\.seed: "),
    "a negative time": ({"planner": {"lateTiersSeconds": -1}}, r"^settings: planner\.lateTiersSeconds: "),
    "a part that is more than the whole": (
        {"planner": {"lateTiersSeconds": 20}},
        r"^settings: planner: .*lateTiersSeconds 20 is a part of timeLimitSeconds 10: lower it, or raise",
    ),
    "a lease that is too short": ({"lease": {"durationSeconds": 1}}, r"^settings: lease\.durationSeconds: "),
    "a level of the name of the implicit one": (
        {"topologyLevels": [{"name": "node", "label": "x"}]},
        r"^settings: topologyLevels: .*implicit last level",
    ),
    "two levels of one name": (
        {"topologyLevels": [{"name": "rack", "label": "x"}, {"name": "rack", "label": "y"}]},
        r"^settings: topologyLevels: .*same name",
    ),
    "a level without a label": (
        {"topologyLevels": [{"name": "rack", "label": ""}]},
        r"^settings: topologyLevels\.0\.label: ",
    ),
    "a port that is none": ({"metricsPort": 70000}, r"^settings: metricsPort: "),
}


@pytest.mark.parametrize(("raw", "want"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_named(raw: dict[str, Any], want: str) -> None:
    with pytest.raises(ValueError, match=want):
        settings.parse(raw)


def write(folder: pathlib.Path, text: str) -> dict[str, str]:
    path = folder / "settings.yaml"
    path.write_text(text)
    return {"STOWPLAN_SETTINGS": str(path)}


def test_the_file_is_read(tmp_path: pathlib.Path) -> None:
    assert settings.load(write(tmp_path, "namespaces: [a, b]\n")).namespaces == ("a", "b")


def test_an_empty_file_is_fine(tmp_path: pathlib.Path) -> None:
    assert settings.load(write(tmp_path, "# nothing\n")) == settings.Settings()


def test_without_a_file_the_defaults_hold() -> None:
    assert settings.load({}) == settings.Settings()


def test_the_environment_overrides_the_file(tmp_path: pathlib.Path) -> None:
    environ = write(tmp_path, "namespaces: [a]\nprometheus: {url: 'http://old', timeoutSeconds: 1}\n")
    environ |= {"STOWPLAN_PROMETHEUS_URL": "http://new", "STOWPLAN_NAMESPACES": "b, c,"}
    found = settings.load(environ)
    assert (found.namespaces, found.prometheus.url, found.prometheus.timeout_seconds) == (("b", "c"), "http://new", 1)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("a: [", "is not YAML", id="broken YAML"),
        pytest.param("- a\n- b\n", "must hold a mapping of settings, not a list", id="a list"),
        pytest.param("leaderElection: perhaps\n", "settings: leaderElection: ", id="a wrong value"),
    ],
)
def test_a_broken_file_is_refused_with_its_cause(tmp_path: pathlib.Path, text: str, want: str) -> None:
    with pytest.raises(ValueError, match=want):
        settings.load(write(tmp_path, text))


def test_a_file_that_is_named_must_exist(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"STOWPLAN_SETTINGS names .*, which does not exist"):
        settings.load({"STOWPLAN_SETTINGS": str(tmp_path / "nowhere.yaml")})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.Settings().metrics_port = 1
