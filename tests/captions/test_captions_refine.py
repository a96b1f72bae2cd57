"""Refinement: known answers, nothing left that names an emotion, clean text untouched."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.captions.lexicon import CUT, KEEP, Lexicon, inflections
from fclip.captions.refine.clauses import split_clauses, split_sentences, tokenize, verb_index
from fclip.captions.refine.refiner import Refined, Refiner, refine_text
from fclip.errors import FclipError

LABELS = (
    "happiness",
    "sadness",
    "neutral",
    "anger",
    "surprise",
    "disgust",
    "fear",
    "contempt",
    "anxiety",
    "helplessness",
    "disappointment",
)
ROWS = json.loads(Path(__file__).with_name("captions.json").read_text(encoding="utf-8"))
REFINER = Refiner(LABELS)
# written down apart from the lexicon, so that a gap there shows
EMOTIONAL = re.compile(
    r"\b(happ(y|ily|iness)|sad(ly|ness)?|ang(er|ry|rily)|surpris\w+|disgust\w*|fear\w*|afraid|scared|terrif\w+|horr\w+|"
    r"contempt\w*|anxi\w+|helpless\w*|hopeless\w*|disappoint\w+|neutral|joy\w*|delight\w*|sorrow\w*|grief|griev\w+|"
    r"furious\w*|rage|irritat\w+|frustrat\w+|annoy\w+|shock\w*|astonish\w+|amaze\w*|disbelief|startl\w+|worr(y|ied)|"
    r"nervous\w*|concern\w*|panic\w*|dread\w*|scorn\w*|disdain\w*|despair\w*|miser\w+|gloom\w*|emotion\w*|mood|"
    r"feel(s|ing|ings)?|satisf\w+|amus\w+|relief|pleas(ed|ure)|shame\w*|guilt\w*|confus\w+|skeptic\w*|sarcas\w+)\b",
    re.IGNORECASE,
)


def test_example_of_the_paper() -> None:
    before = (
        "The man in the video displays a surprised expression. His eyes widen, and his eyebrows raise, indicating a "
        "sudden and unexpected event. The mouth remains slightly open, ..."
    )
    after = "His eyes widen, and his eyebrows raise. The mouth remains slightly open, ..."
    refined = refine_text(before, LABELS)
    assert refined.text == after
    assert refined.removed[0] == ("The man in the video displays a surprised expression.", "label")
    assert refined.removed[1][0] == "indicating a sudden and unexpected event"


def test_there_are_enough_known_answers() -> None:
    kinds = {row["kind"] for row in ROWS}
    assert len(ROWS) >= 200
    assert {"clean", "scene", "clothing", "identity", "boilerplate", "hedges", "label words", "indirect"} <= kinds
    assert sum(row["kind"] == "clean" for row in ROWS) >= 30


@pytest.mark.parametrize("kind", sorted({row["kind"] for row in ROWS}))
def test_known_answers(kind: str) -> None:
    for row in ROWS:
        if row["kind"] == kind:
            assert REFINER.refine(row["text"]).text == row["expected"], row["text"]


def test_clean_captions_stay_as_they_are() -> None:
    clean = [row["text"] for row in ROWS if row["kind"] == "clean"]
    assert [REFINER.refine(text) for text in clean] == [Refined(text, []) for text in clean]


def test_no_emotion_word_is_left() -> None:
    for row in ROWS:
        found = EMOTIONAL.search(REFINER.refine(row["text"]).text)
        assert found is None, (found, row["text"])


def test_hardly_a_clean_clause_is_lost() -> None:
    """Every clean caption joined to every leaky one: of the clean clauses at most 3 % may go."""
    clean = [row["text"] for row in ROWS if row["kind"] == "clean"]
    leaky = [row["text"] for row in ROWS if row["kind"] not in ("clean", "mixed")]
    clauses = lost = 0
    for number, text in enumerate(leaky):
        other = clean[number % len(clean)]
        refined = REFINER.refine(f"{text} {other}").text
        for clause in re.split(r"[.;,] ?", other):
            clauses += bool(clause)
            lost += clause not in refined
    assert clauses > 300
    assert lost <= 0.03 * clauses


def test_phrases_of_the_renderer_are_clean() -> None:
    """Words that others wrote, about movement only."""
    phrases = json.loads((Path(__file__).parents[2] / "fclip/resources/phrases.json").read_text(encoding="utf-8"))
    texts = [text.format(a="clearly", s="left") for options in phrases["movement"].values() for text in options]
    sentences = [f"{text[0].upper()}{text[1:]}." for text in (" ".join(text.split()) for text in texts)]
    changed = [text for text in sentences if REFINER.refine(text).text != text]
    assert len(sentences) > 50
    assert len(changed) <= 0.03 * len(sentences), changed


def test_refining_twice_changes_nothing() -> None:
    for row in ROWS:
        once = REFINER.refine(row["text"]).text
        assert REFINER.refine(once) == Refined(once, [])


def test_reasons_are_recorded() -> None:
    text = (
        "The room is dark. A young woman nods. She wears a red dress. Her eyes widen, suggesting fear. "
        "His mouth possibly opens. It is time for lunch."
    )
    reasons = {reason for _, reason in REFINER.refine(text).removed}
    assert reasons == {"scene", "identity", "clothing", "label", "hedge", "off topic"}
    assert ("suggesting fear", "label") in REFINER.refine(text).removed


def test_counterfactual_versions_agree_once_refined() -> None:
    text = "His surprised eyes widen, and fear shows. The lips part unsurprisingly."
    versions = {label: REFINER.counterfactual(text, label) for label in LABELS}
    assert len(set(versions.values())) == len(LABELS)
    assert versions["anger"] == "His anger eyes widen, and anger shows. The lips part anger."
    refined = REFINER.refine(text).text
    assert len({REFINER.counterfactual(refined, label) for label in LABELS}) == 1
    assert REFINER.leftover_labels(text) == ["surprised", "fear", "unsurprisingly"]
    assert REFINER.leftover_labels(refined) == []


def test_labels_of_another_data_set_are_found() -> None:
    text = "His lips part, which shows curiousness and amazonment."
    assert refine_text("Her tranced eyes are open.", ["trance"]).text == "Her eyes are open."
    assert refine_text("She is tranced and opens her mouth.", ["trance"]).text == "She opens her mouth."
    assert refine_text(text, ["amazon"]).text == "His lips part."


def test_users_lexicon_adds_terms(tmp_path: Path) -> None:
    text = "Her flumpish lips part."
    assert Refiner(LABELS).refine(text).text == text
    (tmp_path / "emotion.txt").write_text("# my words\nflumpish\n", encoding="utf-8")
    refiner = Refiner(LABELS, tmp_path)
    assert refiner.refine(text).text == "Her lips part."
    assert refiner.fingerprint != Refiner(LABELS).fingerprint
    assert Refiner(LABELS[:7]).fingerprint != Refiner(LABELS).fingerprint


def test_users_lexicon_is_checked(tmp_path: Path) -> None:
    with pytest.raises(FclipError, match="no such lexicon folder"):
        Lexicon(extra=tmp_path / "none")
    (tmp_path / "emotions.txt").write_text("glum")
    with pytest.raises(FclipError, match=r"emotions\.txt: unknown lexicon category; there are: emotion"):
        Lexicon(extra=tmp_path)
    (tmp_path / "emotions.txt").rename(tmp_path / "emotion.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(FclipError, match="not UTF-8"):
        Lexicon(extra=tmp_path)


def write_wordnet(folder: Path, synsets: list[tuple[int, list[str]]]) -> None:
    """A small WordNet of noun synsets (lexicographer file, words) in WordNet's own file format."""
    folder.mkdir(parents=True)
    for part in ("noun", "verb", "adj", "adv"):
        data = "  1 WordNet 3.0 Copyright\n"
        index: dict[str, list[int]] = {}
        for lexname, words in synsets if part == "noun" else []:
            for word in words:
                index.setdefault(word, []).append(len(data))
            listed = " ".join(f"{word} 0" for word in words)
            data += f"{len(data):08d} {lexname:02d} n {len(words):02x} {listed} 000 | gloss  \n"
        (folder / f"data.{part}").write_text(data)
        lines = [
            f"{word} n {len(at)} 0 {len(at)} 0 {' '.join(f'{o:08d}' for o in at)}  \n" for word, at in index.items()
        ]
        (folder / f"index.{part}").write_text("".join(sorted(lines)))
        (folder / f"{part}.exc").write_text("")
    (folder / "index.sense").write_text("")
    names = [f"noun.other{i}" for i in range(12)] + ["noun.feeling"]
    (folder / "lexnames").write_text("".join(f"{i:02d}\t{name}\t1\n" for i, name in enumerate(names)))


