import importlib.util
import json
import random
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from flowerml.core.errors import InputError
from flowerml.data.examples import Example
from flowerml.tasks.text import sample
from flowerml.tasks.text.encoder import Encoder
from flowerml.tasks.text.encoder.cleaning import NEGATIONS, STOP_WORDS, Cleaning, text_lines
from flowerml.tasks.text.encoder.preprocessing import MAX_CHARACTERS, Preprocessing
from flowerml.tasks.text.encoder.stemming import stem
from flowerml.tasks.text.encoder.vocabulary import Vocabulary
from flowerml.tasks.text.sections import Encode

STEPS = {"strip_html": True, "lower_case": True, "letters_and_digits": True, "stop_words": "drop", "stem": True}
REVIEW = (
    "One of my favorite movies which has been overlooked by too many movie goers, an observation "
    "which I don't understand."
)


def section(**changes: object) -> Encode:
    return Encode(**{**STEPS, "vocab_size": 5000, "max_length": 500, "max_words": 1500, **changes})


LIMITS = SimpleNamespace(characters=MAX_CHARACTERS)


def fit_encoder(*texts: str, **changes: object) -> Encoder:
    examples = [Example(str(n), "train", "pos", text) for n, text in enumerate(texts)]
    return Encoder.fit(examples, section(**changes), LIMITS)


def fitted(*texts: str, **changes: object) -> Preprocessing:
    return fit_encoder(*texts, **changes).preprocessing


def stems(text: str, **changes: object) -> list[str]:
    """Return the stems of a text with its own dictionary."""
    preprocessing = fitted(text, **changes)
    return preprocessing.visualize(preprocessing.transform(text)).split()


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [sample.compose(label, rng=random.Random(f"{label}/{n}")) for label in ("pos", "neg") for n in range(150)]


def test_words_of_the_course():
    assert stems(REVIEW) == ["one", "favorit", "movi", "overlook", "mani", "movi", "goer", "observ", "understand"]
    assert stems("No end.<br /><br />Begin!") == ["end", "begin"]
    assert stems("an observation<br />which") == ["observationwhich"]


def test_stems_equal_nltk(texts):
    porter = pytest.importorskip("nltk.stem.porter").PorterStemmer()
    endings = (
        "s ies sses ed eed ied ing ational izer bli alli eli ization fulli logi icate ness er ement sion ly y ll e"
    )
    starts = "a y ay by sky die tr oat hop fil fall hiss fizz control prob geo theo enjo happ agr ab abc multidimens"
    words = {word for text in texts for word in Cleaning(**STEPS).words([text])} | set(STOP_WORDS)
    words |= {start + ending for start in starts.split() for ending in endings.split()}
    words |= {"skies", "dying", "news", "innings", "howe", "succeed", "dies", "spied", "is", "naïves", "007s", "ınging"}
    assert {word: stem(word) for word in words} == {word: porter.stem(word) for word in words}


def test_html_is_removed():
    assert text_lines("Tom & Jerry < 5 <3") == ["Tom & Jerry < 5 <3"]
    assert text_lines("end.<br /><br />Begin<BR>again") == ["end.", "", "Begin", "again"]
    assert text_lines("AT&T &amp; R&D &quot;&#65;&#x42;&#150;&eacute &foo;") == ['AT&T & R&D "AB–é &foo']
    assert text_lines("a<i class='x>y'>b</i>c<!-- no --><script>no</script>d") == ["abcd"]
    assert text_lines("<ruby>a<rt>no</ruby>b <p>c</b> <unclosed") == ["ab c <unclosed"]


def test_broken_markup_is_read_in_time():
    assert text_lines("a<b>c</b> &amp;" + "<a b" * 10_000)[0].startswith("ac &")
    assert text_lines(f"a &#{'1' * 5000}; b<i>c") == ["a  bc"]
    assert text_lines("<![if x y z") != []


def get_text(markup: str) -> str:
    """Return the text of BeautifulSoup or, where it is not installed, of the parser it builds on."""
    if importlib.util.find_spec("bs4"):
        return importlib.import_module("bs4").BeautifulSoup(markup, "html.parser").get_text()
    pieces: list[str] = []
    parser = HTMLParser()
    parser.handle_data = pieces.append
    parser.feed(markup)
    parser.close()
    return "".join(pieces)


def test_text_equals_beautiful_soup(texts):
    for text in (*texts, "x<y>&amp;z</y>", "<p>1<br>2<hr/>3</p>&#8217; A&W.", "1 < 2 > 1 & <!-- x --> &lt;br /&gt;"):
        assert "".join(text_lines(text)) == get_text(text)


def test_each_step_is_optional():
    assert len(STOP_WORDS) == 179 and {"no", "not", "don", "isn't"} < NEGATIONS < STOP_WORDS
    assert stems("It isn't not movies") == ["movi"]
    assert stems("It isn't not movies", stop_words="keep_negations") == ["isn", "not", "movi"]
    assert stems("It isn't not movies", stop_words="keep") == ["it", "isn", "t", "not", "movi"]
    assert stems("two Movies", stem=False) == ["two", "movies"]
    assert stems("The Movies", lower_case=False) == ["The", "Movi"]
    assert stems("<b>café</b>") == ["caf"]
    assert stems("<b>café</b>", strip_html=False, letters_and_digits=False) == ["b", "café", "b"]


