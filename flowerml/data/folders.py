"""Which folders of a source are splits and which are classes, judged by the names of all files.

torchvision's ImageFolder takes the first folder for the class, so that train/ and test/ become two classes that are
told apart at 100 %. Here such a layout is read by its splits, or refused where two readings are possible.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from flowerml.core.display import preview_list, printable

SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
}
# What people write beside the name of a split, so that `test_set` needs no `train_set` to be understood.
FILLERS = frozenset(
    """
    set sets subset split folder dir data dataset simple full small sample samples example examples
    file files image images img imgs pic pics picture pictures photo photos text texts
    """.split()  # noqa: SIM905 (29 quoted words, one a line, would hide the few lines below)
)
JOINED = re.compile(rf"({'|'.join(sorted(SPLITS, key=len, reverse=True))})(sets?|data|images)")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
WORD = re.compile(r"[^\W\d_]+")  # numbers do not count: train2017, test1
NUMBERED = re.compile(r"(?P<name>.*?[^\W\d_].*?)[\s._-]*\(?\d+\)?")
SHOWN = 3  # names in a message
MOST_CLASSES_IN_NAMES = 0.5  # of the files: more would be a name for each
CLEAR_MAJORITY = 0.9  # of the files that must be named like classes
TABLE = "list the files in a CSV with the columns file and label, and give it with --set data.split.table=FILE"
NO_CLASS_FOLDER = "not in a class folder"


class LayoutError(ValueError):
    """A layout with more than one reading, or with none; the message lacks the source."""


@dataclass(frozen=True)
class Place:
    """The class folder of a file, and the split of the folder above it or below it."""

    label: str
    split: str | None = None


def split_name(name: str) -> str | None:
    """Return the split that a name alone stands for; None where it may be another word.

    >>> split_name("Training"), split_name("test_set"), split_name("bullet_train")
    ('train', 'test', None)
    """
    split, other_words = _parsed(name)
    return None if other_words else split


def split_names(names: Collection[str]) -> dict[str, str]:
    """Return the split of each name that stands for one, alone or beside the same words with another split.

    >>> split_names(["seg_train", "seg_test", "seg_pred"])
    {'seg_train': 'train', 'seg_test': 'test'}
    """
    parsed = {name: _parsed(name) for name in names}
    beside = defaultdict(set)
    for split, other_words in parsed.values():
        if split:
            beside[other_words].add(split)
    return {
        name: split
        for name, (split, other_words) in parsed.items()
        if split and (not other_words or len(beside[other_words]) > 1)
    }


def _parsed(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the only split among the words of a name, if any, and the words that are neither it nor fillers."""
    words = [word.lower() for word in WORD.findall(CAMEL.sub("_", name))]
    words = [match[1] if (match := JOINED.fullmatch(word)) else word for word in words]
    splits = {SPLITS[word] for word in words if word in SPLITS}
    others = tuple(word for word in words if word not in SPLITS and word not in FILLERS)
    return (splits.pop(), others) if len(splits) == 1 else (None, others)


class Tree:
    """The folders that hold files, at any depth. Paths have no slash at their ends, and the root's is empty."""

    def __init__(self, names: Iterable[str]) -> None:
        self.children: dict[str, set[str]] = defaultdict(set)
        self.holding: set[str] = set()
        """Folders with files directly in them."""
        for name in names:
            folder = name.rpartition("/")[0]
            if folder in self.holding:
                continue
            self.holding.add(folder)
            while folder:
                above, _, last = folder.rpartition("/")
                if last in self.children.get(above, ()):
                    break
                self.children[above].add(last)
                folder = above

    def folders(self, folder: str) -> set[str]:
        """Return the names of the folders in a folder."""
        return self.children.get(folder, set())

    def is_wrapper(self, folder: str) -> bool:
        """Return whether a folder holds only folders, and several of them."""
        return len(self.folders(folder)) > 1 and folder not in self.holding

    def unwrapped(self, folder: str) -> str:
        """Return the folder in which several folders lie, if only one lies in each of those around it."""
        while len(self.folders(folder)) == 1 and self.is_wrapper(inner := join(folder, *self.folders(folder))):
            folder = inner
        return folder

    def enclosing(self) -> str:
        """Return the deepest folder around everything but stray files: its folders are splits or classes."""
        folder = ""
        while len(self.folders(folder)) == 1:
            inner = join(folder, *self.folders(folder))
            if not self.folders(inner):
                break
            folder = inner
        return folder


