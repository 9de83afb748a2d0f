"""The pages of docs/reference that are made from the code: `python -m docsite` writes them, a test compares them."""

from collections.abc import Callable

from docsite.reference import cli, findings, http, metrics, params

MADE: dict[str, Callable[[], str]] = {
    "cli.md": cli.page,
    "params.md": params.page,
    "findings.md": findings.page,
    "metrics.md": metrics.page,
    "http.md": http.page,
}
