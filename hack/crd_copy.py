"""Copy crds/*.yaml into the chart, which can read only files below itself; `--check` only compares.

crds/ is the source and what people read; the chart's copy must never differ from it (a unit test runs the check).
"""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "crds"
COPY = ROOT / "charts" / "stowplan" / "files" / "crds"
HEADER = "# Generated from {source} by hack/crd_copy.py. Do not edit.\n"


def wanted() -> dict[str, str]:
    """File names and contents that the chart's folder must hold."""
    return {
        path.name: HEADER.format(source=f"crds/{path.name}") + path.read_text()
        for path in sorted(SOURCE.glob("*.yaml"))
    }


def drift() -> list[str]:
    """What differs between the source and the chart's copy, one sentence each."""
    want = wanted()
    have = {path.name: path.read_text() for path in COPY.glob("*.yaml")}
    return (
        [f"{name} is missing in the chart" for name in sorted(want.keys() - have.keys())]
        + [f"{name} is in the chart but not in crds/" for name in sorted(have.keys() - want.keys())]
        + [f"{name} differs" for name in sorted(want.keys() & have.keys()) if want[name] != have[name]]
    )


def write() -> None:
    """Make the chart's copy equal to the source."""
    want = wanted()
    COPY.mkdir(parents=True, exist_ok=True)
    for path in COPY.glob("*.yaml"):
        if path.name not in want:
            path.unlink()
    for name, content in want.items():
        (COPY / name).write_text(content)


def main(argv: list[str]) -> int:
    """Write, or with --check compare; 1 and the differences when the chart is behind."""
    if argv not in ([], ["--check"]):
        print("usage: crd_copy.py [--check]", file=sys.stderr)
        return 2
    if not argv:
        write()
        return 0
    differences = drift()
    for difference in differences:
        print(f"charts/stowplan/files/crds: {difference}; run hack/crd_copy.py", file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
