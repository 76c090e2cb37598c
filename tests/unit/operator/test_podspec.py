"""What a job and its placement become: pods, Service, NetworkPolicy."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fakes.builders import GPU, JobBuilder, a_job
from stowplan_operator import api, podspec
from stowplan_operator.settings import Settings

MANIFESTS = pathlib.Path(__file__).resolve().parents[2] / "manifests" / "valid"
Json = dict[str, Any]

EVERYTHING = JobBuilder(
    {
        **yaml.safe_load((MANIFESTS / "everything.yaml").read_text()),
        "metadata": {"name": "everything", "namespace": "team", "uid": "uid-everything"},
    }
)


def pods_of(job: JobBuilder, *, settings: Settings | None = None) -> list[Json]:
    placement = job.body()["status"]["placement"]
    return list(podspec.build_pods(job.view(), job.parsed(), placement, settings=settings or Settings()).values())


def pod_of(job: JobBuilder) -> Json:
    return pods_of(job)[0]


def container_of(job: JobBuilder) -> Json:
    container: Json = pod_of(job)["spec"]["containers"][0]
    return container


def env_of(pod: Json) -> dict[str, str]:
    return {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}


def restricted_violations(spec: Json) -> Iterator[str]:
    """The Pod Security level ``restricted`` (Kubernetes 1.36), from its documentation."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    pod_context = spec.get("securityContext", {})
    if pod_context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    if pod_context.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if pod_context.get("runAsUser") == 0:
        yield "runAsUser"
    if pod_context.get("sysctls"):
        yield "sysctls"
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec.get("volumes", ()):
        if not volume.keys() - {"name"} <= kinds:
            yield f"volume {volume['name']}"
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False:
            yield "allowPrivilegeEscalation"
        if context.get("privileged"):
            yield "privileged"
        capabilities = context.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", ()):
            yield "capabilities.drop"
        if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield "capabilities.add"
        if any(port.get("hostPort") for port in container.get("ports", ())):
            yield "hostPort"
        if context.get("runAsNonRoot") is False or context.get("runAsUser") == 0:
            yield "runAsNonRoot of a container"


SHAPES: dict[str, JobBuilder] = {
    "the smallest job": a_job().gpus(0).placed_on("n1"),
    "a gang": a_job().placed_on("n1", "n2"),
    "a gang with checkpoints": a_job()
    .spec(checkpoint={"persistentVolumeClaim": "ckpt", "path": "/ckpt"})
    .placed_on("n1", "n2"),
    "every field of the CRD": EVERYTHING.placed_on(*["n1"] * 8),
}


@pytest.mark.parametrize("job", SHAPES.values(), ids=SHAPES)
def test_every_pod_satisfies_the_restricted_level(job: JobBuilder) -> None:
    for pod in pods_of(job):
        assert list(restricted_violations(pod["spec"])) == []


def test_the_checker_of_the_restricted_level_sees_what_is_wrong() -> None:
    root = pod_of(a_job().spec(podTemplate={"securityContext": {"runAsNonRoot": False, "runAsUser": 0}}).placed_on("n"))
    assert set(restricted_violations(root["spec"])) == {"runAsNonRoot", "runAsUser"}
    naked = {"containers": [{"name": "c"}], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}
    assert set(restricted_violations(naked)) == {
        "seccompProfile",
        "runAsNonRoot",
        "volume v",
        "allowPrivilegeEscalation",
        "capabilities.drop",
    }


