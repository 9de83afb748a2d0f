import random
from collections import Counter

import pytest

from flowerml.core.errors import DataError
from flowerml.data.layout import Row
from flowerml.data.split import check, deal, limit_per_class


def rows(split: str | None = None, **classes: int) -> list[Row]:
    """So many rows of each class."""
    return [Row(f"{split}/{label}/{i}", label, split) for label, count in classes.items() for i in range(count)]


def counts(dealt: list[Row]) -> dict[tuple[str, str | None], int]:
    return dict(Counter((row.label, row.split) for row in dealt))


def test_shares_of_each_class():
    assert counts(deal(rows(lily=20, rose=40), valid=0.1, test=0.2, seed=0)) == {
        ("lily", "train"): 14,
        ("lily", "valid"): 2,
        ("lily", "test"): 4,
        ("rose", "train"): 28,
        ("rose", "valid"): 4,
        ("rose", "test"): 8,
    }


def test_seed_decides_the_split():
    first, again, other = (deal(rows(lily=20, rose=20), valid=0.2, test=0.2, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_order_does_not_matter():
    shuffled = rows(lily=20, rose=20)
    random.Random(0).shuffle(shuffled)
    assert set(deal(shuffled, valid=0.2, test=0.2, seed=0)) == set(
        deal(rows(lily=20, rose=20), valid=0.2, test=0.2, seed=0)
    )


def test_other_classes_do_not_matter():
    few = deal(rows(lily=20, rose=20), valid=0.2, test=0.2, seed=0)
    many = deal(rows(aster=9, lily=20, rose=20, tulip=30), valid=0.2, test=0.2, seed=0)
    assert set(few) < set(many)


def test_order_and_labels_are_kept():
    dealt = deal(rows(lily=9, rose=9), valid=0.2, test=0.2, seed=0)
    assert [(row.id, row.label) for row in dealt] == [(row.id, row.label) for row in rows(lily=9, rose=9)]


def test_missing_split_comes_from_train():
    source = rows("train", lily=10, rose=10) + rows("test", lily=3, rose=2)
    dealt = deal(source, valid=0.2, test=0.5, seed=0)
    assert dealt[20:] == source[20:]
    assert counts(dealt[:20]) == {(a, b): n for a in ("lily", "rose") for b, n in (("train", 8), ("valid", 2))}


def test_complete_splits_are_kept():
    source = rows("train", lily=1, rose=1) + rows("valid", lily=1, rose=1) + rows("test", rose=1)
    assert deal(source, valid=0.3, test=0.3, seed=0) == source


@pytest.mark.parametrize(("valid", "test"), [(0.01, 0.01), (0.15, 0.15), (0.7, 0.2), (0.2, 0.7)])
def test_small_classes_are_in_every_split(valid, test):
    for size in (3, 4, 5):
        dealt = deal(rows(lily=size, rose=size), valid=valid, test=test, seed=0)
        assert len(counts(dealt)) == 6, f"{size} rows"


def test_one_class_is_refused():
    with pytest.raises(DataError, match=r"only one class \(rose\); expected examples of at least two"):
        deal(rows(rose=20), valid=0.2, test=0.2, seed=0)


@pytest.mark.parametrize(("size", "count"), [(1, "1 example;"), (2, "2 examples;")])
def test_too_small_class_is_refused(size, count):
    with pytest.raises(
        DataError, match=f"class 'lily' has {count} at least 3 are needed to deal train, valid and test"
    ):
        deal(rows(lily=size, rose=20), valid=0.2, test=0.2, seed=0)


def test_limit_is_drawn_by_the_seed():
    first, again, other = (limit_per_class(rows(lily=20, rose=3), limit=5, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert counts(first) == {("lily", None): 5, ("rose", None): 3}
    assert [row.id for row in first] == [row.id for row in rows(lily=20, rose=3) if row in first]


def test_limit_keeps_the_shares():
    source = rows("train", rose=60) + rows("valid", rose=30) + rows("test", rose=10)
    assert counts(limit_per_class(source, limit=10, seed=0)) == {
        ("rose", "train"): 6,
        ("rose", "valid"): 3,
        ("rose", "test"): 1,
    }
    assert counts(limit_per_class(source, limit=3, seed=0)).keys() == {
        ("rose", "train"),
        ("rose", "valid"),
        ("rose", "test"),
    }


@pytest.mark.parametrize("sizes", [(5, 5, 0), (40, 5, 5), (9, 9, 9), (100, 1, 1)])
def test_limit_holds_for_each_class(sizes):
    splits = zip(("train", "valid", "test"), sizes, strict=True)
    source = [row for split, size in splits for row in rows(split, rose=size)]
    kept = {limit: len(limit_per_class(source, limit=limit, seed=0)) for limit in range(3, 12)}
    assert all(count <= limit for limit, count in kept.items()), kept


def test_no_limit():
    assert limit_per_class(rows(lily=20), limit=None, seed=0) == rows(lily=20)


def test_counts_by_split_and_class():
    source = rows("train", rose=3, lily=2) + rows("valid", lily=1) + rows("test", rose=2)
    assert check(source) == {"train": {"lily": 2, "rose": 3}, "valid": {"lily": 1}, "test": {"rose": 2}}


@pytest.mark.parametrize("split", ["valid", "test"])
def test_class_without_training_rows(split):
    source = [row for name in ("train", "valid", "test") for row in rows(name, lily=2)]
    with pytest.raises(DataError, match="no readable training example of rose, tulip; add some"):
        check(source + rows(split, tulip=1, rose=1))


def test_class_without_rows_is_refused():
    source = [row for name in ("train", "valid", "test") for row in rows(name, lily=2)]
    with pytest.raises(DataError, match="no readable training example of rose; add some"):
        check(source, classes=("lily", "rose"))


def test_empty_split_is_refused():
    with pytest.raises(DataError, match="no example for the split test; give it a share of train"):
        check(rows("train", lily=2) + rows("valid", lily=1))


def test_limit_above_the_number_of_rows():
    source = rows("train", rose=60) + rows("valid", rose=30) + rows("test", rose=10)
    assert limit_per_class(source, limit=1000, seed=0) == source


def grouped(groups: dict[str, dict[str, int]]) -> list[Row]:
    """Rows of groups: {group: {class: count}}."""
    return [
        Row(f"{group}/{label}/{i}", label, None, group)
        for group, held in groups.items()
        for label, count in held.items()
        for i in range(count)
    ]


def test_groups_stay_together():
    rng = random.Random(0)
    people = grouped({f"p{n}": {"lily": rng.randint(1, 6), "rose": rng.randint(0, 9)} for n in range(60)})
    dealt = deal(people, valid=0.2, test=0.2, seed=0)
    assert all(len({row.split for row in dealt if row.group == group}) == 1 for group in {row.group for row in dealt})
    for label in ("lily", "rose"):
        sizes = Counter(row.split for row in dealt if row.label == label)
        assert all(abs(sizes[name] / sizes.total() - share) < 0.05 for name, share in (("valid", 0.2), ("test", 0.2)))


def test_rows_without_a_group():
    mixed = grouped({"p1": {"lily": 10, "rose": 10}}) + rows(lily=30, rose=30)
    dealt = deal(mixed, valid=0.2, test=0.2, seed=0)
    assert len({row.split for row in dealt[:20]}) == 1
    assert Counter(row.split for row in dealt) == {"train": 48, "valid": 16, "test": 16}


def test_row_follows_its_group():
    source = [*rows("train", lily=4, rose=4), *rows("valid", lily=1, rose=1), *rows("test", lily=1, rose=1)]
    source += [Row("a", "lily", "test", "ann"), Row("b", "rose", None, "ann")]
    assert deal(source, valid=0.2, test=0.2, seed=0)[-1].split == "test"


def test_group_in_two_splits_is_refused():
    source = [*rows(lily=9, rose=9), Row("a", "lily", "train", "ann"), Row("b", "rose", "test", "ann")]
    with pytest.raises(DataError, match=r"group 'ann' is in two splits \(train and test, such as b\)"):
        deal(source, valid=0.2, test=0.2, seed=0)


def test_added_row_moves_few_others():
    before = {row.id: row.split for row in deal(rows(lily=200, rose=200), valid=0.15, test=0.15, seed=0)}
    after = {row.id: row.split for row in deal(rows(lily=201, rose=200), valid=0.15, test=0.15, seed=0)}
    assert sum(before[name] != after[name] for name in before) <= 2


def test_copies_go_into_one_split():
    source = rows(lily=40, rose=40)
    copies = [[source[3].id, source[50].id], [source[n].id for n in (7, 8, 9)]]
    dealt = {row.id: row.split for row in deal(source, valid=0.3, test=0.3, seed=0, copies=copies)}
    assert all(len({dealt[id] for id in ids}) == 1 for ids in copies)


def test_copies_move_few_others():
    source = rows(lily=200, rose=200)
    before = {row.id: row.split for row in deal(source, valid=0.15, test=0.15, seed=0)}
    copies = [[source[3].id, source[4].id]]
    after = {row.id: row.split for row in deal(source, valid=0.15, test=0.15, seed=0, copies=copies)}
    assert sum(before[id] != after[id] for id in before) <= 3


def test_copies_without_a_split_follow():
    source = [*rows("train", lily=5, rose=5), *rows("test", lily=2, rose=2), Row("new", "rose")]
    dealt = deal(source, valid=0.2, test=0.2, seed=0, copies=[["test/rose/0", "new"]])
    assert dealt[-1].split == "test"


def test_copies_across_given_splits_stay():
    source = [*rows("train", lily=5, rose=5), *rows("valid", lily=2, rose=2), *rows("test", lily=2, rose=2)]
    assert deal(source, valid=0.2, test=0.2, seed=0, copies=[["train/rose/0", "test/rose/1"]]) == source


def test_copies_join_groups():
    people = grouped({f"p{n}": {"lily": 2, "rose": 2} for n in range(30)})
    copies = [["p0/lily/0", "p1/rose/1"], ["p1/lily/0", "p2/lily/1"]]
    dealt = deal(people, valid=0.2, test=0.2, seed=0, copies=copies)
    assert len({row.split for row in dealt[:12]}) == 1
    assert [row.group for row in dealt] == [row.group for row in people]


def test_class_of_copies_is_too_small():
    source = rows(lily=4, rose=9)
    with pytest.raises(DataError, match=r"class 'lily' has 1 example, apart from 3 copies of others; at least 3 are"):
        deal(source, valid=0.2, test=0.2, seed=0, copies=[[row.id for row in source[:4]]])


def test_missing_train_is_refused():
    with pytest.raises(DataError, match="no example for the split train, only valid and test; add a folder train"):
        check(rows("valid", lily=2) + rows("test", lily=1))
