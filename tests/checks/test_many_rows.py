"""Checks of more rows than can be compared pair by pair, shown on few rows with the limit lowered."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from flowerml.checks import copies, cross_fitted, labels
from flowerml.checks.collect import DataSummary
from flowerml.checks.cosines import similar_rows
from flowerml.checks.encodings import unknown_pairs
from flowerml.data import findings
from flowerml.data.examples import Key
from flowerml.data.findings import Finding
from flowerml.data.layout import Row
from flowerml.engine import similar
from flowerml.engine.similar import Components, Similar
from flowerml.tasks import image, text
from flowerml.tasks.image import checks as image_checks
from flowerml.tasks.image.sample import SPECIES, jpeg
from flowerml.tasks.records import Inspection
from tests.checks.test_checks import CHECKS, decode, encode


@pytest.fixture
def many(monkeypatch):
    """Return a function after which no more than this many rows are compared pair by pair."""

    def lower(rows):
        for module in (similar, labels):
            monkeypatch.setattr(module, "EXACT_ROWS", rows)

    return lower


def brute_force(matrix):
    """Return the groups that a matrix of similar pairs [N, N] connects, by a walk."""
    groups, seen = [], set()
    for start in range(len(matrix)):
        group, frontier = set(), {start} - seen
        while frontier:
            group |= frontier
            frontier = set(np.flatnonzero(matrix[sorted(frontier)].any(axis=0)).tolist()) - group
        seen |= group
        groups += [sorted(group)] if len(group) > 1 else []
    return groups


def cones(centers, copies, spread=0.02, dimensions=64):
    """Return unit vectors in a narrow cone: `copies` close to each of so many centers."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(0.5, 1, (centers, dimensions)), copies, axis=0)
    vectors += rng.normal(0, spread, vectors.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def anything(pairs):
    return np.ones(len(pairs), dtype=bool)


def test_pairs_are_joined_to_groups():
    components = Components(10)
    for pairs in ([(4, 7), (1, 2)], [(7, 9), (2, 3)], [(9, 4)]):
        components.join(np.array(pairs))
    assert components.groups() == [[1, 2, 3], [4, 7, 9]]


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix])
def test_all_pairs_of_few_rows_are_compared(kind):
    vectors = cones(300, 2, spread=0.17)
    groups = brute_force(vectors @ vectors.T >= 0.97)
    assert 100 < len(groups) < 290
    assert similar_rows(kind(vectors), 0.97, anything) == Similar(groups)


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix])
def test_most_pairs_of_many_rows_are_found(many, kind):
    vectors = cones(1500, 2, spread=0.17)
    exact = similar_rows(kind(vectors), 0.97, anything)
    many(100)
    found = similar_rows(kind(vectors), 0.97, anything)
    assert found.partly_compared == 3000 and exact.partly_compared == 0
    assert all(group in exact.groups for group in found.groups)
    assert len(found.groups) >= 0.98 * len(exact.groups) > 300


def test_signs_fold_wide_vectors(many):
    vectors = csr_matrix(cones(200, 2))
    wide = csr_matrix((vectors.data, vectors.indices * 1000, vectors.indptr), shape=(400, 64_000))
    many(100)
    assert len(similar_rows(wide, 0.97, anything).groups) == 200


def test_crowds_are_told_and_joined(many):
    vectors = np.repeat(cones(3, 1), 200, axis=0)
    many(100)
    found = similar_rows(vectors, 0.97, anything)
    assert found.groups == [list(range(start, start + 200)) for start in (0, 200, 400)]
    assert f"examples resemble more than {similar.WINDOW} others" in found.how


def test_copies_among_many_pictures_are_found(many):
    originals = [jpeg(species, number, 3) for species in SPECIES[:2] for number in range(9)]
    shrunk = [encode(decode(raw).resize((200, 200)), quality=40) for raw in originals[::3]]
    signatures = np.stack([image_checks._signature(decode(raw).convert("L")) for raw in originals + shrunk])
    exact = image.near_duplicates(signatures, None)
    many(10)
    found = image.near_duplicates(signatures, None)
    assert found.groups == exact.groups and len(exact.groups) >= len(shrunk)
    assert (found.partly_compared, exact.partly_compared) == (len(signatures), 0)


def test_boilerplate_among_many_texts_is_told(many):
    section = SimpleNamespace(near_resemblance=0.5)
    boilerplate = " ".join(f"legal{number}" for number in range(12))
    texts = [f"{boilerplate} " + " ".join(f"own{row}x{number}" for number in range(10)) for row in range(70)]
    texts += ["the same words in two texts of ours", "the same words in two texts of ours"]
    signatures = np.stack([text.inspect("", raw, TEXT).signature for raw in texts])
    assert text.near_duplicates(signatures, section) == Similar([[70, 71]])
    many(10)
    found = text.near_duplicates(signatures, section)
    assert found.groups == [[70, 71]] and found.partly_compared == 70 and "more than 50 others" in found.how