@pytest.mark.parametrize("job", SHAPES.values(), ids=SHAPES)
def test_every_pod_is_pinned_owned_and_never_restarted_by_the_kubelet(job: JobBuilder) -> None:
    where = dict(podspec.ranks_by_node(job.body()["status"]["placement"]))
    for rank, pod in enumerate(pods_of(job)):
        spec, meta = pod["spec"], pod["metadata"]
        required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = required["nodeSelectorTerms"]
        assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [where[rank]]}]}
        assert "nodeName" not in spec, "kube-scheduler binds, and others keep their rights"
        assert (spec["restartPolicy"], spec["priorityClassName"]) == ("Never", "stowplan-gang")
        assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
        assert spec["hostname"] == meta["name"]
        (owner,) = meta["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == (api.KIND, job.body()["metadata"]["uid"], True)
        (container,) = spec["containers"]
        assert container["name"] == "trainer"
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert container["ports"] == [{"name": "metrics", "containerPort": 9400, "protocol": "TCP"}]


def test_labels_tell_job_attempt_and_rank() -> None:
    job = a_job("train").spec(podTemplate={"metadata": {"labels": {"team": "x", api.LABEL_RANK: "9"}}})
    labels = [pod["metadata"]["labels"] for pod in pods_of(job.placed_on("n1", "n2", attempt=4))]
    assert labels[1] == {
        "team": "x",
        "app.kubernetes.io/managed-by": "stowplan",
        "stowplan.dev/job": "train",
        "stowplan.dev/attempt": "4",
        "stowplan.dev/rank": "1",
    }


@pytest.mark.parametrize(
    ("num_pods", "want_first", "want_last"),
    [
        (1, "a-1-0", "a-1-0"),
        (2, "a-1-0", "a-1-1"),
        (10, "a-1-0", "a-1-9"),
        (11, "a-1-00", "a-1-10"),
        (101, "a-1-000", "a-1-100"),
        (4096, "a-1-0000", "a-1-4095"),
    ],
)
def test_names_sort_as_ranks_do(num_pods: int, want_first: str, want_last: str) -> None:
    names = [podspec.pod_name("a", 1, rank, num_pods) for rank in range(num_pods)]
    assert (names[0], names[-1]) == (want_first, want_last)
    assert sorted(names) == names, "c10d orders nodes by address as text"


def test_the_longest_name_is_a_host_name() -> None:
    assert len(podspec.pod_name("j" * 40, 9999, 4095, 4096)) <= 63


RANKS = {"0": [0], "0-3": [0, 1, 2, 3], "0-1,4": [0, 1, 4], "7,9-10": [7, 9, 10]}


@pytest.mark.parametrize(("text", "want"), RANKS.items())
def test_parse_ranks(text: str, want: list[int]) -> None:
    assert podspec.parse_ranks(text) == want


def test_ranks_follow_the_placement() -> None:
    placement = {"nodes": [{"name": "n2", "ranks": "0-1,4"}, {"name": "n1", "ranks": "2-3"}]}
    assert dict(podspec.ranks_by_node(placement)) == {0: "n2", 1: "n2", 4: "n2", 2: "n1", 3: "n1"}


def test_the_environment_of_a_gang() -> None:
    job = a_job("train").spec(
        checkpoint={"path": "/ckpt", "gracePeriodSeconds": 300}, startupTimeoutSeconds=900, numProcPerNode="auto"
    )
    first, second = pods_of(job.placed_on("n1", "n2", attempt=3))
    port = env_of(first)["PET_MASTER_PORT"]
    master = "train-3-0.train.team.svc"
    want = {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "4",
        "PET_NODE_RANK": "1",
        "PET_MASTER_ADDR": master,
        "PET_MASTER_PORT": port,
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{master}:{port}",
        "PET_RDZV_ID": "uid-train-a3",
        "PET_RDZV_CONF": "is_host=0,join_timeout=900,read_timeout=900",
        "PET_MAX_RESTARTS": "0",
        "PET_LOCAL_ADDR": "train-3-1.train.team.svc",
        "PET_SHUTDOWN_TIMEOUT": "300",
        "STOWPLAN_JOB": "train",
        "STOWPLAN_NAMESPACE": "team",
        "STOWPLAN_UID": "uid-train",
        "STOWPLAN_ATTEMPT": "3",
        "STOWPLAN_METRICS_PORT": "9400",
        "STOWPLAN_RUN_DIR": "/var/run/stowplan",
        "STOWPLAN_CHECKPOINT_DIR": "/ckpt",
    }
    assert env_of(second) == want
    changed = {"PET_NODE_RANK": "0", "PET_LOCAL_ADDR": master}
    changed["PET_RDZV_CONF"] = "is_host=1,join_timeout=900,read_timeout=900"
    assert env_of(first) == want | changed
    assert first["spec"]["subdomain"] == "train"


def test_a_job_of_one_pod_meets_on_localhost() -> None:
    pod = pod_of(a_job().placed_on("n1"))
    env = env_of(pod)
    assert env["PET_RDZV_ENDPOINT"] == f"localhost:{env['PET_MASTER_PORT']}"
    assert (env["PET_MASTER_ADDR"], env["PET_LOCAL_ADDR"], env["PET_NNODES"]) == ("localhost", "localhost", "1")
    assert "subdomain" not in pod["spec"], "no Service is made for it"
    assert "STOWPLAN_CHECKPOINT_DIR" not in env


def test_the_users_environment_comes_last() -> None:
    own = [{"name": "SEED", "value": "1"}, {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    env = container_of(a_job().spec(env=own).placed_on("n1"))["env"]
    assert env[-2:] == own
    assert len({one["name"] for one in env}) == len(env)


@pytest.mark.parametrize(("num_proc_per_node", "gpus", "want"), [("auto", 4, 4), ("auto", 0, 1), (2, 4, 2), (8, 0, 8)])
def test_processes_per_node(num_proc_per_node: int | str, gpus: int, want: int) -> None:
    spec = a_job().spec(numProcPerNode=num_proc_per_node).parsed()
    assert podspec.processes_per_node(spec, gpus) == want


def test_a_process_sees_one_slice_of_a_device() -> None:
    spec = a_job("a").spec(numProcPerNode="auto").parsed()
    assert podspec.processes_per_node(spec, 2, product="NVIDIA-A100-SXM4-40GB-MIG-1g.5gb") == 1
    assert podspec.processes_per_node(spec, 2, product="NVIDIA-A100-SXM4-40GB-SHARED") == 2


def test_the_rendezvous_port_is_random_by_job_and_attempt_and_stays_in_its_range() -> None:
    ports = {podspec.rendezvous_port(f"uid-{number}", attempt) for number in range(300) for attempt in range(1, 4)}
    assert min(ports) >= 20000
    assert max(ports) < 30000, "above lie node ports and ephemeral ports"
    assert len(ports) > 800
    assert podspec.rendezvous_port("u", 1) == podspec.rendezvous_port("u", 1)


SHARED_MEMORY: dict[str, tuple[JobBuilder, str]] = {
    "what the user says": (a_job().spec(sharedMemory="64Gi"), "64Gi"),
    "half of the pod's memory": (a_job().spec(resourcesPerNode={"memory": "16Gi"}), "8192Mi"),
    "2 GiB where no memory is asked for": (a_job(), "2048Mi"),
    "at most 64 GiB": (a_job().spec(resourcesPerNode={"memory": "900Gi"}), "65536Mi"),
    "never less than 64 MiB": (a_job().spec(resourcesPerNode={"memory": "100Mi"}), "64Mi"),
}


@pytest.mark.parametrize(("job", "want"), SHARED_MEMORY.values(), ids=SHARED_MEMORY)
def test_shared_memory(job: JobBuilder, want: str) -> None:
    pod = pod_of(job.placed_on("n1"))
    volume = next(one for one in pod["spec"]["volumes"] if one["name"] == "stowplan-shm")
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": want}
    assert {"name": "stowplan-shm", "mountPath": "/dev/shm"} in pod["spec"]["containers"][0]["volumeMounts"]


def test_requests_and_limits() -> None:
    amounts = {GPU: 8, "cpu": "64", "memory": "900Gi", "rdma/hca": "1"}
    resources = container_of(a_job().spec(resourcesPerNode=amounts).placed_on("n1"))["resources"]
    assert resources["requests"] == {GPU: "8", "cpu": "64", "memory": "900Gi", "rdma/hca": "1"}
    assert resources["limits"] == {GPU: "8", "memory": "900Gi", "rdma/hca": "1"}, "a CPU limit only throttles"


def test_only_jobs_with_accelerators_tolerate_the_taint_of_gpu_nodes() -> None:
    own = {"key": "team", "operator": "Exists"}
    with_gpus = pod_of(a_job().spec(tolerations=[own]).placed_on("n1"))["spec"]["tolerations"]
    assert with_gpus == [own, {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod_of(a_job().gpus(0).placed_on("n1"))["spec"]["tolerations"] == []


def test_checkpoints_are_mounted_where_their_path_says() -> None:
    pod = pod_of(a_job().spec(checkpoint={"persistentVolumeClaim": "pvc", "path": "/ckpt"}).placed_on("n1"))
    assert {"name": "stowplan-checkpoint", "mountPath": "/ckpt"} in pod["spec"]["containers"][0]["volumeMounts"]
    claim = {"name": "stowplan-checkpoint", "persistentVolumeClaim": {"claimName": "pvc"}}
    assert claim in pod["spec"]["volumes"]


def test_the_kubelet_waits_longer_than_torchrun() -> None:
    pod = pod_of(a_job().spec(checkpoint={"gracePeriodSeconds": 300}).placed_on("n1"))
    assert pod["spec"]["terminationGracePeriodSeconds"] == 315
    assert env_of(pod)["PET_SHUTDOWN_TIMEOUT"] == "300"


def test_every_field_of_the_crd_reaches_the_pod() -> None:
    (spec, *_), wanted = [pod["spec"] for pod in pods_of(EVERYTHING.placed_on(*["n1"] * 8))], EVERYTHING.body()["spec"]
    (container,) = spec["containers"]
    template = wanted["podTemplate"]
    for field in ("image", "imagePullPolicy", "command", "args"):
        assert container[field] == wanted[field]
    for field in ("nodeSelector", "serviceAccountName", "imagePullSecrets", "runtimeClassName"):
        assert spec[field] == wanted[field]
    assert all(one in spec["tolerations"] for one in wanted["tolerations"])
    assert all(one in container["env"] for one in wanted["env"])
    assert all(one in spec["volumes"] for one in template["volumes"])
    assert all(one in container["volumeMounts"] for one in template["volumeMounts"])
    given = {**spec["securityContext"], **container["securityContext"]}
    assert all(given[field] == value for field, value in template["securityContext"].items())
    meta = pod_of(EVERYTHING.placed_on(*["n1"] * 8))["metadata"]
    assert meta["labels"].items() >= template["metadata"]["labels"].items()
    assert meta["annotations"] == template["metadata"]["annotations"]


def test_the_same_job_always_gives_the_same_pods() -> None:
    job = EVERYTHING.placed_on(*["n1"] * 8)
    assert pods_of(job) == pods_of(job)


def test_the_settings_name_the_priority_class() -> None:
    (pod,) = pods_of(a_job().placed_on("n1"), settings=Settings(priority_class_name="mine"))
    assert pod["spec"]["priorityClassName"] == "mine"


def test_the_service_names_pods_before_they_are_ready() -> None:
    service = podspec.build_service(a_job("train").view())
    assert (service["kind"], service["metadata"]["name"]) == ("Service", "train")
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    labels = pod_of(a_job("train").placed_on("n1"))["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["metadata"]["ownerReferences"][0]["uid"] == "uid-train"


def test_the_network_policy_lets_in_the_gang_and_readers_of_metrics_only() -> None:
    policy = podspec.build_network_policy(a_job("train").view())
    selector = {"app.kubernetes.io/managed-by": "stowplan", "stowplan.dev/job": "train"}
    assert policy["spec"] == {
        "podSelector": {"matchLabels": selector},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": selector}}]},
            {"from": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 9400}]},
        ],
    }


def test_the_policy_of_a_namespace_closes_the_pods_of_all_its_jobs_but_for_metrics() -> None:
    policy = podspec.build_namespace_policy()
    pod = pod_of(a_job("train").placed_on("n1"))
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    metrics = [{"protocol": "TCP", "port": 9400}]
    assert policy["spec"]["ingress"] == [{"from": [{"namespaceSelector": {}}], "ports": metrics}]
    assert "." in policy["metadata"]["name"], "the name of no job, whose own policy has the job's name"


READ_ONLY: Json = {"securityContext": {"readOnlyRootFilesystem": True, "runAsUser": 1000}}


def test_a_read_only_root_is_the_containers_and_leaves_tmp_writable() -> None:
    spec = pod_of(a_job("train").spec(podTemplate=READ_ONLY).placed_on("n1"))["spec"]
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["securityContext"]["runAsUser"] == 1000
    assert "readOnlyRootFilesystem" not in spec["securityContext"], "a pod has no such field"
    assert {"name": "stowplan-tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert {"name": "stowplan-tmp", "emptyDir": {}} in spec["volumes"]


@pytest.mark.parametrize(
    "fields",
    [
        {"podTemplate": {**READ_ONLY, "volumeMounts": [{"name": "a", "mountPath": "/tmp"}]}},
        {"podTemplate": READ_ONLY, "checkpoint": {"persistentVolumeClaim": "c", "path": "/tmp"}},
    ],
    ids=["a user's volume", "the checkpoints"],
)
def test_what_is_mounted_at_tmp_already_stays(fields: Json) -> None:
    mounts = container_of(a_job("train").spec(**fields).placed_on("n1"))["volumeMounts"]
    assert [mount["name"] for mount in mounts if mount["mountPath"] == "/tmp"] != ["stowplan-tmp"]
    assert len({mount["mountPath"] for mount in mounts}) == len(mounts)


def test_a_pod_without_accelerators_is_given_none_by_its_image() -> None:
    """CUDA images set NVIDIA_VISIBLE_DEVICES=all."""
    without = pod_of(a_job("train").spec(resourcesPerNode={"cpu": 1}).placed_on("n1"))
    assert env_of(without)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "NVIDIA_VISIBLE_DEVICES" not in env_of(pod_of(a_job("train").placed_on("n1"))), "the device plugin sets it"


@pytest.mark.parametrize(
    ("ranks", "want"),
    [
        pytest.param([], "", id="none"),
        pytest.param([5], "5", id="one"),
        pytest.param([3, 1, 2, 7, 0, 7], "0-3,7", id="spans"),
        pytest.param(range(0, 9, 2), "0,2,4,6,8", id="every second"),
    ],
)
def test_format_ranks(ranks: list[int], want: str) -> None:
    assert podspec.format_ranks(ranks) == want
    assert podspec.finished_ranks({"finishedRanks": want}) == frozenset(ranks)
