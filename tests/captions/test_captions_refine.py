"""Refinement: known answers, no word lost unlisted, nothing left that names an emotion, clean text untouched."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fclip.captions.lexicon import Lexicon
from fclip.captions.refine.clauses import split_clauses
from fclip.captions.refine.refiner import Refined, Refiner
from fclip.captions.refine.words import Reader, split_sentences, tidy
from fclip.errors import FclipError

LABELS = (
    *("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear"),
    *("contempt", "anxiety", "helplessness", "disappointment"),
)
HERE = Path(__file__).parent
ROWS = json.loads((HERE / "captions.json").read_text(encoding="utf-8"))
WRITTEN = json.loads((HERE / "model_captions.json").read_text(encoding="utf-8"))  # in the manner of video models
REFINER = Refiner(LABELS)
TEXTS = [row["text"] for row in [*ROWS, *WRITTEN]]
# written down apart from the lexicon, so that a gap there shows
EMOTIONAL = re.compile(
    r"\b(happ(y|ily|iness)|sad(ly|ness)?|ang(er|ry|rily)|surpris\w+|disgust\w*|fear\w*|afraid|scared|terrif\w+|horr\w+|"
    r"contempt\w*|anxi\w+|helpless\w*|hopeless\w*|disappoint\w+|neutral|joy\w*|delight\w*|sorrow\w*|grief|griev\w+|"
    r"furious\w*|rage|irritat\w+|frustrat\w+|annoy\w+|shock\w*|astonish\w+|amaze\w*|disbelief|startl\w+|worr(y|ied)|"
    r"nervous\w*|concern\w*|panic\w*|dread\w*|scorn\w*|disdain\w*|despair\w*|miser\w+|gloom\w*|emotion\w*|mood|"
    r"feel(s|ing|ings)?|satisf\w+|amus\w+|relief|pleas(ed|ure)|shame\w*|guilt\w*|confus\w+|skeptic\w*|sarcas\w+)\b",
    re.IGNORECASE,
)


# words between clauses, which go with either side and need no line of their own
JOINTS = frozenset(
    re.findall(r"\w+", "and but or nor yet while whilst whereas as when although though before after until")
)
DANGLING = re.compile(
    r"\b(a|an|the|his|their|of|with|and|but|or|which|who|that|while|as|be|from|into)\W*$", re.IGNORECASE
)
VERBS = re.compile(
    r"\b(is|are|was|were|has|have|had|do|does|did|can|could|will|may|might|'s|aren't|doesn't|"
    r"(appear|seem|remain|stay|become|begin|look|open|close|widen|narrow|rais|ris|lift|lower|drop|fall|turn|tilt|mov|"
    r"press|part|tremble|quiver|twitch|blink|wink|squint|star|gaz|glar|glanc|shift|dart|furrow|knit|draw|pull|push|curl|"
    r"smil|frown|laugh|cry|cri|sob|sigh|gasp|breath|inhal|exhal|speak|talk|nod|shak|bit|lick|purs|pucker|puff|swallow|"
    r"wrinkl|creas|crinkl|flare|clench|tighten|relax|droop|hang|flutter|well|stream|run|roll|spread|play|fad|chang|"
    r"show|reveal|display|cover|wip|hold|keep|giv|tak|lean|bow|step|say|said|lets|let|avert|hunch|slump|sink|swell|scan|"
    r"fill|follow|join|meet|grow|deepen|soften|harden|sparkl|light|form|bulge|arch|jut|thrust|stick|shoot|throw|clos|us|"
    r"pout|smirk|scowl|grin|grimac|sneer|snarl|wince|winc|yawn|shout|yell|scream|giggl|chuckl|whisper|sing|chew|"
    r"brighten|redden|flush|blush|quicken|slow|increas|speed|return|settl|maintain|avoid|persist|tuck|flinch|"
    r"shrug|rub|touch|scratch|groan|growl|gulp|thin|converg|crumple|dilat|gestur|adjust|exhibit|sway|stretch|snor|"
    r"cause|bunch|grit|bare|protrud|slid|jerk|jump|bounc|slacken|reach|maintain|plays|rock|rotat|twist|squeez|scrunch|"
    r"burst|stiffen|rest|tens|come|came|goes|go|went|plac|surround|remark|sniff|sniffl|twinkl|nods|walk|enter|"
    r"transition|rang|vary|vanish|disappear|emerg|ends|begins|starts|start|clap|lets|shap|feature)(s|es|d|ed|en|e)?)\b",
    re.IGNORECASE,
)


def words(text: str) -> Counter[str]:
    """The words of a text, joints left out."""
    found = Counter(word.lower() for word in re.findall(r"[^\W\d_]+", text))
    return Counter({word: count for word, count in found.items() if word not in JOINTS})


def problem(sentence: str) -> str:
    """What keeps a text from being an English sentence by its outer form; empty where nothing does."""
    if not re.match(r"[\"'“‘(]*[A-Z0-9]", sentence) or not re.search(r"[.!?…][\"'”’)]*$", sentence):
        return "no capital letter or full stop"
    if re.search(r"[,;:]\s*[,;:.]|\s[,;.]|[,;:]$", sentence.replace("...", "")):
        return "marks in a row"
    if re.match(r"(?:And|Or|But|Which|Whose|Indicating|Suggesting|Thereby)\b", sentence):
        return "begins in the middle"
    if DANGLING.search(sentence):
        return "ends in the air"
    return "" if VERBS.search(sentence) else "no verb"


def check(text: str, refiner: Refiner = REFINER) -> Refined:
    """Refine a text and check what holds for every one."""
    refined = refiner.refine(text)
    listed = " ".join(line for line, _ in refined.removed)
    assert words(text) == words(refined.text) + words(listed), (text, refined)
    assert refiner.refine(refined.text) == Refined(refined.text, []), (text, refined)
    assert EMOTIONAL.search(refined.text) is None, (text, refined)
    assert all(line.strip() and reason for line, reason in refined.removed)
    return refined


def test_example_of_the_paper() -> None:
    before = (
        "The man in the video displays a surprised expression. His eyes widen, and his eyebrows raise, indicating a "
        "sudden and unexpected event. The mouth remains slightly open, ..."
    )
    refined = check(before)
    assert refined.text == "His eyes widen, and his eyebrows raise. The mouth remains slightly open, ..."
    assert refined.removed == [
        ("The man in the video displays a surprised expression.", "label"),
        ("indicating a sudden and unexpected event", "emotion"),
    ]


def test_printed_pairs(parity: Path) -> None:
    """Pairs that the paper prints, as many as the file holds: what counts stays, and no emotion does."""
    spec = json.loads((parity / "public" / "refine.json").read_text(encoding="utf-8"))
    assert spec["pairs"]
    recalls = {}
    for pair in spec["pairs"]:
        found = check(pair["generated"])
        assert not any(map(problem, split_sentences(found.text))), found
        kept = re.sub(r",? (?:suggesting|indicating|conveying|implying)[^.]*", "", pair["refined"])
        if "smile" not in pair["refined"]:
            assert "smile" not in check(pair["generated"], Refiner(LABELS, expressions=True)).text
        wanted = [word for word in words(kept) if len(word) > 3 and word in words(pair["generated"])]
        recalls[pair["name"]] = sum(word in words(found.text) for word in wanted) / len(wanted)
    print(recalls)
    assert min(recalls.values()) >= 0.9, recalls


def test_there_are_enough_known_answers() -> None:
    kinds = {row["kind"] for row in ROWS}
    assert len(ROWS) >= 440
    assert {"clean", "scene", "clothing", "identity", "boilerplate", "hedges", "label words", "indirect"} <= kinds
    assert sum(row["kind"] == "clean" for row in ROWS) >= 30
    assert sum(len(split_sentences(row["text"])) for row in WRITTEN) >= 300
    assert len({row["model"] for row in WRITTEN} - {"mixed"}) == 5


def test_known_answers() -> None:
    """Answers that a person has read: each a grammatical text."""
    for row in ROWS:
        assert REFINER.refine(row["text"]).text == row["expected"], row["text"]
    for row in WRITTEN:
        assert REFINER.refine(row["text"]).text == row["refined"], row["text"]


@pytest.mark.parametrize("expressions", [False, True])
def test_what_holds_for_every_caption(expressions: bool) -> None:
    refiner = Refiner(LABELS, expressions=expressions)
    for text in TEXTS:
        refined = check(text, refiner)
        for sentence in split_sentences(refined.text):
            assert not problem(sentence), (problem(sentence), sentence, text)


def test_clean_captions_stay_as_they_are() -> None:
    clean = [row["text"] for row in ROWS if row["kind"] == "clean"]
    assert [REFINER.refine(text) for text in clean] == [Refined(text, []) for text in clean]


def test_hardly_a_clean_clause_is_lost() -> None:
    """Every clean caption joined to every leaky one: of the clean clauses at most 1 % may go."""
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
    assert lost <= 0.01 * clauses


def test_phrases_of_the_renderer_are_clean() -> None:
    """Words that others wrote, about movement only."""
    phrases = json.loads((Path(__file__).parents[2] / "fclip/resources/phrases.json").read_text(encoding="utf-8"))
    texts = [text.format(a="clearly", s="left") for options in phrases["movement"].values() for text in options]
    sentences = [f"{text[0].upper()}{text[1:]}." for text in (" ".join(text.split()) for text in texts)]
    changed = [text for text in sentences if REFINER.refine(text).text != text]
    assert len(sentences) > 50
    assert not changed


def test_words_for_whole_expressions_are_a_switch() -> None:
    text = "Her brows rise, and she smiles broadly. A frown follows. The lips part, forming a slight smile."
    assert check(text).text == text
    refined = check(text, Refiner(LABELS, expressions=True))
    assert refined.text == "Her brows rise. The lips part."
    assert {reason for _, reason in refined.removed} == {"expression"}
    assert Refiner(LABELS, expressions=True).fingerprint != REFINER.fingerprint


def test_reasons_are_recorded() -> None:
    text = (
        "The room is dark. A young woman nods. She wears a red dress. Her eyes widen, suggesting fear. "
        "The camera zooms in on his face. His brows rise as if he has an idea. She looks sad, her mouth open. "
        "Her lips part, joyfully. I cannot see the label. Her chin drops, implying a pause. It is time for lunch."
    )
    assert check(text).removed == [
        ("The room is dark.", "scene"),
        ("young", "identity"),
        ("She wears a red dress.", "clothing"),
        ("suggesting fear", "label"),
        ("The camera zooms in on his face.", "camera"),
        ("as if he has an idea", "interpretation"),
        ("She looks sad", "label"),
        ("her mouth open", "fragment"),
        ("joyfully", "emotion"),
        ("I cannot see the label.", "meta"),
        ("implying a pause", "interpretation"),
        ("It is time for lunch.", "off topic"),
    ]


def test_nothing_tells_one_label_from_another() -> None:
    """With each label written in place of another, what is left reads the same."""
    text = "His {} eyes widen, and {} shows. The lips part in {}. The brows rise, un{}. The chin drops."
    versions = {REFINER.refine(text.replace("{}", label)).text for label in LABELS}
    assert versions == {"His eyes widen. The lips part. The brows rise. The chin drops."}


def test_labels_of_another_data_set_are_found() -> None:
    text = "His lips part, which shows curiousness and amazonment."
    assert Refiner(["trance"]).refine("Her tranced eyes are open.").text == "Her eyes are open."
    assert Refiner(["trance"]).refine("She is tranced and opens her mouth.").text == "She opens her mouth."
    assert Refiner(["amazon"]).refine(text).text == "His lips part."


@pytest.mark.parametrize("word", ["suprised", "terified", "dissapointed", "confussed", "digusted", "happyness"])
def test_misspelt_emotions_are_found(word: str) -> None:
    assert REFINER.refine(f"He looks {word}. His lips part.").text == "His lips part."


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
    assert REFINER.lexicon.tags(word).isdisjoint(REFINER.lexicon.cut)


def test_clauses_join_to_the_sentence() -> None:
    reader = Reader(REFINER.lexicon)
    for text in TEXTS:
        for sentence in split_sentences(tidy(text)):
            found = reader.read(sentence)
            clauses = split_clauses(found)
            assert [word for clause in clauses for word in found[clause.first : clause.last]] == found
            assert "".join(word.space + word.text for word in found) == sentence


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("his raised brows", "deq"),
        ("his raised brows lower", "deqv"),
        ("the smile widens", "dfv"),
        ("a furrowed brow and an open mouth", "defcdnf"),
        ("the corners of the mouth turn down", "dqodfvr"),
        ("her mouth open", "dfj"),
        ("her sad eyes", "dNq"),
        ("suggesting joy", "GN"),
        ("an expression", "dk"),
    ],
)
def test_letters_fit_their_neighbours(text: str, letters: str) -> None:
    assert "".join(word.letter for word in Reader(REFINER.lexicon).read(text)) == letters


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=300))
def test_any_text_can_be_refined(text: str) -> None:
    check(text)


VOCABULARY = sorted({word for text in TEXTS for word in re.findall(r"[\w'-]+|[,.;:()—]", text)})


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(VOCABULARY), max_size=40))
def test_any_jumble_of_words_can_be_refined(jumble: list[str]) -> None:
    check(" ".join(jumble))


PLAIN = (
    "his eyebrows rise",
    "the mouth opens slightly",
    "her gaze is directed to the left",
    "she takes a deep breath",
    "the corners of the mouth turn down",
    "the man blinks twice",
    "his breathing becomes shallow",
    "the eyelids droop",
)
LEAKY = ("he looks angry", "she is clearly sad", "the camera zooms in", "this suggests joy", "the mood is tense")
TAILS = (
    *(
        "",
        "",
        "",
        ", indicating surprise",
        ", further emphasizing the sadness",
        ", which suggests fear",
        " in disbelief",
    ),
    *(
        ", thereby showing her joy",
        ", clearly upset",
        ", as if afraid",
        ", a sign of anger",
        ", furthermore",
        " nervously",
    ),
)
JOINTS_BETWEEN = (", and ", ". ", "; ", ", ", " while ", ".", ", but ")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(PLAIN + LEAKY), st.sampled_from(TAILS), st.sampled_from(JOINTS_BETWEEN)),
        min_size=1,
        max_size=7,
    )
)
def test_mixtures_of_clauses(parts: list[tuple[str, str, str]]) -> None:
    text = ""
    for clause, tail, joint in parts:
        text += (clause[0].upper() + clause[1:] if not text or text.rstrip().endswith(".") else clause) + tail + joint
    text = text.rstrip(" .,;").removesuffix(" while").removesuffix(", and").removesuffix(", but") + "."
    refined = check(text)
    for sentence in split_sentences(refined.text):
        assert not problem(sentence), (problem(sentence), sentence, text)
    for clause in PLAIN:  # of clauses that tell of the face, none goes
        assert text.lower().count(clause) == refined.text.lower().count(clause), (clause, text, refined)