def test_wordnet_is_used_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk
    from nltk.corpus.util import LazyCorpusLoader

    text = "Her gaudious eyes are open, and her soapish lips part."
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    multilingual = LazyCorpusLoader("omw-1.4", nltk.corpus.reader.CorpusReader, r".*\.tab")
    fresh = LazyCorpusLoader("wordnet", nltk.corpus.reader.WordNetCorpusReader, multilingual)
    monkeypatch.setattr(nltk.corpus, "wordnet", fresh)
    with pytest.raises(FclipError, match="WordNet is not installed"):
        Lexicon(LABELS, wordnet=True)
    write_wordnet(tmp_path / "corpora" / "wordnet", [(12, ["joy", "gaudious", "good_cheer"]), (6, ["joy", "soapish"])])
    refiner = Refiner(LABELS, wordnet=True)
    assert refiner.refine(text).text == "Her eyes are open, and her soapish lips part."
    assert Refiner(LABELS).refine(text).text == text
    assert refiner.fingerprint != Refiner(LABELS).fingerprint


FACE_WORDS = (
    "position set contents long part play light colour strained tense raise lower brow eyes lips mouth corner nostril "
    "cheek open closed wide narrow gaze steady slightly clearly strongly left right slowly quickly together upward "
    "downward inner outer upper lower head tilt turn nod blink smile frown pout sneer scowl breath tears hold stays"
)


