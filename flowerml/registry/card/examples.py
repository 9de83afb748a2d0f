"""Programs and commands that query a registered version, ready to run."""

import shlex
from dataclasses import dataclass

from flowerml.tasks.base import Task

PORT = 5001
CALL = f"curl -s http://127.0.0.1:{PORT}/invocations -H 'Content-Type: application/json' -d @-"


@dataclass(frozen=True)
class Examples:
    """One example for each way to ask for predictions; `curl` queries the server that `serve` starts."""

    python: str
    spark: str
    shell: str
    serve: str
    curl: str


def examples(task: Task, address: str) -> Examples:
    """Return the examples for a registered version of this task, given by its address, such as models:/flowers/3."""
    quoted = shlex.quote(address)
    snippets = task.snippets(address)
    return Examples(
        python=snippets.python,
        spark=snippets.spark,
        shell=f"flowerml predict {task.EXAMPLE_ARGUMENT} --model {quoted}",
        serve=f"mlflow models serve -m {quoted} --env-manager local --host 127.0.0.1 --port {PORT}",
        curl=f"{snippets.request}\n  {CALL}",
    )
