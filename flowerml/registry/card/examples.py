"""Programs and commands that ask a registered version, ready to be run."""

import shlex
from dataclasses import dataclass

PORT = 5001
REVIEW = "A film to see twice."
CALL = f"curl -s http://127.0.0.1:{PORT}/invocations -H 'Content-Type: application/json' -d @-"

OF_A_PICTURE = """
import base64
from pathlib import Path

import mlflow
import pandas as pd

model = mlflow.pyfunc.load_model({address!r})
picture = base64.b64encode(Path("picture.jpg").read_bytes()).decode()
for answer in model.predict(pd.DataFrame({{"image": [picture]}}), params={{"top_k": 3}}):
    for candidate in answer["top"]:
        print(candidate["name"], candidate["probability"])
"""
OF_A_TEXT = """
import mlflow
import pandas as pd

model = mlflow.pyfunc.load_model({address!r})
table = pd.DataFrame({{"text": ["{review}"]}})
for answer in model.predict(table, params={{"top_k": 3}}):
    for candidate in answer["top"]:
        print(candidate["name"], candidate["probability"])
"""
SEND_A_PICTURE = """
(printf '{"dataframe_split": {"columns": ["image"], "data": [["'
 base64 < picture.jpg | tr -d '\\n'
 printf '"]]}}') |
"""
SEND_A_TEXT = """
echo '{"dataframe_split": {"columns": ["text"], "data": [["%s"]]}}' |
"""


@dataclass(frozen=True)
class Examples:
    """One for each door. A picture is read from `picture.jpg`; `curl` asks what `serve` has started."""

    python: str
    shell: str
    serve: str
    curl: str


def examples(kind: str, name: str, version: str) -> Examples:
    """How to ask a version of a registered model of this kind."""
    address = f"models:/{name}/{version}"
    quoted = shlex.quote(address)
    image = kind == "image"
    program = OF_A_PICTURE if image else OF_A_TEXT
    question = "picture.jpg" if image else shlex.quote(REVIEW)
    send = SEND_A_PICTURE if image else SEND_A_TEXT % REVIEW
    return Examples(
        python=program.format(address=address, review=REVIEW).strip(),
        shell=f"flowerml predict {question} --model {quoted}",
        serve=f"mlflow models serve -m {quoted} --env-manager local --host 127.0.0.1 --port {PORT}",
        curl=f"{send.strip()}\n  {CALL}",
    )
