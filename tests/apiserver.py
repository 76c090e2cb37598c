"""A real API server for tests that need no pods: etcd and kube-apiserver as processes on loopback, ready in seconds.

What must stay true: everything lies in one temporary folder and listens on 127.0.0.1 only, on ports of the system's
choice; the processes end with the `with` block, by their own process ids. The controller manager and the scheduler are
started on request; without the controller manager no ServiceAccount tokens exist, so pods need none either.

By hand: `python tests/apiserver.py` starts one, installs the CRDs, and prints the KUBECONFIG to export until Ctrl-C.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRDS = ROOT / "crds"
ADMIN = "admin"
# ServiceAccounts: Stowplan's as the chart installs it, and one of Kubernetes' own controllers that make pods.
OPERATOR = "system:serviceaccount:stowplan-system:stowplan"
JOB_CONTROLLER = "system:serviceaccount:kube-system:job-controller"
START_TIMEOUT_SECONDS = 90.0
STOP_TIMEOUT_SECONDS = 10.0
KUBECTL_TIMEOUT_SECONDS = 60.0


def cache_dir() -> pathlib.Path:
    """The folder in which the Makefile keeps the programs that it builds."""
    if named := os.environ.get("STOWPLAN_CACHE"):
        return pathlib.Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or str(pathlib.Path.home() / ".cache")
    return pathlib.Path(base) / "stowplan"


def find_program(name: str) -> pathlib.Path:
    """A program from the cache's bin folder or from PATH; a LookupError says how to get it."""
    cached = cache_dir() / "bin" / name
    if cached.exists():
        return cached
    if found := shutil.which(name):
        return pathlib.Path(found)
    raise LookupError(f"{name} is neither at {cached} nor on PATH; run `make cluster`, which builds it")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a command answered."""

    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Both streams, for messages."""
        return self.stdout + self.stderr


@dataclasses.dataclass(frozen=True, kw_only=True)
class ApiServer:
    """A running API server, and kubectl for it."""

    url: str
    directory: pathlib.Path
    ca_file: pathlib.Path
    tokens: Mapping[str, str]
    kubectl_program: pathlib.Path

    def kubeconfig(self, user: str = ADMIN) -> pathlib.Path:
        """A kubeconfig file for one of the users that the server was started with."""
        return self.directory / f"{user.replace(':', '_')}.kubeconfig"

    def kubectl(self, *args: str, stdin: str | None = None, user: str = ADMIN, check: bool = False) -> Result:
        """Run kubectl; with `check`, a failure raises with kubectl's own words."""
        done = subprocess.run(
            [self.kubectl_program, "--kubeconfig", self.kubeconfig(user), *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=KUBECTL_TIMEOUT_SECONDS,
            check=False,
            env={**os.environ, "HOME": str(self.directory)},
        )
        result = Result(code=done.returncode, stdout=done.stdout, stderr=done.stderr)
        if check and result.code:
            raise AssertionError(f"kubectl {' '.join(args)} answered {result.code}: {result.text}")
        return result

    def apply(self, *manifests: dict[str, Any] | str) -> Result:
        """`kubectl apply` of manifests given as text or as objects."""
        texts = [m if isinstance(m, str) else yaml.safe_dump(m) for m in manifests]
        return self.kubectl("apply", "-f", "-", stdin="\n---\n".join(texts))

    def get(self, *args: str) -> Any:
        """`kubectl get ... -o json`, parsed."""
        return json.loads(self.kubectl("get", *args, "-o", "json", check=True).stdout)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str = ADMIN,
        content_type: str = "application/json",
    ) -> tuple[int, Any]:
        """One request without kubectl, in milliseconds: the HTTP status and the answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.tokens[user]}", "Content-Type": content_type}
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30, context=_trust(self.ca_file)) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def install_crds(self) -> None:
        """Install the CRDs and wait until their objects are served."""
        self.kubectl("apply", "-f", str(CRDS), check=True)
        names = [path.stem for path in sorted(CRDS.glob("*.yaml"))]
        crds = [f"crd/{name}.stowplan.dev" for name in names]
        self.kubectl("wait", "--for=condition=Established", *crds, "--timeout=30s", check=True)
        for name in names:
            wait_until(lambda name=name: self.kubectl("get", name, "-A").code == 0, what=f"{name} served")


def render_chart(*flags: str) -> str:
    """The chart's manifests as `helm install stowplan -n stowplan-system` would apply them, without the CRDs."""
    command = [find_program("helm"), "template", "stowplan", str(ROOT / "charts" / "stowplan"), "--no-hooks"]
    where = ["--namespace", "stowplan-system", "--kube-version", "1.36.3", "--set", "crds.enabled=false"]
    return subprocess.run([*command, *where, *flags], capture_output=True, text=True, check=True).stdout


