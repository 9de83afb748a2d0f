"""Test examples that travel with a classifier: which are chosen, and what a stranger's file may hold."""

import hashlib
import json
import os
import shutil

import pytest

from flowerml import Classifier
from flowerml.classifier import examples, saved
from flowerml.classifier.examples import SavedExample, choose, from_bytes, own_examples, read_examples, to_bytes
from flowerml.config.params import Train
from flowerml.core.errors import ModelError
from flowerml.data.examples import Example, Examples, write
from tests.support.detecting import detecting_classifier

TEXTS = {"pos": ["Good.", "Grand.", "Great."], "neg": ["Dull.", "Dreary."]}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return detecting_classifier(tmp_path_factory.mktemp("models") / "small/classifier")


def table(path, texts=TEXTS, *, split="test"):
    labelled = [(label, text) for label, of_class in texts.items() for text in of_class]
    write(path, [Example(f"{label}/{text[:40]}", split, label, text) for label, text in labelled], raw=str)
    return Examples(path)


def chosen(classifier, tmp_path, count, texts=TEXTS):
    return [(each.label, each.raw) for each in choose(classifier, table(tmp_path / "t.parquet", texts), count)]


def test_as_many_are_read_as_may_be_written():
    (bounds,) = [field for field in Train.model_fields["examples"].metadata if hasattr(field, "le")]
    assert bounds.le == examples.MOST


def test_classes_take_turns(classifier, tmp_path):
    labels = [label for label, _ in chosen(classifier, tmp_path, 4)]
    assert sorted(labels[:2]) == sorted(labels[2:]) == ["neg", "pos"]


def test_order_of_the_table_does_not_matter(classifier, tmp_path):
    backwards = {label: texts[::-1] for label, texts in reversed(TEXTS.items())}
    assert chosen(classifier, tmp_path, 3) == chosen(classifier, tmp_path, 3, backwards)


def test_no_content_is_chosen_twice(classifier, tmp_path):
    texts = {"pos": ["Good.", "Fine."], "neg": ["Good."]}
    assert sorted(raw for _, raw in chosen(classifier, tmp_path, 6, texts)) == ["Fine.", "Good."]


def test_other_splits_stay_at_home(classifier, tmp_path):
    assert choose(classifier, table(tmp_path / "t.parquet", split="valid"), 6) == []


def test_unreadable_ones_are_passed_over(classifier, tmp_path):
    assert chosen(classifier, tmp_path, 6, {"pos": ["Good.", " \0 " * 900]})[0] == ("pos", "Good.")


def test_long_texts_fit_into_the_file(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "MAX_BYTES", 2500)
    texts = {"pos": [f"{number} " + "good film " * 90 for number in range(9)]}
    some = choose(classifier, table(tmp_path / "t.parquet", texts), 6)
    assert len(some) == 2
    assert len(to_bytes(classifier.task, some)) <= 2500


def saved_with(classifier, folder, content):
    """Return a copy of the classifier that was saved with such a file of examples."""
    shutil.copytree(classifier.folder, folder)
    (folder / saved.EXAMPLES).write_bytes(content)
    description = json.loads((folder / "classifier.json").read_text())
    description["digests"][saved.EXAMPLES] = hashlib.sha256(content).hexdigest()
    (folder / "classifier.json").write_text(json.dumps(description))
    return Classifier.load(folder)


def test_file_is_read_as_it_was_written(classifier, tmp_path):
    some = [SavedExample("pos", 'Good "film" <b>\n'), SavedExample("neg", "Öde.")]
    assert read_examples(saved_with(classifier, tmp_path / "c", to_bytes(classifier.task, some))) == some


def test_file_is_among_the_digests(tmp_path):
    with_examples = detecting_classifier(tmp_path / "c", lambda _: {saved.EXAMPLES: rows()})
    assert read_examples(with_examples) == [SavedExample("pos", "Good.")]


def rows(**values):
    return json.dumps({"format": 1, "examples": [{"label": "pos", "input": "Good."} | values]}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{" * 100_000,
        b'{"format": 2, "examples": []}',
        b'{"format": 1, "examples": {}}',
        rows(label="<script>"),
        rows(label=["pos"]),
        rows(input=None),
        rows(input="x" * 10_001),
        rows(input="\ud800"),
        json.dumps({"format": 1, "examples": [{"label": "pos", "input": "Good."}] * 25}).encode(),
    ],
)
def test_hostile_file_is_refused(classifier, content):
    with pytest.raises(ModelError, match=r"examples\.json: ") as error:
        from_bytes(content, classifier)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("entry", ["missing", "large", "link", "pipe"])
def test_other_file_is_refused(classifier, tmp_path, entry):
    folder = saved_with(classifier, tmp_path / "c", rows()).folder
    path = folder / saved.EXAMPLES
    path.unlink()
    if entry == "large":
        path.write_bytes(bytes(2**18 + 1))
    elif entry == "link":
        path.symlink_to("/etc/hostname")
    elif entry == "pipe":
        os.mkfifo(path)
    with pytest.raises(ModelError, match=r"examples\.json .*copy the whole folder again"):
        read_examples(Classifier.load(folder))


def earlier(classifier, root, data):
    """Return a copy in models/small/classifier, trained on `data`, as a version without the parameter saved it."""
    folder = shutil.copytree(classifier.folder, root / "models/small/classifier")
    description = json.loads((folder / "classifier.json").read_text())
    description["trained"]["data_digest"] = data.digest()
    (folder / "classifier.json").write_text(json.dumps(description))
    return Classifier.load(folder)


def test_earlier_classifier_has_those_of_its_data(classifier, tmp_path):
    data = table(tmp_path / "data/small/examples.parquet")
    assert len(own_examples(earlier(classifier, tmp_path, data))) == 5


def test_earlier_classifier_never_has_those_of_other_data(classifier, tmp_path):
    data = table(tmp_path / "data/small/examples.parquet", {"pos": ["Else."]})
    copy = earlier(classifier, tmp_path, data)
    table(tmp_path / "data/small/examples.parquet")
    assert own_examples(copy) == []


def test_none_are_none_in_the_project_too(classifier, tmp_path):
    copy = earlier(classifier, tmp_path, table(tmp_path / "data/small/examples.parquet"))
    copy.description["parameters"]["train.examples"] = 0
    assert own_examples(copy) == []