def join(*folders: str) -> str:
    """Return folders as one path; the root is empty."""
    return "/".join(folder for folder in folders if folder)


@dataclass(frozen=True)
class Layout:
    """The arrangement of a source's folders.

    `splits` maps the folders in `top` that are splits; `bases` gives the folder that holds a split's class folders.
    With `classes_above_splits` it is the other way round: CLASS/train/FILE.
    """

    top: str
    splits: Mapping[str, str]
    bases: Mapping[str, str]
    classes_above_splits: bool = False

    def place(self, name: str) -> Place | str:
        """Return the class and the split of a file, or why it has none."""
        parts = name[len(self.top) :].lstrip("/").split("/") if self.top else name.split("/")
        if self.top and not name.startswith(f"{self.top}/"):
            return NO_CLASS_FOLDER
        if self.classes_above_splits:
            split = self.splits.get(parts[1]) if len(parts) > 2 else None
            return Place(parts[0], split) if split else f"not in {preview_list(sorted(self.splits))} of its class"
        if len(parts) < 2:
            return NO_CLASS_FOLDER
        if not self.splits:
            return Place(parts[0])
        split = self.splits.get(parts[0])
        if split is None:
            beside = preview_list([printable(name) for name in sorted(self.splits)], SHOWN)
            return f"beside {beside}, but {printable(parts[0])!r} does not name a split (train, valid or test)"
        base = f"{self.bases[parts[0]]}/"
        below = name[len(base) :].split("/") if name.startswith(base) else []
        return Place(below[0], split) if len(below) > 1 else NO_CLASS_FOLDER


def layout(names: Collection[str]) -> Layout:
    """Return how these files are laid out: [top/][SPLIT/]CLASS/[…/]FILE or CLASS/SPLIT/FILE.

    Raises LayoutError where folders can be read as splits or as classes, and where classes are in the files' names.
    """
    tree = Tree(names)
    top = tree.enclosing()
    folders = sorted(tree.folders(top))
    deep = [name for name in folders if tree.folders(join(top, name))]
    splits = split_names(folders)
    _check_split_folders(tree, top, folders, deep, splits, names)
    if _are_splits(folders, deep, splits):
        return Layout(top, splits, _bases(tree, top, splits))
    inner = [tree.folders(join(top, name)) for name in folders]
    inner_splits = split_names(set().union(*inner)) if len(folders) > 1 else {}
    if _each_has_splits(inner, inner_splits):
        _check_classes_above_splits(tree, top, folders, inner, inner_splits)
        return Layout(top, inner_splits, {}, classes_above_splits=True)
    _check_alike(folders, [tree.folders(tree.unwrapped(join(top, name))) for name in folders])
    if len(folders) < 2:
        _check_file_names(names)
    return Layout(top, {}, {})


def unlabelled_splits(names: Collection[str]) -> dict[str, str] | None:
    """Return the split of each file where all of them are in folders of splits; None where not. Classes don't count."""
    tree = Tree(names)
    top = tree.enclosing()
    splits = split_names(tree.folders(top))
    start = len(top) + 1 if top else 0
    named = set(splits.values())
    if top in tree.holding or set(splits) != tree.folders(top) or ("train" not in named and len(named) < 2):
        return None
    below = f"{top}/" if top else ""
    if not all(name.startswith(below) for name in names):
        return None
    return {name: splits[name[start:].partition("/")[0]] for name in names}


def classes_in_names(names: Iterable[str]) -> list[str]:
    """Return the classes that file names begin with, as in cat.0.jpg and dog.1.jpg; empty where there are none.

    >>> classes_in_names(["train/cat.0.jpg", "train/cat.1.jpg", "train/dog.0.jpg", "train/dog.1.jpg"])
    ['cat', 'dog']
    """
    stems = [name.rpartition("/")[2].rpartition(".")[0] for name in names]
    beginnings = Counter(match["name"] for stem in stems if (match := NUMBERED.fullmatch(stem)))
    classes = {name: count for name, count in beginnings.items() if count > 1}
    few = 1 < len(classes) <= MOST_CLASSES_IN_NAMES * len(stems)
    return sorted(classes) if few and sum(classes.values()) >= CLEAR_MAJORITY * len(stems) else []


