"""Rules of the repository that no linter knows."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_BYTES = 1_000_000
MAX_LINES = 450
KUBERNETES_LIMIT = 256 * 1024
PACKAGES = (
    "operator/stowplan_operator",
    "allocator/stowplan_allocator",
    "trainer-image/stowplan_trainer",
)
# Addresses of package registries and paths of one machine do not belong in a repository that others clone.
FOREIGN = re.compile(
    r"(?<![\w.-])/(?:root/\.(?:cache|pyenv)|work/(?:main|shared))\b|https?://(?:pypi\.org/simple|proxy\.golang\.org|registry\.npmjs)"
)
TEXTS = {"", ".md", ".mk", ".py", ".sh", ".toml", ".yaml"}
GENERATED = ("requirements/", "LICENSE", "charts/stowplan/files/")


def tracked() -> list[pathlib.Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("this is not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def relative(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_folder_operator_does_not_hide_the_standard_library() -> None:
    """Even where the repository is the first place that Python looks."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    probe = [sys.executable, "-c", "import operator, sys; print(sys.path[0] or '.', operator.add(1, 2))"]
    found = subprocess.run(probe, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == [".", "3"]


def test_tests_do_not_put_the_repository_on_the_path() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert options["pythonpath"] == ["tests"]
    assert "--import-mode=importlib" in options["addopts"]


@pytest.mark.parametrize("package", PACKAGES)
def test_only_packages_hold_an_init(package: str) -> None:
    assert (ROOT / package / "__init__.py").exists()
    assert not (ROOT / package).parent.joinpath("__init__.py").exists()


def test_ci_runs_exactly_the_test_command_of_the_readme() -> None:
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test"]
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"^\s*make test\b", readme, re.MULTILINE) or "`make test`" in readme
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_no_file_is_larger_than_a_clone_should_carry() -> None:
    too_large = [relative(path) for path in tracked() if path.stat().st_size > MAX_BYTES]
    assert too_large == []


def test_no_module_is_longer_than_one_sitting_can_read() -> None:
    long = {
        relative(path): lines
        for path in tracked()
        if path.suffix == ".py"
        and not relative(path).startswith("tests/")
        and (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


def test_every_crd_fits_into_an_annotation_and_the_api_server() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "crds").glob("*.yaml")}
    assert sizes
    assert all(size < KUBERNETES_LIMIT for size in sizes.values()), sizes


def test_every_module_says_why_it_exists() -> None:
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    silent = [relative(path) for path in modules if not ast.get_docstring(ast.parse(path.read_text()))]
    assert len(modules) > 40
    assert silent == []


def test_no_file_names_a_place_that_only_one_machine_has() -> None:
    found = []
    for path in tracked():
        if relative(path).startswith(GENERATED) or path == pathlib.Path(__file__):
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{relative(path)}: {match.group()}" for match in FOREIGN.finditer(text)]
    assert found == []


def pages() -> dict[pathlib.Path, str]:
    return {path: path.read_text() for path in tracked() if path.suffix == ".md"}


def anchors(page: str) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_between_pages_leads_somewhere() -> None:
    texts = pages()
    dead = []
    for path, text in texts.items():
        for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text):
            name, _, anchor = target.partition("#")
            to = (path.parent / name).resolve() if name else path
            if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(texts[to])):
                dead.append(f"{relative(path)}: {target}")
    assert dead == []


def test_every_file_that_is_named_by_its_path_exists() -> None:
    """In pages, comments and scripts alike, by the path from the root."""
    folders = "|".join({relative(path).split("/")[0] for path in tracked() if path.parent != ROOT} - {".ci"})
    named = re.compile(rf"(?<![\w/.$}}~*-])((?:{folders})/[\w./-]*\w\.\w+)")
    found = {
        (relative(path), name)
        for path in tracked()
        if not relative(path).startswith(GENERATED) and path.suffix in TEXTS
        for name in named.findall(path.read_text())
    }
    assert len(found) > 100
    assert sorted((path, name) for path, name in found if not (ROOT / name).exists()) == []


def test_no_merge_is_left_half_done() -> None:
    marker = re.compile(rb"^(<<<<<<<|>>>>>>>) \S", re.MULTILINE)
    assert [relative(path) for path in tracked() if marker.search(path.read_bytes())] == []
