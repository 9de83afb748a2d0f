"""docs/reference/findings.md: what the data checks report, as `flowerml.data.findings` has it."""

from collections import Counter

from docsite.reference.tables import COMMENT, code, join, table
from flowerml.data.findings import KINDS, MAX_GROUPS, SEVERITIES


def page() -> str:
    """Return the page."""
    counts = Counter(kind.severity for kind in KINDS.values())
    return join(
        COMMENT,
        "# Findings",
        f"`flowerml check` and the pipeline report {len(KINDS)} kinds of findings. `data.checks.fail_on` in "
        "`params.yaml` and `flowerml check --fail-on` take their names or a severity, and stop at them. `checks.json` "
        f"and `encoded_checks.json` list up to {MAX_GROUPS:,} groups of each, the worst first.",
        *(_section(severity, counts[severity]) for severity in SEVERITIES),
    )


def _section(severity: str, count: int) -> str:
    rows = [
        [code(name), _sentence(kind.statement), _sentence(kind.remedy)]
        for name, kind in KINDS.items()
        if kind.severity == severity
    ]
    title = f"## {severity.capitalize()}s"
    return join(title, table(["finding", "meaning", "what to do"], rows)) if count else ""


def _sentence(statement: str) -> str:
    """Return a statement about "{count} pictures" or "{count} texts" as one about any number of them."""
    text = statement.replace("{count}", "Examples" if "class" not in statement else "Examples or classes")
    return text[:1].upper() + text[1:]
