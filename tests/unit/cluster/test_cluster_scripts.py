"""The cluster's scripts, as far as they can be tried without a cluster."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

REPO = pathlib.Path(__file__).parents[3]
CLUSTER = REPO / "cluster"
SCRIPTS = sorted(CLUSTER.rglob("*.sh"))


@pytest.fixture
def bash(tmp_path):
    """Runs a script with the cluster's functions, on a cache folder of its own."""

    def run(script: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"source {CLUSTER}/lib.sh\n{script}"],
            env=os.environ | {"STOWPLAN_CACHE": str(tmp_path)},
            text=True,
            capture_output=True,
            check=check,
        )

    return run


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(CLUSTER)))
def test_each_script_is_valid_bash(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", ["up.sh", "down.sh", "images.sh"])
def test_shellcheck_has_no_complaint(name):
    done = subprocess.run(
        ["shellcheck", "-x", f"cluster/{name}"], cwd=REPO, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_versions_in_the_scripts_are_those_of_the_go_module():
    modules = dict(re.findall(r"^\t(\S+) (v\S+)", (CLUSTER / "go/go.mod").read_text(), re.MULTILINE))
    versions = dict(re.findall(r"^(\w+_VERSION)=(\S+)", (CLUSTER / "versions.sh").read_text(), re.MULTILINE))
    assert versions == {
        "KUBERNETES_VERSION": modules["k8s.io/kubernetes"],
        "CONTAINERD_VERSION": modules["github.com/containerd/containerd/v2"],
        "HELM_VERSION": modules["helm.sh/helm/v3"],
        "KWOK_VERSION": modules["sigs.k8s.io/kwok"],
    }


def test_kind_has_one_control_plane_and_three_workers_on_two_racks(bash):
    config = yaml.safe_load(bash("kind_config").stdout)
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker", "worker", "worker"]
    workers = [node["labels"] for node in config["nodes"][1:]]
    assert [(w["nvidia.com/gpu.product"], w["topology.stowplan.dev/rack"]) for w in workers] == [
        ("NVIDIA-H100-80GB-HBM3", "r1"),
        ("NVIDIA-H100-80GB-HBM3", "r2"),
        ("NVIDIA-A100-SXM4-80GB", "r2"),
    ]
    assert {w["topology.kubernetes.io/zone"] for w in workers} == {"z1"}
    assert all(isinstance(value, str) for w in workers for value in w.values()), "labels are text"
    for node in config["nodes"]:
        assert {m["containerPath"] for m in node["extraMounts"]} == {"/var/stowplan-shared", "/var/stowplan-layers"}


@pytest.mark.parametrize(("version", "want"), [(1, False), (2, None)])
def test_the_kubelet_is_told_to_accept_cgroup_v1_only_where_it_is(bash, version, want):
    config = yaml.safe_load(bash(f"cgroup_version() {{ echo {version}; }}; kind_config").stdout)
    assert yaml.safe_load(config["kubeadmConfigPatches"][0]).get("failCgroupV1") is want


@pytest.mark.parametrize(("status", "want"), [(0, 1), (1, 0)])
def test_containerd_is_told_to_restrict_oom_scores_only_where_the_capability_is_missing(bash, status, want):
    config = yaml.safe_load(bash(f"lacks_sys_resource() {{ return {status}; }}; kind_config").stdout)
    patches = config.get("containerdConfigPatches", [])
    assert [tomllib.loads(patch) for patch in patches] == want * [
        {"plugins": {"io.containerd.grpc.v1.cri": {"restrict_oom_score_adj": True}}}
    ]


def test_kwok_nodes_are_distinct_and_sixteen_to_a_rack(bash):
    nodes = [node for node in yaml.safe_load_all(bash("kwok_nodes 40").stdout) if node]
    assert len({node["metadata"]["name"] for node in nodes}) == 40
    racks = [node["metadata"]["labels"]["topology.stowplan.dev/rack"] for node in nodes]
    assert {rack: racks.count(rack) for rack in racks} == {"k000": 16, "k001": 16, "k002": 8}
    assert all(node["status"]["allocatable"]["nvidia.com/gpu"] == "8" for node in nodes)


def test_manifests_use_only_images_that_are_built_here(bash):
    built = set(bash('echo "$GPU_MOCK_IMAGE" "$PROMETHEUS_IMAGE" "$KWOK_IMAGE"').stdout.split())
    used = set()
    for name in ("gpu-mock", "prometheus", "storage", "kwok"):
        for document in yaml.safe_load_all((CLUSTER / f"manifests/{name}.yaml").read_text()):
            template = document.get("spec", {}).get("template")
            if template:
                used |= {container["image"] for container in template["spec"]["containers"]}
    assert used == built


def test_a_layers_chain_id_hashes_the_chain_below_it(bash):
    first, second = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    lines = bash(f"docker() {{ echo {first} {second}; }}; layer_chains any").stdout.splitlines()
    chain = hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    assert lines == [f"{first} {first}", f"{second} sha256:{chain}"]


STEP = 'export RUNS=$CACHE/runs; build() { echo run >>"$RUNS"; echo "$RESULT" >"$OUT/result"; }; export -f build; '


class TestStep:
    def test_the_same_inputs_run_it_once_and_other_inputs_again(self, bash, tmp_path):
        for given in ("one", "one", "two"):
            bash(f"{STEP} export RESULT={given}; step demo text {given} -- build")
            assert (tmp_path / "build/demo/current/result").read_text() == f"{given}\n"
        assert (tmp_path / "runs").read_text() == "run\nrun\n"

    def test_a_changed_file_among_the_inputs_runs_it_again(self, bash, tmp_path):
        for content in ("one", "two"):
            (tmp_path / "input").write_text(content)
            bash(f"{STEP} export RESULT=x; step demo text $CACHE/input -- build")
        assert (tmp_path / "runs").read_text() == "run\nrun\n"

    def test_a_failed_one_leaves_no_result_and_says_where_its_log_is(self, bash, tmp_path):
        done = bash(
            'build() { touch "$OUT/half"; false; touch "$OUT/rest"; }; export -f build; step demo text -- build',
            check=False,
        )
        assert done.returncode == 1
        assert f"text failed; the whole log is {tmp_path}/logs/demo.log" in done.stderr
        assert list((tmp_path / "build/demo").iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
@pytest.mark.parametrize(
    "command",
    ["test ./internal/gpus ./cmd/runcaps ./cmd/podnet", "vet ./cmd/runcaps ./cmd/pause ./internal/gpus ./cmd/podnet"],
)
def test_go(command):
    subprocess.run(["go", *command.split()], cwd=CLUSTER / "go", check=True)
