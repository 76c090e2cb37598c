"""``what-if submit`` has a real API server judge manifests, which keeps nothing of them."""

from __future__ import annotations

import pathlib

import pytest
import yaml

import apiserver
from stowplan_operator.cli import checking, manifests
from stowplan_operator.cli.client import Cluster, Target
from stowplan_operator.cli.exits import CliError

pytestmark = pytest.mark.apiserver
MANIFESTS = apiserver.ROOT / "tests" / "manifests"
JOBS = {
    folder: sorted(
        path
        for path in (MANIFESTS / folder).glob("*.yaml")
        if yaml.safe_load(path.read_text())["kind"] == "TrainingJob"
    )
    for folder in ("valid", "invalid")
}


async def judged(api: apiserver.ApiServer, path: pathlib.Path, *, user: str = apiserver.ADMIN) -> str:
    """What is said against the manifest; empty where it passes."""
    async with Cluster.open(Target(kubeconfig=str(api.kubeconfig(user)))) as cluster:
        try:
            await checking.by_cluster(manifests.read(str(path)), cluster)
        except CliError as error:
            return error.message
    return ""


@pytest.mark.parametrize("path", JOBS["valid"], ids=lambda path: path.stem)
async def test_a_right_manifest_passes_and_is_not_kept(api: apiserver.ApiServer, path: pathlib.Path) -> None:
    before = api.kubectl("get", "tj", "-A", "-o", "name", check=True).text
    assert await judged(api, path) == ""
    assert api.kubectl("get", "tj", "-A", "-o", "name", check=True).text == before


@pytest.mark.parametrize("path", JOBS["invalid"], ids=lambda path: path.stem)
async def test_a_wrong_manifest_is_refused_as_by_apply(api: apiserver.ApiServer, path: pathlib.Path) -> None:
    index = yaml.safe_load((MANIFESTS / "index.yaml").read_text())["invalid"]
    said = await judged(api, path)
    assert all(fragment in said for fragment in index[path.stem]["says"]), said


async def test_a_job_that_is_there_under_the_name_is_judged_all_the_same(
    api: apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    body = yaml.safe_load(JOBS["valid"][0].read_text())
    api.apply(body)
    try:
        assert await judged(api, JOBS["valid"][0]) == ""
        body["spec"]["numNodes"] = 0
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
        assert "spec.numNodes" in await judged(api, tmp_path / "job.yaml")
    finally:
        api.kubectl("delete", "tj", body["metadata"]["name"], check=True)


async def test_who_may_not_create_jobs_is_told_and_goes_on(
    api: apiserver.ApiServer, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await judged(api, JOBS["valid"][0], user=apiserver.OPERATOR) == ""
    assert "You may not create TrainingJobs in namespace default" in capsys.readouterr().err
