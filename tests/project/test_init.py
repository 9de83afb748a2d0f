"""`flowerml init`: the files of a new project, and what is in its way."""

import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.config import params, pin
from flowerml.project.templated import FILES, Project, dvc_yaml, render
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tasks.registry import TASKS
from tests.support.project import REPOSITORY

STAGES = ("download", "extract", "encode", "train", "evaluate", "export")
MADE_BY_STAGES = ("data/", "models/", "reports/")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Return an empty folder to run commands in, with a name that needs quotes."""
    folder = tmp_path / "mine & 100 % größer"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\nname = test\nemail = test@example.com\n")
    return folder


def init(*arguments, code: int = 0) -> str:
    """Run `flowerml init`; return what it prints."""
    result = CliRunner().invoke(app, ["init", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return " ".join(result.output.replace("│", " ").split())  # usage errors are wrapped, in a box


def git(*arguments, folder):
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", list(TASKS))
def test_a_project_has_all_files(here, kind):
    init("new", f"--{kind}")
    assert {name for name in FILES if (here / "new" / name).is_file()} == set(FILES)
    assert git("log", "--format=%s", folder=here / "new").stdout == "A new project, written by flowerml init\n"
    assert git("status", "--porcelain", folder=here / "new").stdout == ""
    assert [path.name for path in here.iterdir()] == ["new"]


@pytest.mark.parametrize("kind", list(TASKS))
def test_params_are_short_and_complete(here, kind):
    init("new", f"--{kind}")
    path = here / "new/params.yaml"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 30
    pipeline = load_pipeline("new", path)
    assert (pipeline.kind, pipeline.data.source, pipeline.export.registered_model) == (kind, "sample", "new")
    pin.check(params.read(path), path)


def test_a_folder_may_have_any_name(here):
    init("Blümen & Co's 100 % 🌼", "--image")
    folder = here / "Blümen & Co's 100 % 🌼"
    assert list(params.read(folder / "params.yaml")["pipelines"]) == ["Blumen_Co_s_100"]
    for name in ("dvc.yaml", "MLproject", "python_env.yaml"):
        assert yaml.safe_load((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["no", "9", "a b", "pipelines", "downloads", "a.b", "ü", "", "-a"])
def test_a_name_that_dvc_or_yaml_reads_otherwise_is_refused(here, name):
    assert "letters, digits, _ and - with a letter in front" in init("new", "--image", f"--name={name}", code=2)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new"], "--image or --text"),
        (["new", "--source", "https://host/pictures.zip"], "--image or --text"),
        (["new", "--image", "--text"], "a pipeline is of one kind"),
        ([], "name the project's folder"),
        (["", "--image"], "name the project's folder"),
        (["--upgrade", "--image"], "leave out the other options"),
        (["new", "--image", "-S", "data.source=x"], "name the source with --source"),
    ],
)
def test_wrong_usage_is_refused(here, arguments, message):
    assert message in init(*arguments, code=2)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "--source", "flowers12"], "did you mean 'flowers102'?"),
        (["new", "--source", "flowers102", "--text"], "is of kind image, not text"),
        (["new", "--image", "--source", "."], "the project would lie in its own data"),
        (
            ["new", "--text", "-S", "data.text_colum=a"],
            "data.text_colum: unknown parameter for this kind of data; did you",
        ),
        (
            ["new", "--text", "-S", "train.epochs=no"],
            "options: new.train.epochs: expected a valid integer, found false",
        ),
    ],
)
def test_a_wrong_source_is_refused(here, arguments, message):
    assert message in init(*arguments, code=1)
    assert list(here.iterdir()) == []


def test_the_kind_is_inferred_from_the_source(here):
    (here / "tickets.csv").write_text("text,label\nhello,a\n")
    init("new", "--source", "tickets.csv")
    assert load_pipeline("new", here / "new/params.yaml").kind == "text"


def test_values_are_written_beside_the_comments(here):
    init("new", "--text", "-S", "data.text_column=the text", "-S", "evaluate.top_k=3")
    path = here / "new/params.yaml"
    pipeline = load_pipeline("new", path)
    assert (pipeline.data.text_column, pipeline.evaluate.top_k) == ("the text", 3)
    assert "null     # a pretrained" in path.read_text(encoding="utf-8") and "# of a table" in path.read_text(
        encoding="utf-8"
    )


def test_a_source_outside_is_absolute_and_one_inside_relative(here, monkeypatch):
    (here / "my table.csv").write_text("text,label\nhello,a\n")
    init("new", "--text", "--source", "my table.csv")
    assert load_pipeline("new", here / "new/params.yaml").data.source == str(here / "my table.csv")
    init(".", "--text", "--source", "my table.csv", "--name", "here")
    assert load_pipeline("here", here / "params.yaml").data.source == "my table.csv"


def test_a_password_in_the_source_is_not_shown(here):
    printed = init("birds", "--image", "--source", "https://me:secret@example.org/birds.zip")
    assert "reads https://example.org/birds.zip" in printed and "secret" not in printed
    assert "warning: params.yaml holds the password of the source now" in printed


@pytest.mark.parametrize("name", ["README.md", ".dvc/config", "dvc.yaml"])
def test_nothing_is_overwritten(here, name):
    (here / "new" / name).parent.mkdir(parents=True)
    (here / "new" / name).write_text("mine")
    assert f"found {name}, which would be overwritten" in init("new", "--image", code=1)
    assert [path.name for path in (here / "new").rglob("*") if path.is_file()] == [name.rpartition("/")[2]]


def test_other_files_stay(here):
    (here / "pictures").mkdir()
    init(".", "--image")
    assert (here / "pictures").is_dir() and (here / "dvc.yaml").is_file()


def test_a_killed_command_is_resumed_by_the_same(here):
    init("new", "--image")
    (here / "new/dvc.yaml").unlink()
    (here / "new/Makefile").unlink()
    init("new", "--image")
    assert (here / "new/Makefile").is_file() and (here / "new/dvc.yaml").is_file()


def test_the_lock_of_a_review_is_ignored(here):
    init("birds", "--image")
    assert git("check-ignore", ".birds_labels.csv.lock", folder=here / "birds").returncode == 0


def test_a_full_disk_leaves_nothing(here, limit_file_size):
    limit_file_size(2000)
    assert "cannot be written to (File too large); choose another folder" in init("new", "--image", code=1)
    limit_file_size(-1)
    assert list(here.iterdir()) == []


def test_a_link_that_leads_nowhere_is_refused(here):
    (here / "new").symlink_to("nowhere")
    assert "found a link that leads nowhere" in init("new", "--image", code=1)
    assert (here / "new").is_symlink()


@pytest.mark.extended
def test_of_two_at_once_one_is_refused(here):
    commands = [[sys.executable, "-m", "flowerml", "init", "new", option] for option in ("--image", "--text")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for command in commands
    ]
    errors = [process.communicate()[1] for process in running]
    assert sorted(process.returncode for process in running) == [0, 1]
    assert "which would be overwritten" in "".join(errors)
    assert [path.name for path in here.iterdir()] == ["new"]


def test_a_project_in_a_repository_gets_none_of_its_own(here):
    git("init", "-q", folder=here)
    (here / ".gitignore").write_text("ignored/\n")
    init("new", "--image")
    init("ignored/new", "--image")
    assert not (here / "new/.git").exists() and (here / "ignored/new/.git").is_dir()


def test_a_repository_that_was_there_is_not_committed_to(here):
    git("init", "-q", folder=here)
    assert "git add -A && git commit" in init("new", "--image")
    assert git("log", folder=here).returncode != 0


def test_git_may_not_know_who_commits(here, tmp_path):
    (tmp_path / "gitconfig").write_text("[user]\nuseConfigOnly = true\n")
    assert "git add -A && git commit" in init("new", "--image")
    assert (here / "new/dvc.yaml").is_file()


def without_code(stage: dict) -> dict:
    """Return the parts of a stage that the repository and a project share."""
    own = stage.get("do", stage)
    deps = [dep for dep in own.get("deps", []) if dep.startswith(MADE_BY_STAGES)]
    return {"deps": deps, **{name: own.get(name) for name in ("desc", "outs", "metrics", "plots")}}


def test_stages_read_and_write_what_the_repository_does():
    repository = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    project = yaml.safe_load(dvc_yaml())["stages"]
    assert list(project) == ["params", *repository]
    for name, stage in repository.items():
        assert without_code(project[name]) == without_code(stage), name


def test_stages_depend_on_the_parameters_of_the_repository():
    repository = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    project = yaml.safe_load(dvc_yaml())["stages"]
    for name in STAGES:
        given = project[name]["do"]["params"][0]["reports/${key}/params.yaml"]
        expected = [part.removeprefix("${key}.") for part in repository[name]["do"]["params"]]
        pinned = [] if name in ("download", "export") else ["flowerml"]
        assert given == [*pinned, *expected], name


def test_plots_have_the_templates_of_the_repository():
    texts = render(Project("new", "new", "image", "sample", "0.1.0"))
    plots = {name: text for name, text in texts.items() if name.startswith(".dvc/plots/")}
    assert plots == {f".dvc/plots/{path.name}": path.read_text() for path in (REPOSITORY / ".dvc/plots").iterdir()}


def test_upgrade_changes_the_version_alone(here):
    init("new", "--image")
    path = here / "new/params.yaml"
    now = path.read_text(encoding="utf-8")
    for file in (path, here / "new/requirements.txt"):
        file.write_text(file.read_text(encoding="utf-8").replace(pin.installed(), "0.0.9"), encoding="utf-8")
    assert f"requirements.txt and params.yaml: flowerml 0.0.9 -> {pin.installed()}" in init("new", "--upgrade")
    assert path.read_text(encoding="utf-8") == now
    assert "nothing to change" in init("new", "--upgrade")


def test_upgrade_of_a_project_without_a_pin_says_how_to_pin_it(here):
    (here / "params.yaml").write_text("pipelines: {birds: image}\n")
    assert f"add the line `flowerml: {pin.installed()}` in front of `pipelines:`" in init("--upgrade", code=1)
