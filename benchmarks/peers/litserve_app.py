"""The same classifier behind LitServe: python litserve_app.py CLASSIFIER PORT WORKERS

POST /predict takes {"input": …} (base64 or a text), POST /raw the bytes of a picture or a text.
"""

import sys
from pathlib import Path
from typing import Annotated

import litserve
from fastapi import Depends, Request

from flowerml import Classifier
from flowerml.serving.answer import answer_json

MODEL = {"name": "peer", "version": None}


async def body(request: Request) -> bytes:
    return await request.body()


class Json(litserve.LitAPI):
    def __init__(self, folder: Path, path: str) -> None:
        super().__init__(api_path=path)
        self.folder = folder

    def setup(self, device) -> None:
        self.classifier = Classifier.load(self.folder, threads=1)

    def decode_request(self, request: Request):
        return self.classifier.task.from_json(request["input"])

    def predict(self, raw):
        return self.classifier.predict([raw])[0]

    def encode_response(self, prediction):
        return answer_json(prediction, MODEL)


class Raw(Json):
    def decode_request(self, request: Annotated[bytes, Depends(body)]):
        return request if self.classifier.kind == "image" else request.decode()


if __name__ == "__main__":
    folder, port, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    door = {"json": Json, "raw": Raw}[sys.argv[4]]
    server = litserve.LitServer(door(folder, "/predict"), accelerator="cpu", workers_per_device=workers, timeout=False)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
