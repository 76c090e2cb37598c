"""What the chart renders: least rights, restricted pods, a settings file that the operator takes, every switch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

import apiserver
import crd_schema
from stowplan_operator import podspec, settings
from stowplan_operator.cli import client

Values = dict[str, Any]
Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]

NAMESPACES = ["team-a", "team-b"]
ALL_ON: Values = {
    "replicas": 2,
    "watchNamespaces": NAMESPACES,
    "priorityClassName": "system-cluster-critical",
    "image": {"pullSecrets": [{"name": "registry"}]},
    "podLabels": {"team": "infra"},
    "podAnnotations": {"note": "x"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "serviceAccount": {"annotations": {"note": "x"}},
    "admissionPolicy": {"extraUsers": ["kubernetes-admin"], "extraGroups": ["platform"]},
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    },
    "settings": {"prometheus": {"url": "http://prometheus.monitoring:9090"}},
}
ALL_OFF: Values = {
    "replicas": 0,
    "serviceAccount": {"create": False, "name": "given"},
    "crds": {"enabled": False},
    "priorityClass": {"create": False},
    "admissionPolicy": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "userRoles": {"create": False},
}
CASES: dict[str, Values] = {"defaults": {}, "everything on": ALL_ON, "everything off": ALL_OFF}
every_case = pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())

METRICS = {
    *("stowplan_planner_cycle_seconds", "stowplan_planner_last_success_timestamp_seconds", "stowplan_solver_gap_ratio"),
    *("stowplan_solver_seconds", "stowplan_jobs", "stowplan_jobs_waiting", "stowplan_gpus"),
    *("stowplan_watch_age_seconds", "stowplan_leader", "stowplan_api_writes_total", "stowplan_telemetry_age_seconds"),
    *("stowplan_settings_errors_total", "stowplan_gang_restarts_total"),
    *("stowplan_sick_nodes", "stowplan_xids_total", "stowplan_node_history_errors_total"),
}


def _of(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] in kinds]


def _one(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    (found,) = (one for one in _of(manifests, kind) if not name or one["metadata"]["name"] == name)
    return found


def _rules(manifests: list[Manifest], *, users: bool = False) -> Iterator[tuple[str, str, str, str]]:
    """(role, API group, resource, verb) of every rule."""
    for role in _of(manifests, "Role", "ClusterRole"):
        if ("-user-" in role["metadata"]["name"]) != users:
            continue
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield role["metadata"]["name"], group, resource, verb


@every_case
def test_no_rule_has_a_wildcard_or_a_forbidden_right(render: Render, values: Values) -> None:
    rules = list(_rules(render(values)))
    assert rules
    for role, group, resource, verb in [*rules, *_rules(render(values), users=True)]:
        what = f"{role}: {verb} {resource}.{group}"
        assert "*" not in (group, resource, verb), what
        assert (
            verb not in ("escalate", "bind", "impersonate", "approve", "sign", "deletecollection") or "user" in role
        ), what
        assert resource not in ("secrets", "pods/exec", "pods/attach", "pods/proxy", "pods/log"), what
        assert resource != "pods/portforward" or role.endswith("-user-answers"), what
        assert resource not in ("pods/ephemeralcontainers", "serviceaccounts", "serviceaccounts/token"), what
        assert group not in ("rbac.authorization.k8s.io", "admissionregistration.k8s.io", "certificates.k8s.io"), what
        if resource in (
            *("nodes", "namespaces", "priorityclasses", "customresourcedefinitions"),
            *("resourcequotas", "limitranges", "poddisruptionbudgets"),
        ):
            assert verb in ("get", "list", "watch"), what
        if resource == "pods":
            assert verb not in ("patch", "update"), what


WANTED_RIGHTS = {
    ("stowplan-reader", "", "nodes", "list watch"),
    ("stowplan-reader", "", "pods", "list watch"),
    ("stowplan-reader", "", "resourcequotas", "list watch"),
    ("stowplan-reader", "", "limitranges", "list watch"),
    ("stowplan-reader", "policy", "poddisruptionbudgets", "list watch"),
    ("stowplan-reader", "apiextensions.k8s.io", "customresourcedefinitions", "list watch"),
    ("stowplan-reader", "scheduling.k8s.io", "priorityclasses", "list watch"),
    ("stowplan-reader", "stowplan.dev", "queues", "list watch"),
    ("stowplan-reader", "stowplan.dev", "trainingjobs", "list watch"),
    ("stowplan-queues", "stowplan.dev", "queues/status", "patch"),
    ("stowplan-jobs", "", "pods", "create delete"),
    ("stowplan-jobs", "", "services", "create get"),
    ("stowplan-jobs", "networking.k8s.io", "networkpolicies", "create get"),
    ("stowplan-jobs", "", "events", "create"),
    ("stowplan-jobs", "stowplan.dev", "trainingjobs", "delete"),
    ("stowplan-jobs", "stowplan.dev", "trainingjobs/status", "patch"),
    ("stowplan-self", "coordination.k8s.io", "leases", "create get update"),
    ("stowplan-self", "", "configmaps", "create get update"),
}


@pytest.mark.parametrize("values", [{}, {"watchNamespaces": NAMESPACES}], ids=["all namespaces", "listed namespaces"])
def test_rights_are_exactly_these(render: Render, values: Values) -> None:
    verbs: dict[tuple[str, str, str], set[str]] = {}
    for role, group, resource, verb in _rules(render(values)):
        verbs.setdefault((role, group, resource), set()).add(verb)
    assert {(*key, " ".join(sorted(found))) for key, found in verbs.items()} == WANTED_RIGHTS


def test_with_listed_namespaces_nothing_may_be_written_elsewhere(render: Render) -> None:
    manifests = render({"watchNamespaces": NAMESPACES})
    for _, _, resource, verb in _rules(_of(manifests, "ClusterRole")):
        assert verb in ("get", "list", "watch") or resource == "queues/status", resource
    for kind in ("Role", "RoleBinding"):
        where = {(one["metadata"]["name"], one["metadata"]["namespace"]) for one in _of(manifests, kind)}
        given = {(name, namespace) for name, namespace in where if "-user-" not in name}
        assert given == {("stowplan-self", "stowplan-system"), *(("stowplan-jobs", name) for name in NAMESPACES)}


@every_case
def test_roles_are_bound_to_the_operators_account_alone(render: Render, values: Values) -> None:
    manifests = render(values)
    account = _one(manifests, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    for binding in _of(manifests, "RoleBinding", "ClusterRoleBinding"):
        if "-user-" in binding["metadata"]["name"]:
            continue
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "stowplan-system"}]
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]
    created = {one["metadata"]["name"] for one in _of(manifests, "ServiceAccount")}
    assert created == (set() if "create" in values.get("serviceAccount", {}) else {account})


EVERYBODY_MAY: dict[str, tuple[Values, list[Manifest]]] = {
    "see when the operator last renewed its Lease": (
        {"settings": {"lease": {"name": "mine"}}},
        [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["mine"], "verbs": ["get"]}],
    ),
    "read Queues where the chart is told so": (
        {"userRoles": {"everybodySeesQueues": True}, "settings": {"lease": {"name": "mine"}}},
        [
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": ["mine"],
                "verbs": ["get"],
            },
            {"apiGroups": ["stowplan.dev"], "resources": ["queues"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["stowplan.dev"], "resources": ["queues/status"], "verbs": ["get"]},
        ],
    ),
    "do nothing where the chart makes no roles for users": ({"userRoles": {"create": False}}, []),
}


@pytest.mark.parametrize("case", EVERYBODY_MAY)
def test_everybody_may(render: Render, case: str) -> None:
    values, want = EVERYBODY_MAY[case]
    manifests = render(values)
    found: list[Manifest] = []
    for binding in _of(manifests, "RoleBinding", "ClusterRoleBinding"):
        if "-user-" in binding["metadata"]["name"]:
            group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}
            assert binding["subjects"] == [group]
            found += _one(manifests, binding["roleRef"]["kind"], binding["roleRef"]["name"])["rules"]
    assert sorted(found, key=str) == want


def _pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for one in manifests:
        if one["kind"] == "Pod":
            yield one["metadata"]["name"], one["spec"]
        elif "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


@every_case
def test_pods_satisfy_the_level_restricted(render: Render, values: Values) -> None:
    pods = dict(_pods(render(values)))
    assert pods.keys() == {"stowplan", "stowplan-test"}
    for pod in pods.values():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert all(not {"hostPath"} & volume.keys() for volume in pod.get("volumes", ()))
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]


def test_operator_runs_with_its_settings_probes_and_ports(render: Render) -> None:
    manifests = render()
    pod = _one(manifests, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "docker.io/stowplan/operator:dev"
    assert container["command"] == ["python3", "-m", "stowplan_operator"]
    assert {"name": "STOWPLAN_SETTINGS", "value": "/etc/stowplan/settings.yaml"} in container["env"]
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "settings")
    assert mount == {"name": "settings", "mountPath": "/etc/stowplan", "readOnly": True}, "no subPath: it is re-read"
    assert {"name": "settings", "configMap": {"name": "stowplan-settings"}} in pod["volumes"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": 8080, "health": 8081}
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/livez", "port": "health"}
    # An upgrade takes the old leader away only when the new process knows the cluster.
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}


@every_case
def test_the_operator_takes_the_settings_and_they_are_its_defaults(render: Render, values: Values) -> None:
    text = _one(render(values), "ConfigMap", "stowplan-settings")["data"]["settings.yaml"]
    wanted = {
        "namespaces": values.get("watchNamespaces", []),
        "lease": {"namespace": "stowplan-system"},
        **values.get("settings", {}),
    }
    assert settings.parse(yaml.safe_load(text)) == settings.parse(wanted)


def test_every_setting_can_be_set(helm: Any) -> None:
    """A setting that the operator has but the values lack could not be reached through the chart."""
    chart = yaml.safe_load((apiserver.ROOT / "charts/stowplan/values.yaml").read_text())["settings"]
    model = json.loads(settings.Settings().model_dump_json(by_alias=True))
    for derived in ("namespaces", "priorityClassName", "metricsPort", "healthPort", "answersPort"):
        del model[derived]
    del model["lease"]["namespace"]
    assert chart == model


def test_who_may_ask_the_operator_has_a_role_of_his_own_that_nobody_is_given(render: Render) -> None:
    """The operator's snapshot names the jobs of all namespaces."""
    manifests = render()
    role = _one(manifests, "Role", "stowplan-user-answers")
    assert role["metadata"]["namespace"] == "stowplan-system"
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["create", "get"]},
    ]
    assert not any("aggregate" in label for label in role["metadata"]["labels"])
    bindings = _of(manifests, "RoleBinding", "ClusterRoleBinding")
    assert bindings
    assert all(one["roleRef"]["name"] != role["metadata"]["name"] for one in bindings)
    assert not _of(render({"userRoles": {"create": False}}), "Role")[1:]