def test_partly_compared_is_a_note():
    rows = [Row(str(number), "a", "train") for number in range(3)]
    kinds = [finding.name for finding in copies.similar_findings(rows, Similar([[0, 2]], 3, "by luck"))]
    assert kinds == ["near_duplicate", "partly_compared"]
    (*_, note) = copies.similar_findings(rows, Similar([], 3, "by luck"), means="by their encodings")
    assert note.severity == "note" and note.text.startswith("3 examples not compared with all others")
    assert "(by their encodings, by luck)" in note.text


def test_known_groups_cost_no_pairs():
    keys = [Key(str(number), "train", "a", str(number // 2)) for number in range(20_000)]
    allowed = unknown_pairs(keys, [[str(number) for number in range(0, 20_000, 5)], ["5", "7"], ["missing", "1"]])
    pairs = np.array([[0, 5], [5, 7], [0, 7], [8, 9], [1, 3]])
    assert allowed(pairs).tolist() == [False, False, True, False, True]


def planted(count=600, classes=6, share=0.05):
    """Return keys and vectors of clouds, a share of whose labels is wrong, and the ids of these."""
    rng = np.random.default_rng(1)
    truth = np.arange(count) % classes
    vectors = rng.normal(0, 0.12, (count, 32)) + np.eye(32)[truth]
    wrong = rng.choice(count, int(share * count), replace=False)
    given = truth.copy()
    given[wrong] = (truth[wrong] + rng.integers(1, classes, len(wrong))) % classes
    keys = [Key(str(row), "train", "abcdef"[label], str(row)) for row, label in enumerate(given)]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return keys, unit.astype(np.float32), {str(row) for row in wrong}


def label_errors(keys, vectors):
    return {id for finding in labels.findings(keys, vectors, {}) for group in finding.groups for id in group}


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix])
def test_label_errors_of_many_rows_are_found(many, kind):
    keys, vectors, wrong = planted()
    exact = label_errors(keys, kind(vectors))
    many(100)
    found = label_errors(keys, kind(vectors))
    assert len(found & wrong) >= 0.9 * len(wrong) and len(found - wrong) <= 3
    assert len(found & wrong) >= len(exact & wrong) - 1


def test_label_errors_are_the_same_in_small_blocks(many, monkeypatch):
    keys, vectors, _ = planted()
    many(100)
    whole = label_errors(keys, vectors)
    monkeypatch.setattr(cross_fitted, "MAX_BLOCK", 7)
    assert label_errors(keys, vectors) == whole


def test_too_many_classes_are_told(many, monkeypatch):
    keys, vectors, _ = planted(classes=5)
    many(100)
    monkeypatch.setattr(labels, "MAX_CLASSES", 3)
    note, *_ = labels.findings(keys, vectors, {})
    assert note.name == "partly_compared" and 0 < note.count < len(keys) and "3 largest classes" in note.detail


def test_folds_are_even():
    targets = np.random.default_rng(0).integers(0, 9, 1000)
    folds = cross_fitted.stratified_folds(targets)
    counts = np.stack([np.bincount(targets[folds == fold]) for fold in range(cross_fitted.FOLDS)])
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_notes_are_counted_beyond_those_kept(monkeypatch):
    summary = DataSummary(image, IMAGE)
    for number in range(findings.MAX_GROUPS + 5):
        summary.add_unreadable(Row(str(number), "a"), "unreadable", "cut")
    (finding,) = (part for part in summary.findings([], []) if part["name"] == "unreadable")
    assert finding["count"] == findings.MAX_GROUPS + 5 and len(finding["ids"]) == findings.MAX_GROUPS


def test_ids_of_large_groups_are_cut(monkeypatch):
    monkeypatch.setattr(findings, "MAX_IDS", 5)
    groups = [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]
    listed = Finding("duplicate", 8, "examples", groups).to_json()
    assert listed["ids"] == list("abcde") and listed["groups"] == [["a", "b", "c"], ["d", "e"]]


def test_equal_examples_are_compared_once():
    summary = DataSummary(image, IMAGE)
    for number in range(9):
        raw = encode(decode(jpeg(SPECIES[0], number % 3, 4)), quality=50 if number % 2 else 90)
        signature = image_checks._signature(decode(raw).convert("L"))
        summary.add(Row(str(number), "a", "train"), Inspection(raw[:0] + bytes([number % 6]), signature))
    groups = {part["name"]: part["groups"] for part in summary.findings(summary.rows, []) if "groups" in part}
    assert groups["duplicate"] == [["0", "6"], ["1", "7"], ["2", "8"]]
    assert groups["near_duplicate"] == [["0", "3"], ["1", "4"], ["2", "5"]]


IMAGE = image.section_types().data.model_fields["checks"].annotation.model_validate(CHECKS["flowers"])
TEXT = SimpleNamespace(
    checks=text.section_types().data.model_fields["checks"].annotation.model_validate(CHECKS["reviews"])
)
