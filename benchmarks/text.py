"""Time the encoding of reviews against the course's code: python benchmarks/text.py PATH_TO_aclImdb.tar.gz

Ours is timed on all reviews, the course's on a few hundred. Both run on one core, and CPU times are compared. Needs
nltk; without BeautifulSoup the course's code is timed with Python's own HTML parser, on which BeautifulSoup builds.
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


def time_call(call: Callable[[], object]) -> tuple[float, float]:
    """Return wall-clock and CPU seconds."""
    wall, cpu = perf_counter(), process_time()
    call()
    return perf_counter() - wall, process_time() - cpu


def encode_all(examples: list[Example]) -> None:
    encoder = Encoder.fit((example for example in examples if example.split == "train"), SECTION, LIMITS)
    sum(1 for _ in encoder.encode(examples, SECTION))


def parser_text(markup: str) -> str:
    pieces, parser = [], HTMLParser()
    parser.handle_data = pieces.append
    parser.feed(markup)
    parser.close()
    return "".join(pieces)


def course_function(nltk_data: Path) -> Callable[[str], list[str]]:
    """Return the course's review_to_words, with our copy of the stop words so that nothing is downloaded."""
    bs4 = importlib.import_module("bs4") if importlib.util.find_spec("bs4") else None
    (nltk_data / "corpora" / "stopwords").mkdir(parents=True)
    shutil.copy(Path(cleaning.__file__).with_name("stop_words.txt"), nltk_data / "corpora" / "stopwords" / "english")
    nltk.data.path.insert(0, str(nltk_data))

    def review_to_words(review: str) -> list[str]:
        text = bs4.BeautifulSoup(review, "html.parser").get_text() if bs4 else parser_text(review)
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
    sample = [example.raw for example in examples[:: max(1, len(examples) // arguments.course_reviews)]]
    wall, cpu = time_call(lambda: encode_all(examples))
    encoder = Encoder.fit(examples, SECTION, LIMITS)
    transform = min(time_call(lambda: [encoder.preprocessing.transform(text) for text in sample])[1] for _ in range(5))
    with tempfile.TemporaryDirectory() as folder:
        review_to_words = course_function(Path(folder))
        review_to_words("The first review opens the list.")
        course_seconds = time_call(lambda: [review_to_words(text) for text in sample])[1] / len(sample)
    result = {
        "reviews": len(examples),
        "fit and encode, s": wall,
        "on one core, s": cpu,
        "one review, ms": 1e3 * cpu / len(examples),
        "prepare, ms": 1e3 * transform / len(sample),
        "course, one review, ms": 1e3 * course_seconds,
        "course, reviews": len(sample),
        "times as fast": course_seconds * len(examples) / cpu,
    }
    table = "\n".join(f"{name:24}{value:12,.6g}" for name, value in result.items())
    print(json.dumps(result, indent=2) if arguments.json else table)


if __name__ == "__main__":
    main()