def test_frequent_stems_get_codes():
    preprocessing = fitted("zebra apple movies apple", "film movie quiet", vocab_size=5)
    assert preprocessing.vocabulary == Vocabulary(("appl", "movi", "zebra"))
    prepared = preprocessing.transform("the zebra, apples and a quiet film")
    assert prepared["stems"].tolist() == [4, 2, 1, 1]
    assert preprocessing.visualize(prepared) == "zebra appl <infrequent> <infrequent>"


def test_sequence_lengths_are_bounded():
    preprocessing = fitted("good bad", max_length=3, max_words=4)
    long, empty = preprocessing.transform("the good the bad the good the bad"), preprocessing.transform("the")
    assert long["stems"].tolist() == [2, 3, 2] and len(long["words"]) == 4
    assert empty["stems"].tolist() == [1] and len(empty["words"]) == 1
    assert {array.dtype for array in long.values()} == {np.dtype(np.int32)}


def test_word_hashes_are_stateless():
    first, second = fitted("x"), fitted("quite another text")
    words = first.transform("Don’t go, they'd\nsay!<br />DON'T _go_ \ud800")["words"].tolist()
    assert words == second.transform("don't go , they'd say ! don't go \ud800")["words"].tolist()
    assert words[0] == words[6] == 103882927 and min(words) > 0


def test_encode_equals_transform(texts):
    examples = [Example(str(n), "train", "pos", text) for n, text in enumerate([*texts, ""])]
    encoder = Encoder.fit(examples, section(), LIMITS)
    encoded = list(encoder.encode(iter(examples), section()))
    assert encoded[-1]["stems"].tolist() == encoded[-1]["words"].tolist() == [1]
    for text, row in zip(texts, encoded, strict=False):
        assert row.keys() == encoder.columns.keys()
        assert all(np.array_equal(array, encoder.preprocessing.transform(text)[name]) for name, array in row.items())


def test_saved_encoder_is_equal(tmp_path):
    encoder = fit_encoder(REVIEW, stop_words="keep", max_length=7)
    encoder.preprocessing.transform(REVIEW)
    encoder.save(tmp_path / "encoder")
    assert Encoder.load(tmp_path / "encoder") == encoder
    assert Preprocessing.from_state(json.loads(json.dumps(encoder.state())), {}) == encoder.preprocessing


def test_batches_are_padded_right():
    preprocessing = fitted("good film bad")
    batch = preprocessing.collate([preprocessing.transform("good film"), preprocessing.transform("bad")])
    assert batch["stems"].tolist() == [[2, 3], [4, 0]] and batch["stem_lengths"].tolist() == [2, 1]
    assert batch["words"].shape == (2, 2) and batch["word_lengths"].tolist() == [2, 1]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}
    one, three = preprocessing.random_inputs(1, seed=0), preprocessing.random_inputs(3, seed=0)
    assert all(one[name].shape[1] != three[name].shape[1] for name in ("stems", "words"))


def test_graph_passes_what_network_reads(tmp_path):
    torch = pytest.importorskip("torch")
    from flowerml.engine import onnx

    class Lengths(torch.nn.Module):
        reads = ("word_lengths", "stem_lengths")

        def forward(self, words, stems):
            return torch.stack([words, stems], dim=1).float()

    encoder = fit_encoder("good film bad")
    one, three = (encoder.preprocessing.random_inputs(count, seed=count) for count in (1, 3))
    onnx.export(encoder.graph(Lengths()), tmp_path / "graph.onnx", trace=one, check=three, output="logits")
    logits = onnx.runner(tmp_path / "graph.onnx")(three)
    assert logits.tolist() == np.stack([three["word_lengths"], three["stem_lengths"]], axis=1).tolist()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"bytes", "unknown_input"),
        (None, "unknown_input"),
        ("", "empty_text"),
        (" \n", "empty_text"),
        ("a" * (MAX_CHARACTERS + 1), "text_too_long"),
    ],
)
def test_invalid_input_is_refused(raw, code):
    with pytest.raises(InputError) as raised:
        fitted("good").transform(raw)
    assert raised.value.code == code


def test_import_is_light():
    program = (
        "import sys, flowerml.tasks.text.encoder; print(sorted({'nltk', 'torch', 'pyarrow', 'bs4'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_characters_of_the_words_are_kept():
    preprocessing = fitted("Don’t <b>PANIC</b>!", characters=100)
    codes = preprocessing.transform("Don’t <b>PANIC</b>!")["characters"]
    assert "".join(map(chr, codes)) == " don't panic ! "
    assert len(fitted("a film", characters=5).transform("a film")["characters"]) == 5


def test_long_texts_keep_no_characters():
    long, short = "a long film " * 60, "a short one"
    assert "characters" in fitted(short, short, long, characters=100).transform(short)
    encoder = fit_encoder(long, long, short, characters=100)
    assert "characters" not in encoder.preprocessing.transform(short)
    assert "characters" not in encoder.columns


def test_characters_survive_saving():
    preprocessing = fitted("a film", characters=100)
    assert Preprocessing.from_state(preprocessing.state(), {}) == preprocessing
    assert "characters" not in fitted("a film").state()  # as in older classifiers
