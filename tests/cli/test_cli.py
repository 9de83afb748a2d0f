"""`flowerml predict`, `info` and `models`, as a person or a program calls them."""

import io
import json
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from flowerml import Classifier
from flowerml.cli.app import app
from flowerml.data.examples import Examples
from flowerml.serving.answer import answer_json
from flowerml.serving.version import model_json

FLOWERS, REVIEWS = "models/flowers/classifier", "models/reviews/classifier"
COMMANDS = (
    "check",
    "backbones",
    "train",
    "predict",
    "score",
    "evaluate",
    "compare",
    "models",
    "info",
    "promote",
    "rollback",
    "reproduce",
    "web",
)


@pytest.fixture
def project(reproduced, monkeypatch):
    """Return the folder of the reproduced project, which commands run in."""
    monkeypatch.chdir(reproduced.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{reproduced.folder}/mlflow.db")
    return reproduced.folder


@pytest.fixture(scope="module")
def pictures(reproduced, tmp_path_factory):
    """Return a folder of five pictures, one of them in a subfolder."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "below").mkdir()
    examples = list(Examples(reproduced.folder / "data/flowers/examples.parquet").of("test"))
    for number, example in enumerate(examples[:5]):
        (folder / ("below" if number == 4 else "") / f"{number}.jpg").write_bytes(example.raw)
    return folder


def run(*arguments, input=None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def start(*arguments, **options):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "flowerml", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_answer_is_the_classifiers(project, pictures):
    result = run("predict", pictures / "0.jpg", "--json", "--top-k", 3)
    (answer,) = lines(result)
    classifier = Classifier.load(FLOWERS)
    (expected,) = classifier.predict([pictures / "0.jpg"], top_k=3)
    assert answer == {"input": str(pictures / "0.jpg"), **answer_json(expected, model_json(classifier))}
    assert result.exit_code == 0


def test_folders_and_globs(project, pictures):
    names = [answer["input"] for answer in lines(run("predict", pictures, "--json"))]
    assert names == [str(pictures / name) for name in ("0.jpg", "1.jpg", "2.jpg", "3.jpg", "below/4.jpg")]
    assert [answer["input"] for answer in lines(run("predict", pictures / "*", "--json"))] == names
    names = [answer["input"] for answer in lines(run("predict", pictures / "[12].jp*", "--json"))]
    assert names == [str(pictures / "1.jpg"), str(pictures / "2.jpg")]


def test_stdin_is_a_picture_or_a_text(project, pictures):
    (picture,) = lines(run("predict", "-", "--json", input=(pictures / "0.jpg").read_bytes()))
    (named,) = lines(run("predict", pictures / "0.jpg", "--json"))
    assert picture == {**named, "input": "-"}
    (text,) = lines(run("predict", "-", "--json", input="A wonderful film."))
    assert {candidate["name"] for candidate in text["top"]} == {"positive", "negative"}


def test_texts_from_files_and_arguments(project, tmp_path):
    (tmp_path / "review.txt").write_bytes("Très bon, a wonderful film.".encode("cp1252"))
    texts = ["Is it **good**? [Yes.]", "a very long text " * 1000]
    answers = lines(run("predict", *texts, tmp_path / "review.txt", "--json"))
    expected = Classifier.load(REVIEWS).predict([*texts, "Très bon, a wonderful film."])
    assert [answer["top"] for answer in answers] == [prediction.to_json()["top"] for prediction in expected]
    assert [answer["input"] for answer in answers[:2]] == texts


def test_unreadable_inputs_are_reported(project, pictures, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    asked = [tmp_path / "broken.jpg", pictures / "0.jpg", tmp_path / "none.jpg", tmp_path]
    result = run("predict", *asked[:3], "--json")
    codes = [answer["error"]["code"] for answer in lines(result)]
    assert codes == ["unreadable_image", None, "no_such_file"]
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == 2
    assert run("predict", *asked[:3]).stdout.count("0.jpg") == 1


def test_empty_text_is_an_error(project):
    result = run("predict", "", "--model", REVIEWS, "--json")
    assert [answer["error"]["code"] for answer in lines(result)] == ["empty_text"]


def test_category_names_in_the_table(project, pictures, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps(dict.fromkeys(["rose", "tulip"], "[red]Rose[/]")))
    result = run("predict", pictures / "0.jpg", "--top_k", 10, "--category_names", tmp_path / "names.json")
    assert result.stdout.count("[red]Rose[/]") == 2
    assert "%" in result.stdout
    (tmp_path / "names.json").write_text('{"1": "other"}')
    wrong = run("predict", pictures / "0.jpg", "--category-names", tmp_path / "names.json")
    assert wrong.exit_code == 1 and "names none of the classes" in wrong.stderr


def test_default_model_fits_the_inputs(project, pictures, monkeypatch, tmp_path):
    both = run("predict", pictures / "0.jpg", "A film.")
    assert both.exit_code == 1
    assert f"models/ has {FLOWERS} (image), {REVIEWS} (text); name one with --model" in both.stderr
    monkeypatch.chdir(tmp_path)
    assert "no classifier in models/" in run("predict", pictures / "0.jpg").stderr


@pytest.mark.parametrize("model", ["models:/flowers@champion", "models:/flowers/1", "models/flowers", FLOWERS])
def test_every_name_of_a_model(project, pictures, model):
    (answer,) = lines(run("predict", pictures / "0.jpg", "--json", "--model", model))
    # A later version may be the champion by now, with another answer.
    assert len(answer["top"]) == 5


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models:/flowers@nobody", "alias nobody not found"),
        ("models:/nothing/1", "not found"),
        ("models:/", "Not a proper models:/ URI"),
        ("nowhere", "nowhere: does not exist"),
        ("data", "no saved classifier"),
        ("http://127.0.0.1:1", "expected a saved classifier, found a URL"),
    ],
)
def test_missing_model_is_one_line(project, pictures, model, message):
    result = run("predict", pictures / "0.jpg", "--model", model)
    assert result.exit_code == 1
    assert message in result.stderr and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_no_registry_is_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for command in (["models"], ["info", "models:/flowers@champion"]):
        assert "no MLflow registry at sqlite:///mlflow.db" in run(*command).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot_of_a_picture(project, pictures, tmp_path, suffix):
    path = tmp_path / f"figure{suffix}"
    assert run("predict", pictures / "0.jpg", "--plot", path).exit_code == 0
    if suffix == ".png":
        figure = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
        assert len(figure.getcolors(2**24)) > 1000  # the photograph is in it
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_plot_of_a_text(project, tmp_path):
    path = tmp_path / "words.svg"
    assert run("predict", "A wonderful film, $5 well spent.", "--plot", path).exit_code == 0
    drawn = path.read_text()
    assert all(f"<!-- {word} -->" in drawn for word in ("wonderful", "spent.", "positive", "negative"))


def test_plot_refuses_the_rest(project, pictures, tmp_path):
    for arguments in ([pictures], [pictures / "0.jpg", "--plot", tmp_path / "figure.xyz"]):
        result = run("predict", "--plot", tmp_path / "figure.png", *arguments)
        assert result.exit_code == 2 and "--plot" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_info(project):
    (description,) = lines(run("info", FLOWERS, "--json"))
    assert description["kind"] == "image" and len(description["classes"]) == 10
    assert description["parameters"]["train.epochs"] == 4
    graph = {"network.onnx", "weights.safetensors"}
    assert description["bytes"].keys() == {"classifier.json", "examples.json", "reference.json", *graph}
    assert description["bytes"]["examples.json"] <= 150_000
    assert description["weights"] > 3_000_000  # of EfficientNet-Lite0 without its head
    assert "rose" in run("info", REVIEWS).stdout + run("info", FLOWERS).stdout


def test_models_lists_versions(project):
    versions = lines(run("models", "flowers", "--json"))
    first = versions[-1]
    assert {version["name"] for version in versions} == {"flowers"} and first["version"] == 1
    assert sum("champion" in version["aliases"] for version in versions) == 1
    assert 0 <= first["accuracy"] <= 1 and len(first["data_digest"]) == 64
    assert "reviews" in run("models").stdout
    assert "known are flowers, reviews" in run("models", "nothing").stderr


def test_web_without_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no classifier in models/" in run("web").stderr
    assert "nowhere: does not exist" in run("web", "--model", "nowhere").stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"flowerml {command}" in result.stdout.rsplit("Examples", 1)[1]


@pytest.mark.parametrize(
    "arguments", [["predict"], ["nothing"], ["predict", "x", "--top-k", "0"], ["predict", "x", "--nothing"], ["info"]]
)
def test_wrong_usage_exits_with_2(arguments):
    assert run(*arguments).exit_code == 2


def test_stack_trace_needs_debug(project):
    plain = start("info", "nowhere")
    assert plain.returncode == 1 and "Traceback" not in plain.stderr
    traced = start("info", "nowhere", "--debug")
    assert traced.returncode == 1 and "Traceback" in traced.stderr and "ModelError" in traced.stderr


def test_closed_pipe_ends_silently(project, pictures):
    command = f"{sys.executable} -m flowerml predict {pictures} {pictures} --json | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_predict_imports_nothing_heavy(project, pictures):
    program = (
        "import sys; from flowerml.cli.app import app\n"
        f"app(['predict', {str(pictures / '0.jpg')!r}, '--model', {FLOWERS!r}], standalone_mode=False)\n"
        "print(sorted({'torch', 'mlflow', 'pandas', 'pyarrow', 'sklearn', 'matplotlib', 'requests', 'tqdm'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_both_modules_are_the_command():
    for module in ("flowerml", "flowerml.cli"):
        done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, timeout=120)
        assert done.stdout.startswith("flowerml ") and done.returncode == 0
