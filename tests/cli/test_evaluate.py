"""`flowerml evaluate`, for saved, registered and served classifiers."""

import json
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.core.errors import InputError, ModelError
from flowerml.data.examples import Examples
from flowerml.serving.client import Endpoint
from flowerml.tasks.registry import TASKS

FLOWERS, REVIEWS = "models/flowers/classifier", "models/reviews/classifier"


@pytest.fixture
def project(reproduced, monkeypatch):
    monkeypatch.chdir(reproduced.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{reproduced.folder}/mlflow.db")
    return reproduced.folder


@pytest.fixture
def endpoint(reviews_served):
    return reviews_served.address


@pytest.fixture
def pictures(reproduced, tmp_path):
    """Write the pictures of the test split to class folders, without splits, and a broken one."""
    folder = tmp_path / "pictures"
    for example in Examples(reproduced.folder / "data/flowers/examples.parquet").of("test"):
        (folder / example.label).mkdir(parents=True, exist_ok=True)
        (folder / example.label / f"{example.digest[:8]}.jpg").write_bytes(example.raw)
    (folder / "rose" / "broken.jpg").write_bytes(b"no picture")
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def evaluate(*arguments):
    result = run("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def reported(name):
    return json.loads(Path("reports", name, "metrics.json").read_text())


def served_metrics(metrics):
    """Return the metrics that can be measured on a served model: without those before calibration."""
    return {name: value for name, value in metrics.items() if name not in ("intervals", "ece_uncalibrated")}


def test_metrics_equal_the_report(project):
    metrics = evaluate(FLOWERS, "data/flowers/examples.parquet")
    assert {name: metrics[name] for name in reported("flowers")} == pytest.approx(reported("flowers"), abs=1e-6)
    limits = json.loads(Path("reports/flowers/intervals.json").read_text())["intervals"]
    assert metrics["intervals"]["loss"] == pytest.approx(limits["loss"], abs=1e-6)
    assert (metrics["examples"], metrics["left_out"], metrics["split"]) == (20, 0, "test")


def test_broken_pictures_are_skipped(project, pictures):
    metrics = evaluate(FLOWERS, pictures)
    assert metrics["accuracy"] == pytest.approx(reported("flowers")["accuracy"])
    assert (metrics["examples"], metrics["left_out"], metrics["split"]) == (20, 1, "all")
    assert "rose/broken.jpg: not a picture" in run("evaluate", FLOWERS, pictures).stderr


def test_limit_per_class(project):
    assert evaluate(FLOWERS, "data/flowers/archive", "--split", "all", "--limit", 3)["examples"] == 30


def test_served_and_saved_agree(project, endpoint):
    offline = served_metrics(evaluate(REVIEWS, "data/reviews/archive", "--split", "all"))
    assert offline["examples"] == 120
    address = endpoint.removesuffix("/invocations")
    served = served_metrics(evaluate(address, "data/reviews/archive", "--split", "all", "--batch-size", 50))
    assert served == pytest.approx(offline)
    assert served_metrics(evaluate(endpoint, "data/reviews/examples.parquet")) == pytest.approx(
        served_metrics(evaluate("models:/reviews/1", "data/reviews/examples.parquet"))
    )


def test_served_pictures_equal_the_report(project, flowers_served):
    metrics = evaluate(flowers_served.address, "data/flowers/examples.parquet")
    assert served_metrics(metrics) == pytest.approx(served_metrics({**metrics, **reported("flowers")}), abs=1e-5)


def test_endpoint_reports_each_row(endpoint):
    good, empty, again = Endpoint(endpoint, TASKS["text"], rows=2).answers(["A film.", " ", "A film."])
    assert isinstance(empty, InputError) and empty.code == "empty_text"
    assert good == again and sum(good.probabilities.values()) == pytest.approx(1)


def test_model_of_another_kind(project, endpoint, pictures):
    result = run("evaluate", endpoint, pictures)
    assert result.exit_code == 1
    assert "answered with 400" in result.stderr and "missing inputs" in result.stderr
    assert result.stderr.count("error:") == 1 and len(result.stderr) < 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([REVIEWS, "data/flowers/archive"], "no examples found"),
        ([FLOWERS, "data/flowers/examples.parquet", "--split", "all"], None),
        ([FLOWERS, "data/flowers/archive", "--split", "train"], "no examples of the split train; it has no splits"),
        ([FLOWERS, "nowhere"], "nowhere: does not exist"),
        (["nowhere", "data/flowers/archive"], "nowhere: does not exist"),
        (["http://", "data/flowers/archive"], "is not the address of a server"),
        (["http://127.0.0.1:1", "data/flowers/archive"], "cannot be reached (Connection refused)"),
        (["http://127.0.0.1:1", "nowhere"], "nowhere: does not exist"),
    ],
)
def test_error_is_one_line(project, arguments, message):
    result = run("evaluate", *arguments)
    assert result.exit_code == (1 if message else 0)
    assert (message or "") in result.stderr and "Traceback" not in result.output