def test_the_port_for_answers_is_in_no_service_and_no_network_policy(render: Render) -> None:
    """It is on the pod's loopback alone."""
    manifests = render()
    text = yaml.safe_load(_one(manifests, "ConfigMap")["data"]["settings.yaml"])
    assert text["answersPort"] == client.ANSWERS_PORT == settings.Settings().answers_port
    for one in _of(manifests, "Service", "NetworkPolicy", "Deployment"):
        assert str(client.ANSWERS_PORT) not in json.dumps(one)


def test_gangs_have_a_class_that_never_preempts(render: Render) -> None:
    one = _one(render(), "PriorityClass")
    assert one["metadata"]["name"] == settings.Settings().priority_class_name
    assert one["preemptionPolicy"] == "Never"
    assert one["value"] == 1000, "an integer, above pods without a class"
    assert one["globalDefault"] is False


def test_crds_are_kept_at_uninstall_unless_told_otherwise(render: Render) -> None:
    for kept in _of(render(), "CustomResourceDefinition"):
        assert kept["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    for one in _of(render({"crds": {"keep": False}}), "CustomResourceDefinition"):
        assert "annotations" not in one["metadata"]


def test_rendered_crds_are_those_in_the_repository(render: Render) -> None:
    rendered = {one["metadata"]["name"]: one["spec"] for one in _of(render(), "CustomResourceDefinition")}
    sources = [yaml.safe_load(path.read_text()) for path in crd_schema.FILES.values()]
    assert rendered == {source["metadata"]["name"]: source["spec"] for source in sources}


def test_switched_off_parts_are_not_rendered(render: Render) -> None:
    assert {one["kind"] for one in render(ALL_OFF)} == {
        *("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
        *("ConfigMap", "Deployment", "Service", "Pod"),
    }
    assert {one["kind"] for one in render(ALL_ON)} >= {"ServiceMonitor", "PrometheusRule", "NetworkPolicy"}


@every_case
def test_selectors_find_the_operators_pod_and_no_other(render: Render, values: Values) -> None:
    manifests = render(values)
    deployment = _one(manifests, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [deployment["selector"]["matchLabels"], _one(manifests, "Service")["spec"]["selector"]]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in _of(manifests, "NetworkPolicy")]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= _one(manifests, "Pod")["metadata"]["labels"].items()
    for monitor in _of(manifests, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= _one(manifests, "Service")["metadata"]["labels"].items()


@every_case
def test_objects_carry_the_charts_labels_and_a_place(render: Render, values: Values) -> None:
    cluster_wide = {"ClusterRole", "ClusterRoleBinding", "PriorityClass", "CustomResourceDefinition"}
    for one in render(values):
        assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        is_cluster_wide = one["kind"] in cluster_wide or one["kind"].startswith("ValidatingAdmissionPolicy")
        assert ("namespace" in one["metadata"]) != is_cluster_wide, one["kind"]


def test_operators_own_pods_do_not_look_like_training_pods(render: Render) -> None:
    labels = _one(render(ALL_ON), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert not any(key.startswith("stowplan.dev/") for key in labels)
    assert podspec.api.LABEL_MANAGED_BY not in labels


def test_policy_for_pods_names_the_operator_and_those_who_were_listed(render: Render) -> None:
    policy = _one(render(ALL_ON), "ValidatingAdmissionPolicy", "stowplan-pods")["spec"]
    assert policy["failurePolicy"] == "Fail"
    users, groups = (condition["expression"] for condition in policy["matchConditions"])
    assert '["system:serviceaccount:stowplan-system:stowplan","kubernetes-admin"]' in users
    assert '["platform"]' in groups
    binding = _one(render(ALL_ON), "ValidatingAdmissionPolicyBinding", "stowplan-pods")["spec"]
    (expression,) = binding["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert expression["values"] == NAMESPACES


def test_dashboard_and_alerts_ask_only_for_metrics_that_exist(render: Render) -> None:
    manifests = render(ALL_ON)
    dashboard = json.loads(_one(manifests, "ConfigMap", "stowplan-dashboard")["data"]["stowplan.json"])
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [rule["expr"] for rule in _one(manifests, "PrometheusRule")["spec"]["groups"][0]["rules"]]
    asked = {name for text in [*panels, *rules] for name in re.findall(r"stowplan_\w+", text)}
    assert {re.sub(r"_bucket$", "", name) for name in asked} <= METRICS
    assert {re.sub(r"_bucket$", "", name) for text in panels for name in re.findall(r"stowplan_\w+", text)} == METRICS


def test_the_operator_has_these_metrics() -> None:
    source = (apiserver.ROOT / "operator/stowplan_operator/metrics.py").read_text()
    assert set(re.findall(r'"(stowplan_\w+)"', source)) >= METRICS


def test_panels_do_not_overlap() -> None:
    dashboard = json.loads((apiserver.ROOT / "charts/stowplan/files/dashboard.json").read_text())
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
