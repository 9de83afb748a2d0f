import pytest

from flowerml.review import cards
from flowerml.review.cards import Mistake
from tests.review.conftest import FINDINGS, MISTAKES, NAMES, ROWS, finding


def ids(built):
    return [card.id for card in built]


def test_one_card_for_each_example():
    built = cards.build(ROWS, FINDINGS, MISTAKES, NAMES)
    assert ids(built) == ["rose/1.jpg", "tulip/1.jpg", "tulip/2.jpg", "rose/2.jpg", "tulip/3.jpg", "rose/3.jpg"]
    assert [reason.finding for reason in built[3].reasons] == ["label_error", "near_leak"]


def test_label_error_suggests_a_class():
    (card,) = cards.build(ROWS, FINDINGS, [], NAMES, ["label_error"])[:1]
    assert (card.reasons[0].suggested, card.reasons[0].probability) == ("rose", 0.97)


def test_conflict_suggests_the_label_of_its_copy():
    card = cards.build(ROWS, FINDINGS, [], NAMES, ["conflicting_label"])[0]
    assert (card.id, card.reasons[0].suggested, card.partners()) == ("rose/1.jpg", "tulip", ["tulip/1.jpg"])


def test_leak_suggests_no_class():
    card = cards.build(ROWS, FINDINGS, [], NAMES, ["near_leak"])[0]
    assert card.reasons[0].suggested is None and "also in test" in card.reasons[0].text


def test_only_wanted_findings():
    assert ids(cards.build(ROWS, FINDINGS, MISTAKES, NAMES, ["mistake"])) == ["tulip/3.jpg"]


def test_unknown_examples_are_left_out():
    gone = [finding("label_error", ["gone.jpg"]), finding("leak", ["gone.jpg", "rose/1.jpg"])]
    assert cards.build(ROWS, gone, [Mistake("gone.jpg", "rose", 1, 0)], NAMES) == []


def test_findings_of_an_earlier_version_suggest_nothing():
    old = finding("label_error", ["rose/1.jpg"], notes={"rose/1.jpg": "is rose; looks like tulip (0.90)"})
    (card,) = cards.build(ROWS, [old], [], NAMES)
    assert (card.reasons[0].suggested, card.reasons[0].text) == (None, "is rose; looks like tulip (0.90)")


@pytest.mark.parametrize(
    ("name", "labels", "settled"),
    [
        ("conflicting_label", {"rose/1.jpg": "rose", "tulip/1.jpg": "tulip"}, False),
        ("conflicting_label", {"rose/1.jpg": "tulip", "tulip/1.jpg": "tulip"}, True),
        ("conflicting_label", {"rose/1.jpg": None, "tulip/1.jpg": "tulip"}, True),
        ("near_leak", {"rose/2.jpg": "rose", "rose/3.jpg": "rose"}, False),
        ("near_leak", {"rose/2.jpg": None, "rose/3.jpg": "rose"}, True),
    ],
)
def test_copies_settle_each_other(name, labels, settled):
    card = cards.build(ROWS, FINDINGS, [], NAMES, [name])[1]
    assert card.is_settled(labels.get, lambda id: ROWS[id].split) is settled
