"""The pages on the allocator name every reason, number, module and strategy that the code has."""

from __future__ import annotations

import pathlib
import re

import stowplan_allocator as sa

ROOT = pathlib.Path(__file__).parents[3]
PAGES = ("allocator", "making-room", "reasons")
TEXT = "\n".join((ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in PAGES)
SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "allocator/stowplan_allocator").glob("*.py")}


def test_every_reason_is_explained() -> None:
    assert not [reason.value for reason in sa.Reason if f"`{reason.value}`" not in TEXT]


def test_every_number_is_explained() -> None:
    used = set(re.findall(r'"(\w+)": ', SOURCES["reasons"])) | set(
        re.findall(r'numbers\["(\w+)"\]', SOURCES["reasons"])
    )
    assert {"pods_needed", "largest_free", "jobs_ahead"} <= used
    assert not [name for name in used if f"`{name}`" not in TEXT]


def test_every_module_is_listed() -> None:
    assert not [name for name in SOURCES if name not in {"__init__", "types", "words"} and f"`{name}`" not in TEXT]


def test_every_strategy_and_its_module_are_described() -> None:
    assert not [
        strategy.value for strategy in sa.Strategy if f"| `{strategy.value}`" not in TEXT.replace("`, `", "` | `")
    ]
    folder = ROOT / "allocator/stowplan_allocator/heuristics"
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    assert not [name for name in modules if f"heuristics.{name}`" not in TEXT.replace("`.", "`heuristics.")]
