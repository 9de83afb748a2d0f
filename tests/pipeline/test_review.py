"""From data with wrong labels through a review to a training that reads its table."""

import csv
import json
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from flowerml.core import files
from flowerml.core.errors import DataError
from flowerml.data.examples import Examples
from flowerml.pipeline import adhoc, extract, review
from flowerml.review.table import Decision

WORDS = {
    "pos": ["great", "warm", "superb", "lovely", "moving", "clever", "bright", "charming"],
    "neg": ["dull", "cold", "awful", "boring", "flat", "clumsy", "dreary", "hollow"],
}
WRONG = {"neg/pos_7.txt": "pos", "pos/neg_3.txt": "neg"}
SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Return sixty film reviews by their path; two are in the wrong folder, and one is in both."""
    paths = {f"{label}/{label}_{n}.txt": label for label in ("pos", "neg") for n in range(30)}
    for path, label in WRONG.items():
        del paths[f"{label}/{Path(path).name}"]
        paths[path] = label
    texts = {path: plain(label, random.Random(path)) for path, label in sorted(paths.items())}
    return texts | {"neg/copy.txt": texts["pos/pos_1.txt"]}


def plain(label: str, rng: random.Random) -> str:
    """Return a review that a few words decide: sixty of the drawn ones are too few to learn what negation means."""
    return " ".join(
        rng.choices(WORDS[label], k=12)
        + rng.choices(["the", "film", "a", "story", "of", "with", "actors", "in", "town"], k=12)
    )


@pytest.fixture
def folder(tmp_path, texts) -> Path:
    for path, text in texts.items():
        file = tmp_path / "films" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "films"


@pytest.fixture
def csv_file(tmp_path, texts) -> Path:
    path = tmp_path / "films.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((text, path.partition("/")[0]) for path, text in texts.items())
    return path


def of_data(data, work, values=None):
    return review.of_data(str(data), None, values or {}, [], name="films", work=work, say=print)


def opened(subject, path, margin=None):
    return review.open_session(subject, path, margin=margin, most_mistakes=30, most_cards=2000, say=print)


def examples(data, root, table):
    """Return {id: (label, split)} of what `flowerml train` would train on with a table of splits."""
    values = {"data.split.table": str(table)} if table else {}
    pipeline, _ = adhoc.pipeline_from_data(str(data), None, values, name="films", root=root)
    extract.run(pipeline)
    return {key.id: (key.label, key.split) for key in Examples(pipeline.paths.examples).keys(*SPLITS)}


def decide(session, decisions):
    for id, decision in decisions.items():
        session.table.decide(id, decision)


@pytest.mark.parametrize("kind", ["folder", "csv_file"])
def test_training_gets_the_wanted_labels(kind, request, tmp_path):
    data = request.getfixturevalue(kind)
    subject, table = of_data(data, tmp_path / "work"), tmp_path / "labels.csv"
    before = examples(data, tmp_path / "before", None)
    first, second, third = [id for id, (_, split) in before.items() if split == "train"][:3]
    label = {"pos": "neg", "neg": "pos"}[before[first][0]]
    with opened(subject, table) as session:
        decide(session, {first: Decision("relabel", label), second: Decision("drop"), third: Decision("keep")})
    wanted = before | {first: (label, "train")}
    del wanted[second]
    assert examples(data, tmp_path / "after", table) == wanted


def test_planted_errors_are_cards(folder, tmp_path):
    subject = of_data(folder, tmp_path / "work")
    with opened(subject, tmp_path / "labels.csv", margin=0.3) as session:
        cards = {card.id: card for card in session.cards}
    assert cards["neg/copy.txt"].reasons[0].suggested == "pos"
    assert cards["neg/copy.txt"].partners() == ["pos/pos_1.txt"]
    looked_at = [id for id in WRONG if subject.rows[id].split != "test"]
    assert looked_at and [cards[id].reasons[0].suggested for id in looked_at] == [WRONG[id] for id in looked_at]


@pytest.mark.extended
def test_table_goes_on_while_it_is_in_use(folder, tmp_path):
    """The data then have the corrected labels, and lack what was dropped."""
    table = tmp_path / "labels.csv"
    with opened(of_data(folder, tmp_path / "work"), table) as session:
        decide(session, {"neg/pos_7.txt": Decision("relabel", "pos"), "neg/copy.txt": Decision("drop")})
    before = table.read_text()
    again = of_data(folder, tmp_path / "work", {"data.split.table": str(table)})
    assert again.rows["neg/pos_7.txt"].label == "pos" and "neg/copy.txt" not in again.rows
    with opened(again, table) as session:
        assert set(session.table.decisions) == {"neg/pos_7.txt", "neg/copy.txt"}
        session.table.write()
    assert sorted(table.read_text().splitlines()) == sorted(before.splitlines())


@pytest.mark.extended
def test_folder_is_no_table(folder, tmp_path):
    refused = pytest.raises(DataError, match="is a folder; expected a file for --out")
    with refused, opened(of_data(folder, tmp_path / "work"), folder):
        pass


@pytest.mark.extended
def test_second_process_is_refused(folder, tmp_path):
    subject, table = of_data(folder, tmp_path / "work"), tmp_path / "labels.csv"
    refused = pytest.raises(DataError, match="another `flowerml review` is writing it")
    with opened(subject, table), refused, opened(subject, table):
        pass
    with opened(subject, table):
        pass


def test_moved_rows_are_not_given_old_decisions(csv_file, tmp_path):
    table = tmp_path / "labels.csv"
    with opened(of_data(csv_file, tmp_path / "work"), table) as session:
        decide(session, {"row 5": Decision("drop")})
    head, *rows = csv_file.read_text().split("\n", 1)
    csv_file.write_text(f"{head}\nA new row at the top,pos\n{rows[0]}")
    refused = pytest.raises(DataError, match=r"had the label 'neg' when this table was written, and has 'pos' now")
    with refused, opened(of_data(csv_file, tmp_path / "work"), table):
        pass
    with pytest.raises(DataError, match=r"row 1 had the label 'neg' when this table was written"):
        examples(csv_file, tmp_path / "after", table)


def test_mistakes_are_those_of_current_labels(folder, tmp_path):
    subject = of_data(folder, tmp_path / "work")
    test = [row for row in subject.rows.values() if row.split == "test"][:3]
    lines = ["id,actual,predicted,probability,probability_of_actual"]
    other = {"pos": "neg", "neg": "pos"}
    lines += [f"{test[0].id},{test[0].label},{other[test[0].label]},0.8,0.2"]  # a mistake
    lines += [f"{test[1].id},{test[1].label},{test[1].label},0.9,0.9"]  # no mistake
    lines += [f"{test[2].id},{other[test[2].label]},{test[2].label},0.9,0.1"]  # of a label that was corrected since
    subject.reports.mkdir(parents=True, exist_ok=True)
    (subject.reports / "predictions.csv").write_text("\n".join(lines))
    assert [mistake.id for mistake in subject.mistakes(30, print)] == [test[0].id]
    assert subject.mistakes(0, print) == []


@pytest.mark.extended
def test_damaged_predictions_are_left_out(folder, tmp_path):
    subject, said = of_data(folder, tmp_path / "work"), []
    subject.reports.mkdir(parents=True, exist_ok=True)
    (subject.reports / "predictions.csv").write_text("id,actual\nneg/copy.txt,neg\n")
    assert subject.mistakes(30, said.append) == [] and "cannot be read" in said[0]


@pytest.mark.extended
def test_work_is_reused(folder, tmp_path):
    said = []
    for _ in range(2):
        review.of_data(str(folder), None, {}, [], name="films", work=tmp_path / "work", say=said.append)
    assert len(said) == 1
    (folder / "neg" / "late.txt").write_text("A late and dull film.")
    review.of_data(str(folder), None, {}, [], name="films", work=tmp_path / "work", say=said.append)
    assert len(said) == 2


@pytest.mark.extended
def test_examples_of_a_work_folder(folder, tmp_path):
    work = tmp_path / "work"
    of_data(folder, work)
    assert review.examples_in(work) == work / "data/films/examples.parquet"
    assert review.examples_in(folder) is None
    subject = review.of_examples(review.examples_in(work / "data/films"))
    assert len(subject.rows) == 61 and subject.command("a b.csv").startswith(f"flowerml train {folder} --set ")
    shutil.copytree(work / "data/films", work / "data/more", symlinks=True)
    with pytest.raises(DataError, match=r"holds several data sets; name one of .*films, .*more"):
        review.examples_in(work)


def test_pipeline_is_named_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert review.pipeline_named("flowers") is None
    (tmp_path / "params.yaml").write_text("pipelines: {flowers: image}\n")
    assert review.pipeline_named("flowers") == "flowers"
    assert review.pipeline_named("tulips") is None


@pytest.mark.extended
def test_command_line_reviews_and_trains(folder, tmp_path):
    """Through the printed link to the page's requests, Ctrl-C, and the printed command, in processes of their own."""

    def flowerml(*args, **options):
        command = [sys.executable, "-m", "flowerml", *args]
        # As a shell runs what ends in `&`.
        ignored = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
        return subprocess.Popen([*ignored, *command], cwd=tmp_path, stdout=subprocess.PIPE, text=True, **options)

    with flowerml("review", "films", "--port", "0") as process:
        cards = process.stdout.readline()
        address, token = re.search(r"(http://\S+)#(\S+)", process.stdout.readline()).groups()
        headers = {"authorization": f"Bearer {token}"}
        page = requests.get(f"{address}api/review", headers=headers, timeout=20).json()
        number = next(n for n, each in enumerate(page["examples"]) if each["id"] == "neg/copy.txt")
        body = {"example": number, "decision": {"kind": "drop"}, "seen": None}
        assert requests.post(f"{address}api/decisions", json=body, headers=headers, timeout=20).ok
        process.send_signal(signal.SIGINT)
        rest, code = process.stdout.read(), process.wait(timeout=30)
    assert (code, "decisions are saved in films_labels.csv" in cards) == (0, True)
    assert "0 kept, 0 relabelled, 1 dropped" in rest and rest.splitlines()[-1].strip() == page["command"]
    args = page["command"].split()[1:]
    with flowerml(*args, "--trials", "1") as process:
        assert process.wait(timeout=300) == 0
    checks = files.read_json(tmp_path / ".flowerml/data/films/checks.json")
    assert checks["skipped"] == [{"id": "neg/copy.txt", "reason": "dropped in the table films_labels.csv"}]
    assert json.dumps(checks["findings"]).count("conflicting_label") == 0
