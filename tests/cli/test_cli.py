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

FLOWERS, REVIEWS = "models/flowers/classifier", "models/reviews/classifier"
COMMANDS = ("check", "train", "predict", "evaluate", "models", "info", "promote", "rollback", "reproduce", "web")


@pytest.fixture
def project(reproduced, monkeypatch):
    """The reproduced project as the folder that commands run in."""
    monkeypatch.chdir(reproduced.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{reproduced.folder}/mlflow.db")
    return reproduced.folder


@pytest.fixture(scope="module")
def pictures(reproduced, tmp_path_factory):
    """A folder of five pictures, one of them in a folder below."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "below").mkdir()
    examples = list(Examples(reproduced.folder / "data/flowers/examples.parquet").of("test"))
    for number, example in enumerate(examples[:5]):
        (folder / ("below" if number == 4 else "") / f"{number}.jpg").write_bytes(example.raw)
    return folder


def run(*arguments, input=None):
    return CliRunner().invoke(app, [str(one) for one in arguments], input=input)


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def start(*arguments, **options):
    """The command as a process of its own."""
    command = [sys.executable, "-m", "flowerml", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_the_answer_is_the_classifiers_own(project, pictures):
    result = run("predict", pictures / "0.jpg", "--json", "--top-k", 3)
    (answer,) = lines(result)
    (expected,) = Classifier.load(FLOWERS).predict([pictures / "0.jpg"], top_k=3)
    assert answer == {"input": str(pictures / "0.jpg"), **expected.to_json()}
    assert result.exit_code == 0


def test_a_folder_is_read_with_what_is_below_and_a_glob_as_the_shell_would(project, pictures):
    names = [one["input"] for one in lines(run("predict", pictures, "--json"))]
    assert names == [str(pictures / name) for name in ("0.jpg", "1.jpg", "2.jpg", "3.jpg", "below/4.jpg")]
    assert [one["input"] for one in lines(run("predict", pictures / "*", "--json"))] == names
    names = [one["input"] for one in lines(run("predict", pictures / "[12].jp*", "--json"))]
    assert names == [str(pictures / "1.jpg"), str(pictures / "2.jpg")]


def test_stdin_is_a_picture_or_a_text(project, pictures):
    (picture,) = lines(run("predict", "-", "--json", input=(pictures / "0.jpg").read_bytes()))
    (named,) = lines(run("predict", pictures / "0.jpg", "--json"))
    assert picture == {**named, "input": "-"}
    (text,) = lines(run("predict", "-", "--json", input="A wonderful film."))
    assert {one["name"] for one in text["top"]} == {"positive", "negative"}


def test_texts_are_read_from_files_and_taken_as_they_are(project, tmp_path):
    (tmp_path / "review.txt").write_bytes("Très bon, a wonderful film.".encode("cp1252"))
    texts = ["Is it **good**? [Yes.]", "a very long text " * 1000]
    answers = lines(run("predict", *texts, tmp_path / "review.txt", "--json"))
    expected = Classifier.load(REVIEWS).predict([*texts, "Très bon, a wonderful film."])
    assert [answer["top"] for answer in answers] == [one.to_json()["top"] for one in expected]
    assert [answer["input"] for answer in answers[:2]] == texts


def test_what_cannot_be_read_is_told_and_the_rest_answered(project, pictures, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    asked = [tmp_path / "broken.jpg", pictures / "0.jpg", tmp_path / "none.jpg", tmp_path]
    result = run("predict", *asked[:3], "--json")
    codes = [answer.get("error", {}).get("code") for answer in lines(result)]
    assert codes == ["unreadable_image", None, "no_such_file"]
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == 2
    assert run("predict", *asked[:3]).stdout.count("0.jpg") == 1


def test_an_empty_text_is_an_error_and_not_this_folder(project):
    result = run("predict", "", "--model", REVIEWS, "--json")
    assert [answer["error"]["code"] for answer in lines(result)] == ["empty_text"]


def test_the_table_names_the_classes_as_they_are_called(project, pictures, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps(dict.fromkeys(["rose", "tulip"], "[red]One[/]")))
    result = run("predict", pictures / "0.jpg", "--top_k", 10, "--category_names", tmp_path / "names.json")
    assert result.stdout.count("[red]One[/]") == 2
    assert "%" in result.stdout
    (tmp_path / "names.json").write_text('{"1": "other"}')
    wrong = run("predict", pictures / "0.jpg", "--category-names", tmp_path / "names.json")
    assert wrong.exit_code == 1 and "names none of the classes" in wrong.stderr


def test_the_model_is_the_one_that_fits_the_inputs_or_has_to_be_said(project, pictures, monkeypatch, tmp_path):
    both = run("predict", pictures / "0.jpg", "A film.")
    assert both.exit_code == 1
    assert f"there are {FLOWERS} (image), {REVIEWS} (text)" in both.stderr
    monkeypatch.chdir(tmp_path)
    assert "no classifier in models/" in run("predict", pictures / "0.jpg").stderr


@pytest.mark.parametrize("model", ["models:/flowers@champion", "models:/flowers/1", "models/flowers", FLOWERS])
def test_a_model_is_found_by_every_name(project, pictures, model):
    found = lines(run("predict", pictures / "0.jpg", "--json", "--model", model))
    # A later version may be the champion by now, and answer otherwise.
    assert len(found[0]["top"]) == 5


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("models:/flowers@nobody", "alias nobody not found"),
        ("models:/nothing/1", "not found"),
        ("models:/", "Not a proper models:/ URI"),
        ("nowhere", "there is nothing"),
        ("data", "no saved classifier"),
        ("http://127.0.0.1:1", "a saved classifier is expected"),
    ],
)
def test_a_model_that_is_not_there_is_told_in_a_line(project, pictures, model, said):
    result = run("predict", pictures / "0.jpg", "--model", model)
    assert result.exit_code == 1
    assert said in result.stderr and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_no_registry_is_made_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for command in (["models"], ["info", "models:/flowers@champion"]):
        assert "no MLflow registry at sqlite:///mlflow.db" in run(*command).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_plot_is_a_figure_of_one_input(project, pictures, tmp_path, suffix):
    path = tmp_path / f"figure{suffix}"
    assert run("predict", pictures / "0.jpg", "--plot", path).exit_code == 0
    if suffix == ".png":
        figure = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
        assert len(figure.getcolors(2**24)) > 1000  # the photograph is in it
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_the_plot_of_a_text_has_its_words(project, tmp_path):
    path = tmp_path / "words.svg"
    assert run("predict", "A wonderful film, $5 well spent.", "--plot", path).exit_code == 0
    drawn = path.read_text()
    assert all(f"<!-- {word} -->" in drawn for word in ("wonderful", "spent.", "positive", "negative"))


def test_what_cannot_be_drawn_is_refused(project, pictures, tmp_path):
    for arguments in ([pictures], [pictures / "0.jpg", "--plot", tmp_path / "figure.xyz"]):
        result = run("predict", "--plot", tmp_path / "figure.png", *arguments)
        assert result.exit_code == 2 and "--plot" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_info_tells_what_a_classifier_is(project):
    found = lines(run("info", FLOWERS, "--json"))[0]
    assert found["kind"] == "image" and len(found["classes"]) == 10
    assert found["parameters"]["train.epochs"] == 4
    assert found["bytes"].keys() == {"classifier.json", "network.onnx", "weights.safetensors"}
    assert found["weights"] > 3_000_000  # of EfficientNet-Lite0 without its head
    assert "rose" in run("info", REVIEWS).stdout + run("info", FLOWERS).stdout


def test_models_lists_versions_with_what_is_known_of_them(project):
    found = lines(run("models", "flowers", "--json"))
    assert {one["name"] for one in found} == {"flowers"} and found[-1]["version"] == 1
    assert sum("champion" in one["aliases"] for one in found) == 1
    assert 0 <= found[-1]["accuracy"] <= 1 and len(found[-1]["data_digest"]) == 64
    assert "reviews" in run("models").stdout
    assert "there are flowers, reviews" in run("models", "nothing").stderr


def test_a_page_with_nothing_to_show_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no classifier in models/" in run("web").stderr
    assert "nowhere: there is nothing" in run("web", "--model", "nowhere").stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"flowerml {command}" in result.stdout.rsplit("Examples", 1)[1]


@pytest.mark.parametrize(
    "arguments", [["predict"], ["nothing"], ["predict", "x", "--top-k", "0"], ["predict", "x", "--nothing"], ["info"]]
)
def test_a_command_that_makes_no_sense_ends_with_2(arguments):
    assert run(*arguments).exit_code == 2


def test_a_stack_trace_is_shown_only_when_asked_for(project):
    plain = start("info", "nowhere")
    assert plain.returncode == 1 and "Traceback" not in plain.stderr
    traced = start("info", "nowhere", "--debug")
    assert traced.returncode == 1 and "Traceback" in traced.stderr and "ModelError" in traced.stderr


def test_a_reader_that_has_enough_ends_it_silently(project, pictures):
    command = f"{sys.executable} -m flowerml predict {pictures} {pictures} --json | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_predicting_with_a_folder_imports_nothing_heavy(project, pictures):
    program = (
        "import sys; from flowerml.cli.app import app\n"
        f"app(['predict', {str(pictures / '0.jpg')!r}, '--model', {FLOWERS!r}], standalone_mode=False)\n"
        "print(sorted({'torch', 'mlflow', 'pandas', 'pyarrow', 'sklearn', 'matplotlib', 'requests', 'tqdm'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_both_modules_are_the_command():
    for module in ("flowerml", "flowerml.cli"):
        done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, timeout=60)
        assert done.stdout.startswith("flowerml ") and done.returncode == 0