def _are_splits(folders: list[str], deep: list[str], splits: Mapping[str, str]) -> bool:
    named = set(splits.values())
    return (
        any(name in splits for name in deep)
        and ("train" in named or len(named) > 1)
        and len(splits) >= len(folders) - len(splits)
    )


def _check_split_folders(
    tree: Tree, top: str, folders: list[str], deep: list[str], splits: Mapping[str, str], names: Collection[str]
) -> None:
    """Raise LayoutError where folders are called like splits but hold no classes, or are few beside others."""
    if not deep and len(splits) == len(folders) and len(set(splits.values())) > 1:
        _check_file_names(names)
        raise LayoutError(
            f"the folders {_shown(folders)} are called like splits but hold no class folders; put the files in "
            f"{printable(folders[0])}/CLASS/, rename the folders if they are classes, or {TABLE}"
        )
    deep_splits = [name for name in deep if name in splits]
    others = [name for name in folders if name not in splits]
    if not deep_splits or len(splits) >= len(others):
        return
    inner = tree.folders(join(top, deep_splits[0]))
    related = [name for name in others if inner & tree.folders(join(top, name))]
    if len(inner) > 1 and (related or len(deep) == len(deep_splits)):
        raise LayoutError(
            f"{printable(deep_splits[0])!r} may be a split or a class: it holds the folders {_shown(inner)}, and "
            f"beside it are {_shown(others)}; if it is a split, remove the others, if it is a class, put its files "
            f"directly in it, or {TABLE}"
        )


def _bases(tree: Tree, top: str, splits: Mapping[str, str]) -> dict[str, str]:
    """Return for each split the folder that holds its classes: itself, or one around all its classes."""
    bases = {name: join(top, name) for name in splits}
    while True:
        held = {name: tree.folders(base) for name, base in bases.items()}
        all_held = set().union(*held.values())
        deeper = dict(bases)
        if len(all_held) == 1:  # train/images/rose and test/images/rose: the one class would be `images`
            inner = {name: join(base, *all_held) for name, base in bases.items()}
            if any(tree.is_wrapper(base) for base in inner.values()):
                deeper = inner
        else:
            for name, base in bases.items():
                elsewhere = set().union(*(held[other] for other in held if other != name))
                if len(held[name]) == 1 and not held[name] & elsewhere:
                    (only,) = held[name]
                    again = only.casefold() == name.casefold() or split_name(only) == splits[name]
                    if again or tree.is_wrapper(join(base, only)):
                        deeper[name] = join(base, only)
        if deeper == bases:
            return bases
        bases = deeper


def _each_has_splits(inner: list[set[str]], splits: Mapping[str, str]) -> bool:
    return len(inner) > 1 and all(len({splits[name] for name in held if name in splits}) > 1 for held in inner)


def _check_classes_above_splits(
    tree: Tree, top: str, folders: list[str], inner: list[set[str]], splits: Mapping[str, str]
) -> None:
    deeper = any(tree.folders(join(top, name, split)) for name in folders for split in tree.folders(join(top, name)))
    more = set().union(*inner) - set(splits)
    if deeper or more:
        raise LayoutError(
            f"the folders {_shown(folders)} each hold {_shown(set().union(*inner))}, so that classes and splits cannot "
            f"be told apart; expected train/CLASS/FILE or CLASS/train/FILE: move the files, or {TABLE}"
        )


def _check_alike(folders: list[str], inner: list[set[str]]) -> None:
    if len(folders) < 2 or not all(inner):
        return
    shared = set.intersection(*inner)
    if len(shared) > 1 and 2 * len(shared) >= len(set.union(*inner)):
        raise LayoutError(
            f"the folders {_shown(folders)} all hold {_shown(shared)}, so that it is not clear which are the classes; "
            f"if the outer ones are splits, rename them to train, valid and test; else move the files to CLASS/FILE, "
            f"or {TABLE}"
        )


def _check_file_names(names: Collection[str]) -> None:
    classes = classes_in_names(names)
    if classes:
        raise LayoutError(
            f"the classes seem to be in the files' names ({_shown(classes)}), not in their folders; move the files to "
            f"CLASS/FILE, or {TABLE}"
        )


def _shown(names: Iterable[str]) -> str:
    return preview_list([printable(name) for name in sorted(names)], SHOWN)
