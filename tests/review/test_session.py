import pytest

from flowerml.review.session import StaleError
from flowerml.review.table import Decision

RELABEL = {"kind": "relabel", "label": 0}


def test_page_knows_numbers_only(make_session):
    description = make_session().description()
    assert description["examples"][0] == {"id": "rose/1.jpg", "label": 1, "split": "train"}
    assert [each["name"] for each in description["classes"]] == ["<b>Tulip</b>", "Rose"]
    assert description["cards"][0] == {
        "example": 0,
        "partners": [1],
        "reasons": [
            {
                "finding": "conflicting_label",
                "text": "the same content is also labelled <b>Tulip</b>",
                "suggested": 0,
                "probability": None,
            }
        ],
    }


def test_findings_are_counted(make_session):
    assert {each["name"]: each["count"] for each in make_session().description()["findings"]} == {
        "conflicting_label": 2,
        "label_error": 2,
        "mistake": 1,
        "near_leak": 2,
    }


def test_decision_settles_the_copy(make_session):
    session = make_session()
    progress = session.decide(0, session.decision("relabel", 0), None)
    assert (progress["decision"], progress["settled"]) == (RELABEL, [1])
    assert progress["counts"] == {"keep": 0, "relabel": 1, "drop": 0, "settled": 1, "left": 4, "all": 6}


def test_own_label_is_kept(make_session):
    session = make_session()
    assert session.decide(0, session.decision("relabel", 1), None)["decision"] == {"kind": "keep", "label": None}


def test_other_tab_is_not_overruled(make_session):
    session = make_session()
    session.decide(0, Decision("drop"), None)
    with pytest.raises(StaleError):
        session.decide(0, Decision("keep"), None)
    assert session.table.decisions["rose/1.jpg"] == Decision("drop")
    session.decide(0, Decision("keep"), Decision("drop"))
    assert session.state()["decisions"] == {0: {"kind": "keep", "label": None}}


def test_lost_class_and_empty_split_are_warned_of(make_session):
    session = make_session()
    session.decide(session.ids.index("tulip/1.jpg"), Decision("drop"), None)
    progress = session.decide(session.ids.index("tulip/2.jpg"), Decision("drop"), None)
    assert progress["warnings"] == [
        "no training example of <b>Tulip</b> would be left, so training would fail",
        "the split valid would be empty, so training would fail",
    ]


@pytest.mark.parametrize(
    ("kind", "label"),
    [("burn", None), (None, None), (["keep"], None), ("relabel", 2), ("relabel", -1), ("relabel", True)],
)
def test_invalid_decision_is_refused(make_session, kind, label):
    with pytest.raises(ValueError, match="expected"):
        make_session().decision(kind, label)


def test_summary_counts(make_session):
    session = make_session()
    session.decide(0, session.decision("relabel", 0), None)
    assert session.summary() == "2 of 6 cards done: 0 kept, 1 relabelled, 0 dropped, 1 settled by others"
