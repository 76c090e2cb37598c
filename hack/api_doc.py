"""Write docs/api.md and docs/api-queue.md, the field references, from the CRDs; `--check` only compares.

The CRDs' descriptions are the one place where a field is explained; kubectl explain and these pages both show them.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXED = " Fixed while placed."
JOBS_HEAD = """# TrainingJob, field by field

<!-- Generated from crds/trainingjobs.yaml by hack/api_doc.py. Do not edit. -->

`stowplan.dev/v1alpha1`, kind `TrainingJob`, short name `tj`, namespaced. The same text is in `kubectl explain tj.spec`.

Names have at most 40 characters: lower-case letters, digits and `-`, beginning with a letter, because pods are named
`NAME-ATTEMPT-RANK` and the job's Service has the job's name.

**Changes.** *placed*: fixed while the status holds a placement. It changes before the job is placed and while it is
suspended: set `spec.suspend` to true, wait for phase Suspended, change it, set `spec.suspend` to false. *any time*:
changes at any time. Fields of an object follow the object. `kubectl scale tj NAME --replicas N` writes `spec.numNodes`.

A wrong value is refused by `kubectl apply` with the field's name and what to write instead. Unknown fields are refused
by kubectl too; other clients must ask for strict field validation, or the API server drops them without a word.
"""
QUEUES_HEAD = """# Queue, field by field

<!-- Generated from crds/queues.yaml by hack/api_doc.py. Do not edit. -->

`stowplan.dev/v1alpha1`, kind `Queue`, short name `q`, cluster-scoped. The same text is in `kubectl explain q.spec`.
What queues are for, with examples: [queues.md](queues.md).

Names are those of TrainingJobs' `spec.queue`: at most 63 lower-case letters, digits and `-`. All fields change at any
time; running jobs keep their places, but for those past a new `limits.runSeconds`, which end as `Failed`.
"""


def kind_of(schema: dict[str, Any]) -> str:
    """The type in a word or two."""
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity" if "default" not in schema else "number or text"
    if schema["type"] == "array":
        return f"list of {kind_of(schema['items'])}"
    if schema["type"] == "object":
        values = schema.get("additionalProperties")
        return f"map to {kind_of(values)}" if isinstance(values, dict) else "object"
    if schema.get("format") == "date-time":
        return "time"
    return {"string": "text", "integer": "number", "boolean": "true or false"}[schema["type"]]


def default_of(schema: dict[str, Any], *, is_required: bool) -> str:
    """The default, or that a value is needed."""
    if is_required:
        return "required"
    default = schema.get("default")
    if default is None or default == {}:
        return ""
    if isinstance(default, list):
        return f"`[{', '.join(default)}]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def rows(schema: dict[str, Any], path: str, *, changes: str) -> list[list[str]]:
    """Rows of the table for all fields below a schema."""
    found = []
    for name, child in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        text = " ".join(child["description"].split())
        own = changes
        if changes and not path:
            own = "placed" if text.endswith(FIXED.strip()) else "any time"
        text = text.removesuffix(FIXED).replace("|", r"\|").replace("*", r"\*")
        required = name in schema.get("required", ())
        found.append([f"`{below}`", kind_of(child), default_of(child, is_required=required), text, own])
        items = child.get("items", {})
        found += rows(child, below, changes=own)
        found += rows(items, f"{below}[]", changes=own)
    return found


def table(heads: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    parts = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(part) + " |" for part in parts) + "\n"


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of docs/ and the CRD that it is made from; ``is_fixed`` where some fields are fixed while placed."""

    name: str
    crd: str
    head: str
    is_fixed: bool

    @property
    def path(self) -> pathlib.Path:
        """Where it lies."""
        return ROOT / "docs" / self.name


PAGES = (
    Page("api.md", "trainingjobs.yaml", JOBS_HEAD, is_fixed=True),
    Page("api-queue.md", "queues.yaml", QUEUES_HEAD, is_fixed=False),
)


def text_of(page: Page) -> str:
    """The whole page."""
    crd = yaml.safe_load((ROOT / "crds" / page.crd).read_text())["spec"]
    version = crd["versions"][0]
    fields = version["schema"]["openAPIV3Schema"]["properties"]
    headings = ["field", "type", "default", "meaning", *(["changes"] if page.is_fixed else [])]
    spec = [row[: len(headings)] for row in rows(fields["spec"], "", changes="?")]
    status = [[name, kind, text] for name, kind, _, text, _ in rows(fields["status"], "", changes="")]
    columns = [
        [column["name"].upper(), f"`{column['jsonPath']}`", "wide" if column.get("priority") else ""]
        for column in version["additionalPrinterColumns"]
    ]
    return "\n".join(
        [
            page.head,
            "## spec\n",
            table(headings, spec),
            "## status\n",
            "Written by the operator only.\n",
            table(["field", "type", "meaning"], status),
            f"## Columns of `kubectl get {crd['names']['shortNames'][0]}`\n",
            table(["column", "from", "shown"], columns),
        ]
    )


def main(argv: list[str]) -> int:
    """Write the pages, or with --check compare them."""
    if argv not in ([], ["--check"]):
        print("usage: api_doc.py [--check]", file=sys.stderr)
        return 2
    if not argv:
        for page in PAGES:
            page.path.write_text(text_of(page))
        return 0
    old = [page for page in PAGES if not page.path.exists() or page.path.read_text() != text_of(page)]
    for page in old:
        print(f"docs/{page.name} differs from crds/{page.crd}; run hack/api_doc.py", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
