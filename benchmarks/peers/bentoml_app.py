"""The same classifier behind BentoML: CLASSIFIER=folder WORKERS=2 bentoml serve bentoml_app:Peer

POST /predict takes {"input": …} (base64 or a text), POST /raw the bytes of a picture or a text.
"""

import os
from pathlib import Path

import bentoml

from flowerml import Classifier
from flowerml.serving.answer import answer_json

MODEL = {"name": "peer", "version": None}
Input = Path if os.environ["KIND"] == "image" else str


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 60})
class Peer:
    def __init__(self) -> None:
        self.classifier = Classifier.load(os.environ["CLASSIFIER"], threads=1)

    @bentoml.api
    def predict(self, input: str) -> dict:
        return self._answer(self.classifier.task.from_json(input))

    @bentoml.api
    def raw(self, input: Input, /) -> dict:
        return self._answer(input)

    def _answer(self, raw) -> dict:
        return answer_json(self.classifier.predict([raw])[0], MODEL)
