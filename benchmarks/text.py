"""How fast reviews are encoded, beside the course's way: python benchmarks/text.py PATH_TO_aclImdb.tar.gz

Ours is timed on all reviews, the course's on a few hundred of them. Both run on one core, and the time compared is
the time they had it. Needs nltk; without BeautifulSoup the course's way is timed with the parser that it stands on.
"""

import argparse
import importlib.util
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from time import perf_counter, process_time
from types import SimpleNamespace

import nltk
from nltk.corpus import stopwords
from nltk.stem.porter import PorterStemmer

from flowerml.data.examples import Example
from flowerml.tasks.text.encoder import Encoder, cleaning

STEPS = {"strip_html": True, "lower_case": True, "letters_and_digits": True, "stop_words": "drop", "stem": True}
SECTION = SimpleNamespace(**STEPS, vocab_size=5000, max_length=500, max_words=1500)
LIMITS = SimpleNamespace(characters=1_000_000)


def read(archive: Path) -> list[Example]:
    with tarfile.open(archive) as tar:
        members = ((re.search(r"(train|test)/(pos|neg)/(\d+)_\d+\.txt$", member.name), member) for member in tar)
        return [Example(m[3], m[1], m[2], tar.extractfile(member).read().decode()) for m, member in members if m]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and on the core."""
    clock, core = perf_counter(), process_time()
    work()
    return perf_counter() - clock, process_time() - core


def encode_all(examples: list[Example]) -> None:
    encoder = Encoder.fit((example for example in examples if example.split == "train"), SECTION, LIMITS)
    sum(1 for _ in encoder.encode(examples, SECTION))


def without_beautiful_soup(markup: str) -> str:
    pieces, parser = [], HTMLParser()
    parser.handle_data = pieces.append
    parser.feed(markup)
    parser.close()
    return "".join(pieces)


def course(nltk_data: Path) -> Callable[[str], list[str]]:
    """The course's review_to_words, with our copy of the stop words so that none are asked of the network."""
    bs4 = importlib.import_module("bs4") if importlib.util.find_spec("bs4") else None
    (nltk_data / "corpora" / "stopwords").mkdir(parents=True)
    shutil.copy(Path(cleaning.__file__).with_name("stop_words.txt"), nltk_data / "corpora" / "stopwords" / "english")
    nltk.data.path.insert(0, str(nltk_data))

    def review_to_words(review: str) -> list[str]:
        text = bs4.BeautifulSoup(review, "html.parser").get_text() if bs4 else without_beautiful_soup(review)
        words = re.sub(r"[^a-zA-Z0-9]", " ", text.lower()).split()
        words = [word for word in words if word not in stopwords.words("english")]
        return [PorterStemmer().stem(word) for word in words]

    return review_to_words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--course-reviews", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    examples = read(arguments.archive)
    some = [example.raw for example in examples[:: max(1, len(examples) // arguments.course_reviews)]]
    clock, core = timed(lambda: encode_all(examples))
    encoder = Encoder.fit(examples, SECTION, LIMITS)
    prepare = min(timed(lambda: [encoder.prepare(text) for text in some])[1] for _ in range(5))
    with tempfile.TemporaryDirectory() as folder:
        review_to_words = course(Path(folder))
        review_to_words("The first review opens the list.")
        theirs = timed(lambda: [review_to_words(text) for text in some])[1] / len(some)
    result = {
        **{"reviews": len(examples), "fit and encode, s": clock, "on one core, s": core},
        **{"one review, ms": 1e3 * core / len(examples), "prepare, ms": 1e3 * prepare / len(some)},
        **{"course, one review, ms": 1e3 * theirs, "course, reviews": len(some)},
        **{"times as fast": theirs * len(examples) / core},
    }
    table = "\n".join(f"{name:24}{value:12,.6g}" for name, value in result.items())
    print(json.dumps(result, indent=2) if arguments.json else table)


if __name__ == "__main__":
    main()