def test_unknown_labels_are_refused(project, pictures):
    (pictures / "rose").rename(pictures / "thistle")
    result = run("evaluate", FLOWERS, pictures)
    assert result.exit_code == 1
    assert "1 of the 10 labels of the data are not classes of this classifier (thistle)" in result.stderr


def test_mixed_data_need_a_kind(project, tmp_path):
    for name in ("a/1.jpg", "a/1.txt", "b/2.jpg", "b/2.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    result = run("evaluate", "http://127.0.0.1:1", tmp_path)
    assert "2 of kind image, 2 of kind text" in result.stderr and "--kind" in result.stderr


@contextmanager
def answering(reply, headers=MappingProxyType({})):
    """Yield the address of a server that answers request number n with `reply(n, rows)`: status and body."""
    count = iter(range(1000))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["dataframe_split"]["data"]
            status, body = reply(next(count), rows)
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            with suppress(BrokenPipeError):  # the client has given up
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


TOP = [{"label": "a", "name": "A", "probability": 0.75}, {"label": "b", "name": "B", "probability": 0.25}]


def answer_all(number, rows):
    return 200, {"predictions": [{"top": TOP} for _ in rows]}


def ask(address, count=3, **options):
    return list(Endpoint(address, TASKS["text"], **options).answers(["text"] * count))


def test_rows_go_in_batches():
    sizes = []

    def reply(number, rows):
        sizes.append(len(rows))
        return answer_all(number, rows)

    with answering(reply) as address:
        assert len(ask(address, 1100)) == 1100
    assert sizes == [512, 512, 76]


def test_unavailable_server_is_retried():
    with answering(lambda number, rows: (503, "") if number < 2 else answer_all(number, rows)) as address:
        assert len(ask(address)) == 3


def test_known_field_is_optional():
    predictions = [{"top": TOP, "known": True}, {"top": TOP, "known": False}, {"top": TOP}]
    with answering(lambda number, rows: (200, {"predictions": predictions})) as address:
        assert [answer.known for answer in ask(address)] == [True, False, None]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (500, "<html>boom</html>", "answered with 500 Internal Server Error; its log says more"),
        (400, {"message": "Failed. Error: Model is missing inputs"}, "Bad Request: Model is missing inputs"),
        (200, "not JSON", "not as a model that flowerml exported"),
        (200, {"predictions": []}, "not as a model that flowerml exported"),
        (200, {"predictions": [0.5, 0.5, 0.5]}, "not as a model that flowerml exported"),
        (200, {"predictions": [{"top": [{"label": "a"}]}] * 3}, "not as a model that flowerml exported"),
        (200, {"predictions": [{"top": TOP, "known": "yes"}] * 3}, "not as a model that flowerml exported"),
    ],
)
def test_invalid_answer_is_one_line(status, body, message):
    with answering(lambda number, rows: (status, body)) as address, pytest.raises(ModelError) as raised:
        ask(address)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_redirect_is_not_followed():
    received = []
    with (
        answering(lambda number, rows: received.append(rows) or answer_all(number, rows)) as stranger,
        answering(lambda number, rows: (307, ""), {"Location": f"{stranger}/invocations?key=secret"}) as address,
        pytest.raises(ModelError, match=r"redirects to http://127.*/invocations\?…; give that address if"),
    ):
        ask(address)
    assert received == []


def test_slow_server_times_out():
    def slow(number, rows):
        time.sleep(1)
        return answer_all(number, rows)

    with answering(slow) as address, pytest.raises(ModelError, match=r"no answer within 0\.2 s to 3 rows"):
        ask(address, seconds=0.2)


def test_server_error_is_no_input_error():
    endpoint = Endpoint("http://127.0.0.1:5001", TASKS["text"])
    error = {"code": "out_of_time", "message": "only 5 of 10 rows could be answered in time"}
    with pytest.raises(ModelError, match=r"only 5 of 10 rows could be answered in time; try fewer rows in a request"):
        endpoint._answer({"error": error})
