"""Pretrained encoders of texts: features, whatever the family, the batch and the engine."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel

from flowerml.core.errors import ModelError
from flowerml.data import encodings
from flowerml.data.encodings import EncodingCache
from flowerml.data.examples import Key
from flowerml.engine import onnx
from flowerml.tasks.text.encoder import Encoder
from flowerml.tasks.text.encoder.backbone import build
from flowerml.tasks.text.encoder.backbone.features import OnnxEngine, TorchEngine
from tests.support.encoders import (
    FAMILIES,
    LIMITS,
    SENTENCES,
    add_pooling,
    examples,
    fit,
    section,
    tokenizer,
    write_encoder,
)

TEXTS = (*SENTENCES, "Dull!", "film " * 50, "日本 😀 \ud800")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folder of a tiny encoder of each family."""
    return {family: write_encoder(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


def padded(ids: list[np.ndarray], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.full((len(ids), max(map(len, ids))), padding)
    for row, text in enumerate(ids):
        tokens[row, : len(text)] = torch.from_numpy(text)
    return tokens, torch.tensor([len(text) for text in ids])


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_transformers(folders, family):
    built = build(section(folders[family]))
    tokens, lengths = padded([built.tokens.ids(text) for text in TEXTS], padding=1)
    original = AutoModel.from_pretrained(folders[family])  # with whatever attention is its default
    mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
    with torch.inference_mode():
        states = original(input_ids=tokens, attention_mask=mask).last_hidden_state
        mean = (states * mask[:, :, None]).sum(1) / lengths[:, None]
        expected = torch.nn.functional.normalize(mean, dim=1)
        torch.testing.assert_close(built.frozen(tokens, lengths), expected, atol=1e-5, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_gives_the_features_of_torch(folders, family, tmp_path):
    built = build(section(folders[family]))
    rng = np.random.default_rng(0)
    first, second = (
        {"tokens": rng.integers(0, 40, (count, size)), "token_lengths": np.arange(size, size - count, -1)}
        for count, size in ((1, 9), (3, 24))
    )
    onnx.export(built.frozen, tmp_path / "graph.onnx", trace=first, check=second, output="features")
    run = onnx.runner(tmp_path / "graph.onnx")
    alone = [
        run({"tokens": second["tokens"][row : row + 1, : 24 - row], "token_lengths": np.array([24 - row])})
        for row in range(3)
    ]
    np.testing.assert_allclose(np.concatenate(alone), run(second), atol=1e-5)


@pytest.mark.parametrize("engine", [OnnxEngine, lambda frozen: TorchEngine(frozen, "cpu")])
def test_features_depend_on_their_text_alone(folders, engine):
    built = build(section(folders["bert"]))
    extract = engine(built.frozen).extract
    together = dict(extract(lambda text: (text, built.tokens.ids(text)), TEXTS))
    alone = [next(extract(lambda text: (text, built.tokens.ids(text)), [text])) for text in TEXTS]
    assert [text for text, _ in alone] == list(TEXTS) == list(together)
    assert all(np.array_equal(together[text], features) for text, features in alone)


def test_both_engines_agree(folders):
    built = build(section(folders["bert"]))
    rows = [
        np.stack([row for _, row in engine.extract(lambda text: (text, built.tokens.ids(text)), TEXTS)])
        for engine in (OnnxEngine(built.frozen), TorchEngine(built.frozen, "cpu"))
    ]
    np.testing.assert_allclose(*rows, atol=1e-5)


def test_a_saved_encoder_gives_the_same_bits(folders, tmp_path):
    encoder = fit(folders["modernbert"], prefix="query: ")
    encoder.save(tmp_path / "encoder")
    loaded = Encoder.load(tmp_path / "encoder")
    chosen = section(folders["modernbert"], prefix="query: ")
    assert loaded.fingerprint(chosen, "train") == encoder.fingerprint(chosen, "train")
    rows = [list(each.encode(examples(*TEXTS), chosen)) for each in (encoder, loaded)]
    for row, again in zip(*rows, strict=True):
        assert row["features"].shape == (1, 16)
        assert all(np.array_equal(row[name], again[name]) for name in encoder.columns)


@pytest.mark.parametrize(
    "changes", [{"prefix": "film "}, {"max_tokens": 9}, {"pooling": "max"}], ids=["prefix", "max_tokens", "pooling"]
)
def test_fingerprints_cover_what_features_depend_on(folders, changes):
    before = fit(folders["bert"]).fingerprint(section(folders["bert"]), "train")
    assert fit(folders["bert"], **changes).fingerprint(section(folders["bert"], **changes), "train") != before


def test_other_weights_change_the_fingerprint(folders, tmp_path):
    folder = write_encoder(tmp_path / "other")
    network = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        network.embeddings.word_embeddings.weight[5] += 0.1
    network.save_pretrained(folder)
    assert fit(folder).fingerprint(section(folder), "train") != fit(folders["bert"]).fingerprint(
        section(folders["bert"]), "train"
    )


def test_known_features_are_not_computed(folders):
    encoder, chosen = fit(folders["bert"]), section(folders["bert"])
    marks = np.full((1, 16), 7, np.float32)
    known = {example.digest: {"features": marks} for example in examples(*TEXTS[:2])}
    rows = list(encoder.encode(examples(*TEXTS[:3]), chosen, known=lambda digest: known.get(digest, {})))
    assert [bool((row["features"] == marks).all()) for row in rows] == [True, True, False]


def test_a_new_dictionary_keeps_the_features(folders, tmp_path):
    chosen = section(folders["bert"])
    first, second = (Encoder.fit(examples(*texts), chosen, LIMITS) for texts in (SENTENCES[:1], SENTENCES))
    assert first.fingerprint(chosen, "train") != second.fingerprint(chosen, "train")
    assert first.parts(chosen) == second.parts(chosen)
    path, columns = tmp_path / "encoded.arrow", first.columns
    keys = [Key(row.id, row.split, row.label, row.digest) for row in examples(*SENTENCES)]
    rows = list(first.encode(examples(*SENTENCES), chosen))
    before, now = ({"train": encoder.fingerprint(chosen, "train")} for encoder in (first, second))
    encodings.write(path, zip(keys, rows, strict=True), columns=columns, fingerprints=before, parts=first.parts(chosen))
    cache = EncodingCache(path, columns=columns, fingerprints=now, parts=second.parts(chosen))
    assert keys[0] not in cache
    assert np.array_equal(cache.part(keys[0].digest)["features"], rows[0]["features"])
    assert cache.part("of another text") == {}
    other = EncodingCache(path, columns=columns, fingerprints=now, parts={"features": "of other weights"})
    assert other.part(keys[0].digest) == {}


@pytest.mark.parametrize(
    ("flags", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_max_tokens": True}, "max"),
    ],
)
def test_pooling_is_that_of_sentence_transformers(tmp_path, flags, pooling):
    add_pooling(write_encoder(tmp_path), **flags)
    facts = build(section(tmp_path)).facts
    assert (facts["pooling"], facts["normalize"]) == (pooling, True)
    assert build(section(tmp_path, pooling="mean")).facts["pooling"] == "mean"


def test_an_unknown_pooling_is_refused(tmp_path):
    add_pooling(write_encoder(tmp_path), pooling_mode_weightedmean_tokens=True)
    with pytest.raises(ModelError, match=r"pools by pooling_mode_weightedmean_tokens.*encode\.pooling: mean, cls, max"):
        build(section(tmp_path))


@pytest.mark.parametrize("form", ["bin", "shards"])
def test_other_forms_of_weights(folders, tmp_path, form):
    expected = build(section(folders["bert"])).frozen.state_dict()
    network = AutoModel.from_pretrained(folders["bert"])
    folder = write_encoder(tmp_path)
    (folder / "model.safetensors").unlink()
    if form == "bin":
        torch.save(network.state_dict(), folder / "pytorch_model.bin")
    else:
        network.save_pretrained(folder, max_shard_size="4KB")
        assert (folder / "model.safetensors.index.json").is_file()
    state = build(section(folder)).frozen.state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_a_missing_shard_is_named(tmp_path):
    network = AutoModel.from_pretrained(write_encoder(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    network.save_pretrained(tmp_path, max_shard_size="4KB")
    missing = sorted(tmp_path.glob("model-*.safetensors"))[-1]
    missing.unlink()
    with pytest.raises(ModelError, match=f"lacks {missing.name}, which model.safetensors.index.json names"):
        build(section(tmp_path))


def test_an_older_tokenizer_is_converted(tmp_path):
    folder = write_encoder(tmp_path, vocab_size=110)  # the converter adds a token for masks
    words = tokenizer().get_vocab()
    lines = sorted(words, key=words.__getitem__)
    renamed = {"<s>": "[CLS]", "</s>": "[SEP]", "<pad>": "[PAD]", "<unk>": "[UNK]"}
    (folder / "vocab.txt").write_text("\n".join(renamed.get(line, line) for line in lines) + "\n")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    expected = build(section(folder)).tokens.ids(SENTENCES[0])
    (folder / "tokenizer.json").unlink()
    assert np.array_equal(build(section(folder)).tokens.ids(SENTENCES[0]), expected)