def wait_until(condition: Any, *, what: str, timeout_seconds: float = 30.0, every_seconds: float = 0.1) -> None:
    """Poll until true; a TimeoutError names what was awaited."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_seconds:.0f} s: {what}")
        time.sleep(every_seconds)


@contextlib.contextmanager
def run(
    *,
    users: Mapping[str, Sequence[str]] | None = None,
    controller_manager: bool = False,
    scheduler: bool = False,
    with_crds: bool = False,
    flags: Sequence[str] = (),
) -> Iterator[ApiServer]:
    """Start the servers, yield when /readyz answers, and end them.

    `users` maps further user names to their groups; ADMIN is always there. `flags` go to kube-apiserver. With
    `with_crds` the CRDs are there before the controllers: the garbage collector looks for new kinds every 30 s only.
    """
    programs = {name: find_program(name) for name in ("etcd", "kube-apiserver", "kubectl")}
    with tempfile.TemporaryDirectory(prefix="stowplan-apiserver-") as name, contextlib.ExitStack() as stack:
        directory = pathlib.Path(name)
        etcd_port, peer_port, api_port = _free_ports(3)
        all_users = {ADMIN: ["system:masters"], **(users or {})}
        tokens = {user: secrets.token_hex(16) for user in all_users}
        (directory / "tokens.csv").write_text(
            "".join(f'{tokens[user]},"{user}",{user},"{",".join(groups)}"\n' for user, groups in all_users.items())
        )
        (directory / "service-account.key").write_text(_private_key())
        etcd_url, peer_url = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
        _start(
            stack,
            directory,
            programs["etcd"],
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        # Pods ask for a ServiceAccount's token, which only the controller manager makes.
        skipped = [] if controller_manager else ["--disable-admission-plugins=ServiceAccount"]
        process = _start(
            stack,
            directory,
            programs["kube-apiserver"],
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={api_port}",
            f"--cert-dir={directory / 'certificates'}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={directory / 'service-account.key'}",
            f"--service-account-signing-key-file={directory / 'service-account.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            *skipped,
            *flags,
        )
        server = ApiServer(
            url=f"https://127.0.0.1:{api_port}",
            directory=directory,
            ca_file=directory / "certificates" / "apiserver.crt",
            tokens=tokens,
            kubectl_program=programs["kubectl"],
        )
        wait_until(
            lambda: _is_ready(server, process), what="kube-apiserver ready", timeout_seconds=START_TIMEOUT_SECONDS
        )
        for user in all_users:
            server.kubeconfig(user).write_text(_kubeconfig(server, user))
        if with_crds:
            server.install_crds()
        extra = [("kube-controller-manager", controller_manager), ("kube-scheduler", scheduler)]
        for program in [program for program, wanted in extra if wanted]:
            _start_controller(stack, server, program)
        yield server


def _start_controller(stack: contextlib.ExitStack, server: ApiServer, program: str) -> None:
    (port,) = _free_ports(1)
    key = f"--service-account-private-key-file={server.directory / 'service-account.key'}"
    _start(
        stack,
        server.directory,
        find_program(program),
        f"--kubeconfig={server.kubeconfig()}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        *([key, f"--root-ca-file={server.ca_file}"] if program == "kube-controller-manager" else []),
    )


def _start(
    stack: contextlib.ExitStack, directory: pathlib.Path, program: pathlib.Path, *args: str
) -> subprocess.Popen[bytes]:
    log = stack.enter_context((directory / f"{program.name}.log").open("wb"))
    process = subprocess.Popen([program, *args], stdout=log, stderr=subprocess.STDOUT, cwd=directory)
    stack.callback(stop, process)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server, of whose state nothing is wanted afterwards: it needs no time to end well."""
    process.terminate()
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_SECONDS)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


def _is_ready(server: ApiServer, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        log = (server.directory / "kube-apiserver.log").read_text(errors="replace")
        raise RuntimeError(f"kube-apiserver ended with {process.returncode}; the end of its log:\n{log[-3000:]}")
    if not server.ca_file.exists():
        return False
    request = urllib.request.Request(
        f"{server.url}/readyz", headers={"Authorization": f"Bearer {server.tokens[ADMIN]}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=2, context=_trust(server.ca_file)):
            return True
    except (OSError, ssl.SSLError):
        return False


@functools.cache
def _trust(ca_file: pathlib.Path) -> ssl.SSLContext:
    trust = ssl.create_default_context(cafile=ca_file)
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return trust


def _kubeconfig(server: ApiServer, user: str) -> str:
    certificate = base64.b64encode(server.ca_file.read_bytes()).decode()
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": server.url, "certificate-authority-data": certificate}}
            ],
            "users": [{"name": user, "user": {"token": server.tokens[user]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user, "namespace": "default"}}],
            "current-context": "test",
        }
    )


def _private_key() -> str:
    """An ECDSA P-256 key in PEM, for signing ServiceAccount tokens.

    RFC 5915 leaves the public point optional, so the key is a random number in a fixed envelope:
    SEQUENCE { INTEGER 1, OCTET STRING key, [0] { OBJECT IDENTIFIER prime256v1 } }.
    """
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    key = (secrets.randbelow(order - 1) + 1).to_bytes(32, "big")
    body = bytes.fromhex("020101") + bytes.fromhex("0420") + key + bytes.fromhex("a00a06082a8648ce3d030107")
    text = base64.encodebytes(bytes([0x30, len(body)]) + body).decode().replace("\n", "")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN EC PRIVATE KEY-----", *lines, "-----END EC PRIVATE KEY-----", ""])


def main() -> int:
    """Run one until a signal comes."""
    started = time.monotonic()
    with run(controller_manager="--controllers" in sys.argv, scheduler="--controllers" in sys.argv) as server:
        server.install_crds()
        print(f"# ready after {time.monotonic() - started:.1f} s; ends with Ctrl-C")
        print(f"export KUBECONFIG={server.kubeconfig()}", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