@pytest.mark.parametrize("word", FACE_WORDS.split())
def test_plain_words_are_innocent(word: str) -> None:
    assert not REFINER.lexicon.tags(word) & CUT


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("indicate", {"indicate", "indicates", "indicated", "indicating"}),
        ("convey", {"convey", "conveys", "conveyed", "conveying"}),
        ("imply", {"imply", "implies", "implied", "implying"}),
        ("signal", {"signal", "signals", "signaled", "signaling", "signalled", "signalling"}),
        ("express", {"express", "expresses", "expressed", "expressing"}),
    ],
)
def test_inflections(verb: str, forms: set[str]) -> None:
    assert inflections(verb) == forms


def test_expression_is_no_verb() -> None:
    assert "interpret" in REFINER.lexicon.tags("expressing")
    assert "interpret" not in REFINER.lexicon.tags("expression")


def test_clauses_join_to_the_sentence() -> None:
    for row in ROWS:
        for sentence in split_sentences(row["text"]):
            tokens = tokenize(sentence, REFINER.lexicon)
            clauses = split_clauses(tokens)
            assert [token for clause in clauses for token in [*clause.lead, *clause.body]] == tokens


def test_verbs_are_told_from_adjectives() -> None:
    def verb(text: str) -> str | None:
        tokens = tokenize(text, REFINER.lexicon)
        index = verb_index(tokens)
        return None if index is None else tokens[index].text

    assert verb("his raised brows") is None
    assert verb("his raised brows lower") == "lower"
    assert verb("the smile widens") == "widens"
    assert verb("a furrowed brow and an open mouth") is None
    assert verb("her lips part") == "part"


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=300))
def test_any_text_can_be_refined(text: str) -> None:
    check(REFINER.refine(text))


WORDS = sorted({word for row in ROWS for word in re.findall(r"[\w'-]+|[,.;:]", row["text"])})


@settings(max_examples=120, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_any_jumble_of_words_can_be_refined(words: list[str]) -> None:
    check(REFINER.refine(" ".join(words)))


def check(refined: Refined) -> None:
    assert REFINER.leftover_labels(refined.text) == []
    for sentence in split_sentences(refined.text):
        tags = [token.tags for token in tokenize(sentence, REFINER.lexicon)]
        assert not any(tag & CUT for tag in tags)
        assert any(tag & (KEEP | {"face_general"}) for tag in tags)
    assert all(text.strip() and reason for text, reason in refined.removed)
