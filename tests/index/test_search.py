from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbsync.contract.searching import Hit, Query
from kbsync.errors import UsageError
from kbsync.index.chunk import chunk
from kbsync.index.codes import code_test, codes_in, other_spellings
from kbsync.index.dates import date_forms
from kbsync.index.document import Chunk, Entry, Flavour, Parsed
from kbsync.index.embed import Encoder, LocalEncoder, Vectors
from kbsync.index.file_names import whole_name_test
from kbsync.index.search import Search, behind, spread, with_unranked
from kbsync.index.snippet import plain_heading, snippet, without_markup
from kbsync.index.spelling import MAX_VARIANTS, variants_in
from kbsync.index.sqlite.planes import SLOTS
from kbsync.index.sqlite.store import MAX_FREQUENCIES, Reader, SqliteStore
from kbsync.index.sqlite.writer import Writer
from kbsync.index.weights import DEPTH, PASSAGES, share_together
from kbsync.index.words import Term, comparable, forms_in, terms_of, without_question_words
from tests.share import long

ENCODER = LocalEncoder()

TEXTS = {
    "hr/leave.md": "# Leave\n\nEveryone gets thirty days of paid leave a year.\n\n## Abroad\n\n"
    "Tell HR two weeks before.",
    "hr/pay.txt": "Salaries are paid on the last working day of the month.",
    "it/vpn.md": "# VPN\n\nInstall the client, then log in with your company account and the token.",
    "it/printer.md": "The printer on the second floor prints on both sides.",
    "zh/请假制度.md": "# 请假制度\n\n员工每年有三十天带薪年假，请提前两周向人力资源部申请。",
    "zh/报销.md": "# 报销流程\n\n出差回来后两周内提交发票，由财务部审核。",
}


def entry(number: int, path: str, text: str, modified: float = 1.0) -> Entry:
    parsed = Parsed(text, Flavour.MARKDOWN, title=text[2:].split("\n")[0] if text.startswith("# ") else None)
    chunks = tuple(chunk(parsed))
    vectors = ENCODER.begin(chunks).result()
    return Entry(
        number, path, "n", f"{number:064}", 1, "r", modified, None, parsed.title, (), chunks, vectors
    )  # type: ignore[arg-type]


@contextmanager
def searching(
    folder: Path, texts: Iterable[tuple[str, str]], encoder: Encoder = ENCODER
) -> Iterator[tuple[Search, Writer]]:
    """A reader and a writer of an index of these texts."""
    index = Writer(folder)
    index.put(
        [entry(number, path, text, float(number)) for number, (path, text) in enumerate(texts, 1)], ENCODER
    )
    with closing(index), closing(SqliteStore(folder, writer=None)) as store:
        yield Search(store, encoder), index


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    with searching(tmp_path_factory.mktemp("search"), TEXTS.items()) as (searcher, _):
        yield searcher


def paths(hits: Sequence[Hit]) -> list[str | None]:
    return [hit.path for hit in hits]


@pytest.mark.parametrize(
    ("question", "path"),
    [
        ("How many days of paid leave do I get?", "hr/leave.md"),
        ("installing the VPN client", "it/vpn.md"),
        ("print double-sided", "it/printer.md"),
        ("salary payment in each month", "hr/pay.txt"),
        ("年假有几天？", "zh/请假制度.md"),
        ("发票怎么报销", "zh/报销.md"),
        ("printers", "it/printer.md"),
        ("VPN", "it/vpn.md"),
        ("报", "zh/报销.md"),
    ],
)
def test_right_document_is_first(searcher: Search, question: str, path: str) -> None:
    assert searcher.search(Query(question))[0].path == path


@pytest.mark.parametrize(
    ("question", "path"),
    [
        ("Wie hoch ist die Miete?", "miete.md"),
        ("Quel est le loyer de la maison ?", "loyer.md"),
        ("¿Cuál es el alquiler de la casa?", "alquiler.md"),
        ("Qual è il canone della casa?", "canone.md"),
        ("Какая это аренда для нас?", "аренда.md"),
        ("Kannst du mir bitte sagen, wie hoch die Miete ist?", "miete.md"),
        ("Peux-tu me dire le loyer ?", "loyer.md"),
        ("¿Puedes decirme el alquiler?", "alquiler.md"),
        ("Puoi dirmi il canone?", "canone.md"),
        ("Подскажи, пожалуйста, какая аренда", "аренда.md"),
        ("Who was von der Leyen?", "leyen.md"),
        ("the man in the war", "war.md"),
        ("Why does sage die in winter?", "sage.md"),
        ("What do people with ALS die of?", "als.md"),
        ("dire warnings of AI", "ai.md"),
    ],
)
def test_stop_words_of_another_language_find_nothing(tmp_path: Path, question: str, path: str) -> None:
    texts = {
        "miete.md": "Miete 980 Euro.",
        "de.md": "Wie hoch es ist, und die anderen. Das ist die Tür, wie immer. Kannst du mir bitte sagen?",
        "loyer.md": "Loyer 980 euros.",
        "fr.md": "Quel est le prix de la maison. Peux-tu me dire le prix ?",
        "alquiler.md": "Alquiler 980 euros.",
        "es.md": "Es el precio de la casa, cual no es. ¿Puedes decirme el precio?",
        "canone.md": "Canone 980 euro.",
        "it.md": "Qual è il prezzo della casa. Puoi dirmi il prezzo?",
        "аренда.md": "Аренда 980 рублей.",
        "ru.md": "Какая это цена для нас. Подскажи, пожалуйста, какая цена.",
        "leyen.md": "Ursula von der Leyen spoke.",
        "war.md": "One man in a war.",
        "sage.md": "Sage needs much sun in winter.",
        "winter.md": "Winter after winter.",
        "als.md": "People may have ALS for years.",
        "people.md": "People and people.",
        "ai.md": "Many warnings against AI.",
        "warnings.md": "Warnings after warnings.",
    }
    others = [(f"{number}.md", "The rent of a house is 980.") for number in range(40)]
    with searching(tmp_path, [*texts.items(), *others]) as (searcher, _):
        assert searcher.search(Query(question))[0].path == path


CONVERSATIONS = {
    "deletions.md": "When a file is deleted, its document is deleted too.",
    "history.md": "The history is a list of what has happened to files, such as a deleted file.",
    "printer.md": "The printer on the second floor prints on both sides.",
    "feedback.md": "Tell us what you want to know, and help others who need to find the printer.",
    "find.md": "The find command lists files by name.",
    "cut.md": "The cut command is a command that prints columns.",
    "manual.md": "本产品使用说明，按下按钮即可。",
    "小明.md": "小明是学生。",
    "works.md": "The works council meets in May.",
    "council.md": "The council is a council of the town.",
    "me.md": "You and me, as you can see: me.",
    "报销.md": "出差回来后两周内提交发票，由财务部审核报销。",
    "反馈.md": "如果您想知道更多，请告诉我们，我们会帮您找到发票。",
    "quotes.md": "You may print short quotes. That is fair, and a use of culture.",
    "fair.md": "The fair: the summer fair is a fair for all.",
    "apple.md": "A legend of an archer with an apple: his name was William, and his last name Tell.",
    "orange.md": "William of Orange. William, the king. William.",
    "phones.md": "IT: 4200. Kitchen: 4300. Department of parks: 4400.",
    "department.md": "A department is a department.",
    "boxes.md": "A list of boxes, with one box a line.",
    "get.md": "Get a box, get two boxes.",
    "打印机.md": "打印机一旦坏了，就要联系小王，然后等他来修。",
    "情况.md": "遇到这种情况怎么办？怎么办？",
    "邻里.md": "邻里之间，里里外外。",
}


@pytest.mark.parametrize(
    ("question", "path"),
    [
        ("what happens if I delete a file", "deletions.md"),
        ("Can you tell me about the printer?", "printer.md"),
        ("I want to know where the printer is", "printer.md"),
        ("I need help to find the printer", "printer.md"),
        ("请告诉我发票怎么报销", "报销.md"),
        ("我想知道发票的审核", "报销.md"),
        ("说明是什么？", "manual.md"),
        ("说明在哪里", "manual.md"),
        ("坏了怎么办", "打印机.md"),
        ("what is fair use", "quotes.md"),
        ("who was William Tell", "apple.md"),
        ("I read about Orange. Tell me who was William", "orange.md"),
        ("how do I reach the IT department", "phones.md"),
        ("get the list of boxes", "boxes.md"),
        ("how to use the find command", "find.md"),
        ("how do I use the find command", "find.md"),
        ("how does the works council work", "works.md"),
        ("tell want", "feedback.md"),
        ("what happened", "history.md"),
        ("can you help me", "feedback.md"),
    ],
)
def test_words_around_a_question_find_nothing(tmp_path: Path, question: str, path: str) -> None:
    with searching(tmp_path, CONVERSATIONS.items()) as (searcher, _):
        assert searcher.search(Query(question))[0].path == path


def test_document_with_several_passages_on_the_subject_ranks_first(tmp_path: Path) -> None:
    text = "# A\n\nThe ferry sails at nine.{}\n\n# B\n\n{}\n\n# C\n\n{}"
    mention = text.format(" It is red.", "Lamps are in the cellar. " * 60, "Chairs are in the attic. " * 60)
    ferries = text.format("", "The ferry has a deck. " * 60, "The ferry has a kitchen. " * 60)
    files = {"mention.md": mention, "ferries.md": ferries, **{f"{n}.md": "Bread." for n in range(9)}}
    with searching(tmp_path, files.items()) as (searcher, _):
        first, second = searcher.search(Query("ferry sails", explain=True))[:2]
    assert (first.path, second.path) == ("ferries.md", "mention.md")
    assert first.reasons is not None and second.reasons is not None
    assert first.reasons.further > second.reasons.further


def test_code_as_written_ranks_above_the_same_code_with_a_hyphen(tmp_path: Path) -> None:
    codes = {"a.md": "E-4471", "b.md": "E4471", "c.md": "E 4471"}
    texts = {path: f"The pump stops with error {code} in the night." for path, code in codes.items()}
    others = [(f"{number}.md", "Lamps.") for number in range(9)]
    with searching(tmp_path, [*texts.items(), *others]) as (searcher, _):
        hits = searcher.search(Query("E4471", explain=True))[:3]
    assert paths(hits)[0] == "b.md" and len(hits) == 3
    for hit in hits:
        assert hit.reasons is not None and len(hit.reasons.in_text) == 1


VIETNAMESE = {
    "friends.md": "Bạn nhà tôi. Người bạn cũ.",
    "sale.md": "Hướng dẫn bán căn nhà ở ngoại thành và các thủ tục cần thiết.",
    "peace.md": "Hoà bình và thống nhất.",
    "plain.md": "Thu tuc o ngoai thanh, khong dau.",
    "café.md": "Nguyen Hue is a street with a café.",
    "street.md": "A street of Nguyen is a street.",
    **{f"{number}.md": f"Bản thân, bàn ghế, nhá nhem, số {number}." for number in range(5)},
}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("muốn bán nhà", "sale.md"),
        ("người bạn tốt", "friends.md"),
        ("hòa bình thế giới", "peace.md"),
        ("Where is Nguyễn Huệ street?", "café.md"),
    ],
)
def test_vietnamese_word_with_the_accents_of_the_question_counts_more(
    tmp_path: Path, question: str, expected: str
) -> None:
    with searching(tmp_path, VIETNAMESE.items()) as (searcher, _):
        hit = searcher.search(Query(question, explain=True))[0]
    assert hit.path == expected and hit.reasons is not None
    points = sum(word.points for word in (*hit.reasons.in_text, *hit.reasons.in_name))
    assert points == pytest.approx(hit.reasons.words)


def test_two_words_that_differ_only_in_accents_both_count(tmp_path: Path) -> None:
    with searching(tmp_path, VIETNAMESE.items()) as (searcher, _):
        hits = searcher.search(Query("bạn bán", explain=True))
    matching = {hit.path for hit in hits if hit.reasons and hit.reasons.in_text}
    assert matching == {"friends.md", "sale.md"}


def test_vietnamese_text_without_accents_is_found(tmp_path: Path) -> None:
    with searching(tmp_path, VIETNAMESE.items()) as (searcher, _):
        assert searcher.search(Query("thủ tục không dấu"))[0].path == "plain.md"
        assert "sale.md" in paths(searcher.search(Query("ban can nha ngoai thanh")))[:2]


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("sala", "hr/pay.txt"),
        ("acco", "it/vpn.md"),
        ("working day of the mon", "hr/pay.txt"),
        ("the prin", "it/printer.md"),
        ("PRINT", "it/printer.md"),
        ("报", "zh/报销.md"),
    ],
)
def test_word_being_typed_matches_longer_words(searcher: Search, typed: str, path: str) -> None:
    assert searcher.search(Query(typed, unfinished=True))[0].path == path


@pytest.mark.parametrize("typed", ["quetzalc", "sala ", "sala.", "sa", ""])
def test_prefix_of_no_word_finds_nothing(searcher: Search, typed: str) -> None:
    assert "hr/pay.txt" not in paths(searcher.search(Query(typed, unfinished=True)))


def test_whole_word_ranks_before_longer_ones(tmp_path: Path) -> None:
    texts = [("word.md", "the password of the office"), ("pass.md", "the pass of the mountain")]
    with searching(tmp_path, texts) as (searcher, _):
        assert paths(searcher.search(Query("pass", unfinished=True))) == ["pass.md", "word.md"]


def test_snippet_highlights_words_starting_with_the_last_word() -> None:
    text = "The printer prints. Sprint! Printing salaries"
    beginning = ["printer", "prints", "Printing"]
    for unfinished, marked in ((True, [*beginning, "salaries"]), (False, ["salaries"])):
        result = snippet(text, "salary prin", 90, unfinished=unfinished)
        assert [result.text[start:end] for start, end in result.spans] == marked


HYPHENATED = {
    "wifi.md": "The Wi-Fi in the office is slow.",
    "work.md": "All teams co-operate; the E-Mail-Adresse is new.",
    "shop.md": "The e\u2011commerce team did the set-up of the интернет-магазин.",
    "log.md": "The login page of the database has a website.",
    "rack.md": "Machine 550e8400-e29b-41d4-a716-446655440000 is here.",
    "disk.md": "Disk 123e4567e89b12d3a456426614174000 is there.",
}
REHYPHENATED = [
    *(("wifi", "wifi.md"), ("wifi password", "wifi.md"), ("cooperate", "work.md"), ("ecommerce", "shop.md")),
    *(("setup", "shop.md"), ("emailadresse stimmt", "work.md"), ("интернетмагазин", "shop.md")),
    *(("log-in", "log.md"), ("data-base", "log.md"), ("web-site", "log.md"), ("WI-FI", "wifi.md")),
    *(("550E8400E29B41D4A716446655440000", "rack.md"), ("123e4567-e89b-12d3-a456-426614174000", "disk.md")),
]


@pytest.mark.parametrize(("question", "path"), REHYPHENATED)
def test_word_is_found_with_and_without_its_hyphen(tmp_path: Path, question: str, path: str) -> None:
    others = [(f"{number}.md", f"Something about password number {number}.") for number in range(9)]
    with searching(tmp_path, [*HYPHENATED.items(), *others]) as (searcher, _):
        assert searcher.search(Query(question))[0].path == path
        unknown = searcher.unknown_words(Query(question))
        assert (unknown.are_all, unknown.instead.keys() - {"stimmt"}) == (False, set())
        if " " not in question:
            assert paths(searcher.search(Query(question, phrases=(question,)))) == [path]


@pytest.mark.parametrize(
    ("typed", "path", "written"), [("wif", "wifi.md", "wifi"), ("team ecom", "shop.md", "ecommerce")]
)
def test_word_being_typed_matches_hyphenated_words(
    tmp_path: Path, typed: str, path: str, written: str
) -> None:
    with searching(tmp_path, HYPHENATED.items()) as (searcher, _):
        first, *_ = searcher.search(Query(typed, unfinished=True, explain=True))
        assert first.path == path
        assert first.reasons is not None
        assert written in [word.written for word in first.reasons.in_text]


@pytest.mark.parametrize(
    ("question", "instead", "are_all"),
    [
        ("Lo-Fi", {"Lo": ""}, False),  # "fi" is part of "Hi-Fi"
        ("Wi-Fi", {}, False),
        ("Foo-Bar foobar", {"Foo": "", "Bar": "", "foobar": ""}, True),
    ],
)
def test_each_unknown_part_of_a_hyphenated_word_is_named_once(
    tmp_path: Path, question: str, instead: dict[str, str], are_all: bool
) -> None:
    texts = [("with.md", "A Hi-Fi system."), ("without.md", "The wifi.")]
    with searching(tmp_path, texts) as (searcher, _):
        unknown = searcher.unknown_words(Query(question))
        assert (unknown.instead, unknown.are_all) == (instead, are_all)


@pytest.mark.parametrize(
    ("question", "path"),
    [
        *(
            ("5551234567", "us.md"),
            ("555-123-4567", "us.md"),
            ("0891234567", "de.md"),
            ("089 1234567", "de.md"),
        ),
        *(("+49 (0)89 1234567", "de.md"), ("80070005", "hex.md"), ("14. März 2026", "date.md")),
        *(("إجازة", "ar.md"), ("المكتب", "ar.md"), ("סיסמה", "he.md"), ("החופשה", "he.md")),
        *(("0011.2233.4455", "mac.md"), ("00-11-22-33-44-55", "mac.md"), ("aa:bb:cc:12:34:56", "cisco.md")),
        *(("7:45 pm", "train.md"), ("7:45pm", "train.md"), ("door 18:30", "doors.md"), ("20:00", "doors.md")),
        *(("すいか", "suica.md"), ("ラーメン", "ramen.md")),
        *(("at 8 p.m.", "doors.md"), ("9:05", "early.md"), ("at&t syntax", "att.md")),
    ],
)
def test_number_date_or_noun_is_found_in_another_notation(tmp_path: Path, question: str, path: str) -> None:
    texts = {
        "us.md": "Call (555) 123-4567.",
        "de.md": "Call +49 89 1234567.",
        "hex.md": "ERROR 0x80070005: access denied",
        "date.md": "Due on 14 March 2026. Mr. Marz.",
        "ar.md": "الإجازة السنوية في مكتب",
        "he.md": "הסיסמה של חופשה",
        "mac.md": "Printer 00:11:22:33:44:55.",
        "cisco.md": "Switch aabb.cc12.3456 is up.",
        "train.md": "It departs at 19:45.",
        "doors.md": "Doors open 6:30 pm, concert at 8pm.",
        "early.md": "Breakfast from 09:05.",
        "att.md": "The AT&T syntax.",
        "suica.md": "空港でスイカを買う。",
        "ramen.md": "新宿でらーめんを食べる。",
        "t.md": "The syntax of T. " * 9,
    }
    others = [(f"{number}.md", f"Call {number} on 15 May, 45, 18, 20, 05.") for number in range(9)]
    with searching(tmp_path, [*texts.items(), *others]) as (searcher, _):
        assert searcher.search(Query(question))[0].path == path
        unknown = searcher.unknown_words(Query(question))
        assert not unknown.codes
        assert path in ("ar.md", "he.md") or not (unknown.are_all or any(unknown.instead.values()))


def test_few_times_of_a_pasted_timetable_are_looked_up_in_other_spellings() -> None:
    times = [f"{hour}:{minute:02}" for hour in range(6, 20) for minute in (5, 35)]
    assert {start for start, _, _ in other_spellings(" ".join(times))} == {0, 5, 10, 15}


def test_unknown_telephone_number_is_named_as_typed(searcher: Search) -> None:
    assert searcher.unknown_words(Query("(555) 123-4567")).instead == {"555": "", "123-4567": ""}


@pytest.mark.parametrize(("question", "written"), [("wifi", "Wi-Fi"), ("Wi-Fi", "wifi"), ("wi-fi", "Wi-Fi")])
def test_snippet_highlights_a_word_with_and_without_its_hyphen(question: str, written: str) -> None:
    result = snippet(f"Use the {written} here.", question, 80)
    assert [result.text[start:end] for start, end in result.spans] == [written]


def test_hyphenated_word_ranks_like_the_same_word_without_a_hyphen(tmp_path: Path) -> None:
    texts = [("with.md", "Use the Wi-Fi."), ("without.md", "Use the wifi."), ("c.md", "Use it.")]
    with searching(tmp_path, texts) as (searcher, _):
        for question in ("wifi", "Wi-Fi"):
            hits = searcher.search(Query(question, explain=True))
            assert {hit.path for hit in hits[:2]} == {"with.md", "without.md"}
            assert all(hit.reasons and hit.reasons.in_text for hit in hits[:2])
        assert searcher.search(Query("wifi"))[0].path == "without.md"
        assert searcher.search(Query("Wi-Fi"))[0].path == "with.md"


def test_hit_has_its_location(searcher: Search) -> None:
    hit = searcher.search(Query("thirty days of paid leave"))[0]
    assert (hit.title, hit.modified, hit.remote_id) == ("Leave", 1.0, "1")
    best = hit.passages[0]
    assert (best.headings, best.line, best.page) == (("Leave",), 1, None)
    assert "thirty days" in best.text
    assert hit.score == best.score > 0.5


def test_unrelated_documents_are_excluded(searcher: Search) -> None:
    assert searcher.search(Query("quetzalcoatlus")) == []
    assert searcher.search(Query("leave", top_k=0)) == []


def test_similarity_of_unrelated_texts_is_known_only_for_the_built_in_model(tmp_path: Path) -> None:
    class Other(LocalEncoder):
        """Like a model whose minimum cosine is unknown."""

        least_cosine = LocalEncoder(tmp_path).least_cosine

    with searching(tmp_path, TEXTS.items(), Other()) as (searcher, _):
        assert paths(searcher.search(Query("quetzalcoatlus"))) != []


NOUNS = """
car engine garage | bread oven flour | violin orchestra concert | court judge lawyer | hospital nurse surgery
whale ocean reef | bishop cathedral prayer | goat shepherd pasture | tax invoice ledger | volcano lava ash
glacier avalanche skier | keyboard compiler software | vaccine virus fever | ballot senate election
bee hive honey | brick mortar wall | camera lens portrait | chess bishop gambit | desert camel dune
diamond ring jeweller | drum guitar band | eagle falcon nest | fabric needle tailor | forest oak squirrel
galaxy telescope comet | goalkeeper penalty stadium | grape cellar wine | hammer nail carpenter
helmet soldier trench | ink printer paper | island ferry harbour | jungle parrot vine | kettle tea porcelain
ladder roof chimney | library shelf novel | lighthouse fog cliff | magnet iron compass | marathon sprint coach
microscope cell bacteria | mirror comb barber | mosque minaret imam | mushroom soil fungus
nuclear reactor uranium | opera soprano stage | orchid greenhouse gardener | palace queen crown
parachute pilot runway | passport border visa | perfume rose bottle | piano sonata composer
pirate treasure sail | poem verse rhyme | potato onion soup | prison guard cell | puppy leash kennel
railway platform ticket | refrigerator ice milk | river dam turbine | robot sensor welding
saddle horse stable | satellite orbit rocket | school pupil teacher | shark fin tooth
skyscraper elevator concrete | igloo polar seal
snow sledge mitten | spider web silk | spoon bowl porridge | storm thunder hail | sugar cake candle
sword knight castle | tent campfire hiking | thief alarm police | tiger zoo cage | tobacco pipe smoke
tractor plough wheat | tunnel miner coal | umbrella rain puddle | wallet coin bank | watch clock pendulum
"""
MANY = [
    (f"{number}.txt", nouns.strip())
    for number, nouns in enumerate(NOUNS.strip().replace("\n", "|").split("|"))
]


class HighCosines(LocalEncoder):
    """Imitates a service for whose model all texts are similar."""

    model, least_cosine = "high", None

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        future = Future[Vectors]()
        raw = super().begin(chunks).result()
        future.set_result({key: self._shift(raw[key]).astype("f2").tobytes() for key in raw})
        return future

    def query(self, text: str) -> Any:
        import numpy as np

        return self._shift(np.asarray(super().query(text)).astype("f2").tobytes())

    def _shift(self, vector: bytes) -> Any:
        import numpy as np

        numbers = np.frombuffer(vector, "f2").astype("f4") + np.sqrt(2 / 256)
        return numbers / np.linalg.norm(numbers)


HIGH_COSINES = HighCosines()


def high_entry(number: int, path: str, text: str) -> Entry:
    document = entry(number, path, text)
    return replace(document, vectors=HIGH_COSINES.begin(document.chunks).result())  # type: ignore[arg-type]


UNRELATED = ("nobody knows", "because of that", "blorf")
SYNONYMS = {
    "automobile mechanic repair": "car engine garage",
    "symphony musicians": "violin orchestra concert",
    "attorney": "court judge lawyer",
}


@long
def test_similarity_of_unrelated_texts_is_estimated_for_other_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    with closing(SqliteStore(tmp_path)) as store:
        searcher = Search(store, HIGH_COSINES)
        few, rest = MANY[:3], MANY[3:]
        store.put([high_entry(number, *fields) for number, fields in enumerate(few, 1)], HIGH_COSINES)
        assert len(searcher.search(Query("nobody knows"))) == 3
        assert searcher.search(Query("automobile mechanic repair"))[0].passages[0].text == MANY[0][1]
        store.put([high_entry(number, *fields) for number, fields in enumerate(rest, 4)], HIGH_COSINES)
        assert [len(searcher.search(Query(query))) for query in UNRELATED] == [0, 0, 0]
        with store.snapshot() as snapshot:
            estimate = snapshot.estimate_least_cosine(HIGH_COSINES.model)
        similarity = mean(
            np.dot(*combination)
            for combination in combinations(map(HIGH_COSINES.query, dict(MANY).values()), 2)
        )
        assert estimate == pytest.approx(similarity + (1 - similarity) / 9, abs=0.001)
        for question, text in SYNONYMS.items():
            assert searcher.search(Query(question))[0].passages[0].text == text
        monkeypatch.setattr(HighCosines, "least_cosine", 0.0)
        assert [len(searcher.search(Query(query))) for query in UNRELATED] == [10, 10, 10]


def test_merely_similar_documents_are_excluded_when_one_has_the_exact_word(searcher: Search) -> None:
    assert paths(searcher.search(Query("month"))) == ["hr/pay.txt"]
    assert paths(searcher.search(Query("working"))) == ["hr/pay.txt"]


@long
def test_filter_leaves_all_remaining_hits(tmp_path: Path) -> None:
    noise = [(f"noise/{number}.md", f"the budget of team {number} " * 3) for number in range(700)]
    matching = [
        (f"kept/{number}.md", f"a long and winding text that names the budget once, number {number}")
        for number in range(12)
    ]
    with searching(tmp_path, noise + matching) as (searcher, _):
        for text in ("budget", "budgets of a team by number"):
            hits = searcher.search(Query(text, top_k=12, paths=("kept/",)))
            assert {hit.path for hit in hits} == {path for path, _ in matching}


def test_large_document_does_not_crowd_out_others(tmp_path: Path) -> None:
    large = "\n\n".join(f"## Part {number}\n\n" + f"budget plan {number} " * 20 for number in range(400))
    texts = [("large.md", large), *((f"{number}.md", f"budget {number}") for number in range(9))]
    with searching(tmp_path, texts) as (searcher, _):
        hits = searcher.search(Query("budget", top_k=10))
    assert len(hits) == 10
    assert max(len(hit.passages) for hit in hits) == 3


FRUITS = ("apple", "pear", "plum", "quince", "medlar", "cherry", "grape", "lemon", "olive", "peach")
FILES_BESIDE_A_LOG = [
    (
        f"papers/paper {number}.txt",
        f"On the {fruit} of {FRUITS[number % 10 - 1]} farms and their keeping in winter.",
    )
    for number, fruit in enumerate(FRUITS * 6)
]
QUESTIONS_BESIDE_A_LOG = [
    *(f"paper {number}" for number in range(60)),
    *(f"the paper {number} {FRUITS[number % 10]}" for number in range(60)),
    *FRUITS,
    *(f"keeping of {fruit} in winter" for fruit in FRUITS),
]


def log_entry(count: int) -> Entry:
    """A log of `count` passages: every name and every word of the other files is somewhere in it, often
    together and repeated."""
    return log_of(
        f"2026-03-{n % 28:02} paper {n % 60} report {n % 9}: {FRUITS[n % 10]} {FRUITS[n % 7]} winter " * 3
        for n in range(count)
    )


def log_of(lines: Iterable[str]) -> Entry:
    """A log with a passage for each line."""
    chunks = tuple(Chunk(line, line, hashlib.sha256(line.encode()).hexdigest()) for line in lines)
    vectors = ENCODER.begin(chunks).result()
    return replace(entry(99, "logs/server.log", "x"), chunks=chunks, vectors=vectors)  # type: ignore[arg-type]


@long
def test_large_log_changes_no_rank(tmp_path: Path) -> None:
    with searching(tmp_path, FILES_BESIDE_A_LOG) as (searcher, writer):
        before = [paths(searcher.search(Query(query))) for query in QUESTIONS_BESIDE_A_LOG]
        writer.put([log_entry(4_000)], ENCODER)
        after = [paths(searcher.search(Query(query))) for query in QUESTIONS_BESIDE_A_LOG]
        assert paths(searcher.search(Query("report 7 quince medlar")))[0] == "logs/server.log"
    for question, its_before, its_after in zip(QUESTIONS_BESIDE_A_LOG, before, after, strict=True):
        assert its_after[0] == its_before[0], question


@pytest.mark.parametrize("question", ["quasarfault", "error quasarfault", "farm error quasarfault"])
def test_word_that_only_a_large_log_has_is_found_first(tmp_path: Path, question: str) -> None:
    """Such a match is no coincidence, however large the log and however long the line."""
    notes = [(f"{number}.md", f"Fault and error handling {number}: the farm failed.") for number in range(30)]
    filler = "line after line of other words that make this passage a good deal longer than the notes "
    lines = [f"tick {number} {filler}" for number in range(1_500)]
    lines[700] += "farm error quasarfault"
    with searching(tmp_path, notes) as (searcher, writer):
        writer.put([log_of(lines)], ENCODER)
        hits = searcher.search(Query(question))
    assert hits[0].path == "logs/server.log" and "quasarfault" in hits[0].passages[0].text


IN_MANY_SENTENCES = (
    "The boiler hums. Paint the hall. Call the plumber. A spare valve is there. It is near the cellar."
)
IN_ONE_SENTENCE = (
    "The boiler valve is in the cellar. Paint the hall. Call the plumber. It hums. There is a spare key."
)


@pytest.mark.parametrize(
    "question", ["boiler valve cellar", "boiler valve cellr", "Where is the cellar's boiler valve?"]
)
def test_words_in_one_sentence_rank_before_scattered_ones(tmp_path: Path, question: str) -> None:
    texts = [
        ("a.md", IN_MANY_SENTENCES),
        ("b.md", IN_ONE_SENTENCE),
        ("c.md", "The valve."),
        ("d.md", "A cellar."),
    ]
    texts += [(f"{number}.md", f"Note {number} on the boiler.") for number in range(20)]
    with searching(tmp_path, texts) as (searcher, _):
        hits = searcher.search(Query(question, explain=True))
    assert paths(hits)[:2] == ["b.md", "a.md"]
    shares = [hit.reasons.together for hit in hits[:2] if hit.reasons is not None]
    assert shares[0] > 1.2 * shares[1] > 0
    assert all(a.score >= b.score for a, b in pairwise(hits))


REPEATED_WORD = [
    ("a.c", "oxygen_init(oxygen); oxygen_read(oxygen); " * 3),
    (
        "b.md",
        "Oxygen is in a bottle. Breakfast is served on deck, with tea and bread. "
        "The captain left the cabin at noon.",
    ),
    *(
        (f"{number}.md", f"Note {number} on {'cabin' if number % 2 else 'oxygen'} and other things.")
        for number in range(8)
    ),
    *((f"{number}.md", f"Note {number} on other things.") for number in range(50, 70)),
]


def test_text_with_all_words_ranks_before_one_that_repeats_one_of_them(tmp_path: Path) -> None:
    with searching(tmp_path, REPEATED_WORD) as (searcher, _):
        assert paths(searcher.search(Query("oxygen cabin")))[0] == "b.md"


def test_file_asked_for_by_its_name_ranks_before_sentences(tmp_path: Path) -> None:
    texts = [("paper 2.md", "On medicine."), ("wiki.md", "A file is a stream. The file was sent.")]
    texts += [(f"paper {number}.md", f"Number {number} of a series.") for number in range(3, 30)]
    with searching(tmp_path, texts) as (searcher, _):
        assert paths(searcher.search(Query("the paper 2 file")))[0] == "paper 2.md"


@pytest.mark.parametrize(
    ("sentences", "around", "share"),
    [
        ([{"a", "b"}], set(), 1.0),
        ([{"a"}, {"b"}], set(), 0.75),
        ([{"a"}, set(), {"b"}], set(), 0.625),
        ([{"a"}], {"b"}, 0.75),
        ([set()], {"a", "b"}, 0.5),
        ([{"c"}], set(), 0.0),
        ([], {"a"}, 0.0),
    ],
)
def test_share_of_a_question_in_one_sentence(
    sentences: list[set[str]], around: set[str], share: float
) -> None:
    assert share_together({Term(letter, letter): 2.0 for letter in "ab"}, sentences, around) == share
    unfinished = {Term("a", "a"): 2.0, Term("b", "b"): 2.0, Term("b", "b", goes_on=True): 2.0}
    assert share_together(unfinished, sentences, around) == share


def test_single_rare_word_of_a_question_does_not_outweigh_its_meaning(tmp_path: Path) -> None:
    texts = [
        ("badges.md", "A badge that does not come back within a week is blocked."),
        (
            "backups.md",
            "To restore a file, ask for the day it was last right; copies are kept for ninety days.",
        ),
    ]
    with searching(tmp_path, texts) as (searcher, _):
        hits = searcher.search(Query("how do I get an old version of a document back"))
    assert max(hit.score for hit in hits) < 0.3


SCATTERED = {
    "2026-03-14": (
        "the audit of {} began",
        "On 2026-03-15, 2026-03-16 and 2026-04-14 it went on for 14 people",
    ),
    "192.168.10.24": ("printers: {}, basement", "168.192.10.24, 192.168.10.25 and 192.168.10.26, in room 24"),
    "v1.2.3": ("we use {}.", "v1.2.4 was before v1.3.2, v1.3.3 and v2.1.3, 3 of them in use"),
    "2.10.3": (
        "## v{}\n\nFixes the crash",
        "Room 10 has 3 chairs. V2 rockets; v2 of the plan: 10 steps, 3 goals",
    ),
    "get_user_settings": (
        '"""App."""\nimport os\n\n\ndef start(config):\n    {}(config.path)\n    return Server(config.port)',
        "def user_settings(): pass\ndef get_user(): return user\ndef get_settings(): return settings",
    ),
    "proxy-read-timeout": (
        "proxy:\n  timeout: 5\n  {}: 60\n  buffers: 8",
        "The proxy has a timeout. If you read the proxy log, a read after the timeout is shown. Read on",
    ),
    "os.path.join": ("We call {} here", "join the path of the os: a path is joined by os, path after path"),
    "std::ostream": ("bool print({}& out)", "ostream std, std ostream? The std of an ostream"),
    "10:42": ("It began at {} and ended soon", "at 10:15, 10:16, 10:17 and 11:42; 42 came, 10 stayed"),
}


@pytest.mark.parametrize("code", SCATTERED)
@pytest.mark.parametrize("question", ["{}", "what was there on {} and why"])
def test_code_precedes_texts_that_only_have_its_parts(tmp_path: Path, code: str, question: str) -> None:
    text, scattered = SCATTERED[code]
    texts = [("right.md", text.format(code)), ("wrong.md", scattered), *TEXTS.items()]
    with searching(tmp_path, texts) as (searcher, _):
        assert paths(searcher.search(Query(question.format(code))))[0] == "right.md"


def test_extension_in_a_file_name_may_follow_a_space(tmp_path: Path) -> None:
    text = "Upload the customers as csv. A csv file of customers has customers, csv has rows."
    texts = [("data/customers.csv", "id,name"), *((f"{number}.md", text) for number in range(5))]
    with searching(tmp_path, texts) as (searcher, _):
        for question in ("customers csv", "Customers CSV", "data/customers csv"):
            assert paths(searcher.search(Query(question)))[0] == "data/customers.csv"
        assert paths(searcher.search(Query("customers csv rows")))[0] != "data/customers.csv"


OTHER_SPELLINGS = (
    ("color", "colour"), ("behaviour", "behavior"), ("neighbours", "neighbors"), ("center", "centre"),
    ("kilometre", "kilometers"), ("organise", "organized"), ("analyzing", "analyse"),
    ("catalog", "catalogues"), ("defence", "defense"), ("traveller", "travelers"), ("modeling", "modelling"),
    ("gray", "grey"), ("programme", "program"), ("child", "children"), ("geese", "goose"),
    ("criterion", "criteria"),
)  # fmt: skip


@pytest.mark.parametrize(("question", "written"), OTHER_SPELLINGS)
def test_british_and_american_spelling_and_irregular_plurals_find_each_other(
    tmp_path: Path, question: str, written: str
) -> None:
    """Even if a document has the word as typed."""
    texts = [("right.md", f"We need this: {written}."), ("other.md", "We need that.")]
    with searching(tmp_path, [*texts, ("same.md", f"Nothing but {question} here.")]) as (searcher, _):
        assert set(paths(searcher.search(Query(question)))[:2]) == {"same.md", "right.md"}
    marked = snippet(texts[0][1], question, 80)
    assert [marked.text[start:end] for start, end in marked.spans] == [written]


@pytest.mark.parametrize(("question", "written"), [("organisation", "organization"), ("wifi", "Wi-Fi")])
def test_rare_spelling_of_a_common_word_does_not_outweigh_the_words_own(
    tmp_path: Path, question: str, written: str
) -> None:
    texts = [(f"{number}.md", f"Our {question} has a rule {number}.") for number in range(60)]
    texts += [(f"{question}.md", f"The {question} itself."), ("rare.md", f"Read this: {written}.")]
    with searching(tmp_path, texts) as (searcher, _):
        hits = searcher.search(Query(question, top_k=len(texts)))
    assert hits[0].path == f"{question}.md"
    assert "rare.md" in paths(hits)
    assert all(hit.score < 3 for hit in hits[1:])


@pytest.mark.parametrize(("question", "written"), [("email", "e-mail"), ("E-Mails", "email")])
def test_email_is_found_however_it_is_written(tmp_path: Path, question: str, written: str) -> None:
    texts = [("right.md", f"Send us an {written}."), ("other.md", "Send us that.")]
    with searching(tmp_path, [*texts, ("same.md", f"Nothing but {question} here.")]) as (searcher, _):
        assert paths(searcher.search(Query(question))) == ["same.md", "right.md"]


def test_variants_are_only_other_spellings() -> None:
    words = ["four", "sense", "called", "rise", "blog", "fire", "error", "hour", "文", "größer", "", "i"]
    assert variants_in(words) == {}
    assert len(variants_in(f"{letter}organise" for letter in "abcdefghijklmnopqrstuvwxyz")) == MAX_VARIANTS


@pytest.mark.parametrize(("question", "text"), [("V.P.N. client", "The VPN"), ("VPN", "The V.P.N.")])
def test_acronym_is_found_with_and_without_dots(tmp_path: Path, question: str, text: str) -> None:
    noise = [
        (f"{number}.md", "Client V, point P: the client of N. v p n V.P. client P.N.") for number in range(5)
    ]
    with searching(tmp_path, [("right.md", f"{text} is slow."), *noise]) as (searcher, _):
        assert paths(searcher.search(Query(question)))[0] == "right.md"


SPELLINGS_OF_A_DAY = (
    "2026-03-14", "2026/3/14", "14.3.2026", "14. 3. 2026", "14.03.2026", "3/14/2026", "14-Mar-2026",
    "14 March 2026", "14th of March, 2026", "March 14, 2026", "Mar 14 2026", "14. März 2026", "14 mars 2026",
    "14 de marzo de 2026", "2026年3月14日", "2026 年 3 月 14 號", "2026년 3월 14일",
)  # fmt: skip


@pytest.mark.parametrize("question", SPELLINGS_OF_A_DAY)
def test_date_is_found_however_it_is_written(tmp_path: Path, question: str) -> None:
    """It precedes dates that share its parts, and its month precedes other months."""
    other_days = [
        "14.3.2025", "14 March 2025", "2026-04-14", "4/14/2026", "15 March 2025, 14 people", "2025年3月14日",
        "3 items on 14 pages, 2026 copies", "26.1.2014", "April 14, 2026", "14. April 2026", "13 March 2024",
    ]  # fmt: skip
    texts = [(f"{number}.md", f"The meeting on {day} was long.") for number, day in enumerate(other_days)]
    for written in ("2026-03-14", "14.3.2026", "14 March 2026", "2026年3月14日"):
        with searching(
            tmp_path / written.replace("/", "."), [*texts, ("right.md", f"We met. It was {written}.")]
        ) as (searcher, _):
            assert paths(searcher.search(Query(question)))[0] == "right.md"
            assert not searcher.unknown_words(Query(question)).codes
            [right, *_] = searcher.search(Query(f"meeting {question}"))
            assert right.path == "right.md"


@pytest.mark.parametrize("question", ["March 2026", "2026-03", "3/2026", "2026年3月", "März 2026"])
def test_month_is_found_by_its_days(tmp_path: Path, question: str) -> None:
    days = ["14.4.2026", "3.5.2026", "14.3.2025", "2026-12-03", "2 April 2026", "March 2024"]
    texts = [(f"{number}.md", f"The meeting was on {day}.") for number, day in enumerate(days)]
    with searching(tmp_path, [*texts, ("minutes 20.3.2026.md", "Bread.")]) as (searcher, _):
        assert paths(searcher.search(Query(question)))[0] == "minutes 20.3.2026.md"


def test_dates_are_recognized_only_with_a_year() -> None:
    text = "5 of 12, v2026.3, 10.0.2026, INV-2026-0042, 1.2.3.2026, 2026-13-45, 99.3.2026, may 14, 2026"
    assert date_forms(text) == {"20260514", "202605"}
    assert date_forms("in 2001-02 and 2010/11") == set()
    assert date_forms("2001-03, 2002-02-01, 2001年2月") == {"200103", "20020201", "200202", "200102"}
    assert date_forms("3/4/2026") == {"20260403", "202604", "20260304", "202603"}
    assert date_forms("1.6.2026-31.5.2031") == {"20260601", "202606", "20310531", "203105"}
    assert date_forms("14. of September., del 2026") == {"20260914", "202609"}
    assert date_forms("14th. of September., del 2026") == {"202609"}, "the words of an index never change"
    assert date_forms("x14.3.2026, 1.14.3.2026, 114 May 2026, xMay 2026") == {"20260314", "202603", "202605"}


def test_code_precedes_a_file_named_after_its_parts(tmp_path: Path) -> None:
    text, scattered = SCATTERED["get_user_settings"]
    texts = [("app.py", text.format("get_user_settings")), ("user_settings.py", scattered), ("z.py", "x = 1")]
    with searching(tmp_path, texts) as (searcher, _):
        assert paths(searcher.search(Query("get_user_settings")))[0] == "app.py"


@long
@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Order PO2026044 is due.", "PO-2026-044"),
        ("Order PO2026044 is due.", "order PO-2026-044"),
        ("Order PO2026044 is due.", "PO 2026 044"),
        ("Label 001A2B3C4D5F.", "00:1a:2b:3c:4d:5f"),
        ("Label 001A2B3C4D5F.", "00-1A-2B-3C-4D-5F"),
        ("Id 223e4567e89b12d3a456426614174000.", "223e4567-e89b-12d3-a456-426614174000"),
        ("Label 001A2B3C4D5F.", "001A.2B3C.4D5F"),
    ],
)
def test_code_is_found_without_its_separators(tmp_path: Path, text: str, question: str) -> None:
    similar = "Order PO-2026-045, 00:1A:2B:3C:4D:5E, 00-1A-2B-3C-4D-60, 123e4567-e89b-12d3-a456-426614174000."
    texts = [("a.md", text), ("b.md", similar), *((f"{number}.md", "Nothing.") for number in range(9))]
    with searching(tmp_path, texts) as (search, _):
        assert search.search(Query(question))[0].path == "a.md"
        unknown = search.unknown_words(Query(question))
        assert (unknown.instead, unknown.are_all, unknown.codes) == ({}, False, ())


@pytest.mark.parametrize("question", ["INV2026031", "INV-2026-031", "invoice INV2026031"])
def test_code_is_found_in_both_spellings(tmp_path: Path, question: str) -> None:
    texts = [("INV2026031.txt", "Paid."), ("rack.md", "Invoice INV-2026-031."), ("log.md", "Id INV2026031.")]
    others = [(f"{number}.md", f"Invoice {number} INV-2026-{number}") for number in range(100, 109)]
    with searching(tmp_path, [*texts, *others]) as (search, _):
        assert set(paths(search.search(Query(question)))[:3]) == {path for path, _ in texts}
        assert search.unknown_words(Query(question)).instead == {}


def test_word_with_a_digit_is_found_as_typed_first(tmp_path: Path) -> None:
    texts = [(f"f{n}.md", f"# Title {n}\n\nThe text of number{n}.") for n in range(6)]
    texts += [(f"later{n}.md", f"# Later\n\nAdded as number {n}.") for n in range(14)]
    with searching(tmp_path, texts) as (search, _):
        assert paths(search.search(Query("number3")))[0] == "f3.md"


def test_code_is_found_among_many_passages_with_its_words(tmp_path: Path) -> None:
    """However many passages have the words, and in the passage that has the code, however long its file."""
    often = "user settings: get the user, get settings, settings of the user. "
    noise = [(f"{number}.md", often * 3) for number in range(DEPTH + 50)]
    long_text = "\n\n".join(f"## Part {number}\n\n{often * 4}" for number in range(20))
    right = f"{long_text}\n\n## Last\n\n{'A line of other words. ' * 40} get_user_settings(path)"
    with searching(tmp_path, [*noise, ("right.md", right)]) as (searcher, _):
        for question in ("get_user_settings", "where is get_user_settings called"):
            best = searcher.search(Query(question))[0]
            assert best.path == "right.md" and "get_user_settings" in best.passages[0].text


NAMES_WITH_SYMBOLS = ("C++", "C#", ".NET", "AT&T", "R&D")


@pytest.mark.parametrize("name", NAMES_WITH_SYMBOLS)
def test_name_with_symbols_is_found_among_texts_with_its_letters(tmp_path: Path, name: str) -> None:
    letters = "The net result at point C: see appendix C, part D, section T and R."
    texts = [(f"{number}.md", f"Note {number}. {letters}\n\n# C\n\nNet R, D, C.") for number in range(60)]
    texts.insert(30, ("errors.md", f"A list of errors of all kinds. {', '.join(NAMES_WITH_SYMBOLS)}. More."))
    with searching(tmp_path, texts) as (search, _):
        for question in (name, f"errors in {name}?", f"关于{name}的问题"):
            assert search.search(Query(question))[0].path == "errors.md"


def test_names_with_symbols_are_words_only_as_a_whole() -> None:
    forms = [form for _, _, form in forms_in("C++, c# and ASP.NET, x.net; .NET AT&T a&b ABC++ &amp; #c")]
    assert forms == ["cplusplus", "csharp", "dotnet", "att"]


def test_stop_words_joined_by_a_separator_are_no_code(tmp_path: Path) -> None:
    texts = [
        ("right.md", "Cats or dogs are allowed, cats and dogs."),
        ("wrong.md", "This and/or that: dogs."),
    ]
    with searching(tmp_path, texts) as (searcher, _):
        hits = searcher.search(Query("cats and/or dogs allowed"))
    assert paths(hits)[0] == "right.md"


def test_codes_are_letters_and_digits_joined_by_separators() -> None:
    question = (
        "On 2026-03-14, host 10.0.0.1:8080, E-4471 and v1.2.3. a_b A::b c/d 8,999 and/or e-mail 42. __x__"
    )
    assert codes_in(question) == ["2026-03-14", "10.0.0.1:8080", "e-4471", "v1.2.3", "a_b", "a::b", "c/d"]


def test_code_is_found_with_other_separators_and_not_within_longer_numbers() -> None:
    has_date = code_test("2026-03-14")
    assert all(map(has_date, ("2026-03-14", "(2026/03/14)", "于2026-03-14发布", "2026-03-14T10:00")))
    assert not any(map(has_date, ("2026-03-145", "12026-03-14", "2026-03 14", "a2026-03-14", "")))
    has_version = code_test("v2.10.3")
    assert all(map(has_version, ("v2.10.3", "2.10.3", "V2.10.3beta", "at v2.10.3.")))
    assert not any(map(has_version, ("v2.10.31", "12.10.3", "rev2.10.3")))
    has_price = code_test("12.50")
    assert all(map(has_price, ("12.50", "12,50 €", "(12.50)"))) and not has_price("12, 50")
    has_name = code_test("read_time")
    assert has_name("self.read-time(") and not has_name("read_timeout") and not has_name("thread_time")


@long
def test_file_named_in_a_query_precedes_a_log_with_all_its_words(tmp_path: Path) -> None:
    fruit_files = [(f"{number}.txt", f"The file on {fruit} farms.") for number, fruit in enumerate(FRUITS)]
    files = [*FILES_BESIDE_A_LOG, *fruit_files, ("notes/2026-03-14.md", "Bread.")]
    files += [
        ("adr/0008-file-limit.md", "A bucket for each key."),
        ("a.md", "The file limit is a limit of files."),
    ]
    with searching(tmp_path, files) as (searcher, writer):
        writer.put(
            [
                log_of(
                    f"{number} 2026-03-14 paper {number % 60} file in winter, and more"
                    for number in range(2_000)
                )
            ],
            ENCODER,
        )
        named = {
            "the paper 15 file": "papers/paper 15.txt",
            "file 2026-03-14.md": "notes/2026-03-14.md",
            "file limit": "adr/0008-file-limit.md",
        }
        for question, path in named.items():
            assert paths(searcher.search(Query(question)))[0] == path


@long
def test_log_named_like_the_query_precedes_texts_about_it(tmp_path: Path) -> None:
    about = "With a base name of server.log, you get server.log, then server.log.1 and server.log.2."
    files = [
        *FILES_BESIDE_A_LOG,
        ("handlers.py", f"{about}\n" * 3),
        ("server.md", f"# server.log\n\n{about}"),
    ]
    with searching(tmp_path, files) as (searcher, writer):
        writer.put([log_of(f"{number} login {number * 7} ok" for number in range(3_000))], ENCODER)
        assert paths(searcher.search(Query("server.log")))[0] == "logs/server.log"


def test_name_in_a_query_has_several_ordered_words() -> None:
    has_name = whole_name_test("Where is Paper 15 of May?")
    matching = ("a/paper 15.txt", "paper-15.pdf", "15_of_may.md", "07-where-is.md", "2026-03-14 paper 15.md")
    assert all(map(has_name, matching))
    assert not any(map(has_name, ("15 paper.txt", "paper 1.txt", "15.txt", "paper", "paper 15 of June.txt")))


def test_log_of_short_lines_does_not_change_word_weights_of_long_texts(tmp_path: Path) -> None:
    """The average length is that of documents: else every long text would count as full of other words."""
    files = [
        (f"{number}.txt", f"The {fruit} of these farms. {'Word after word. ' * 40}")
        for number, fruit in enumerate(FRUITS)
    ]
    with searching(tmp_path, files) as (searcher, writer):
        before = searcher.search(Query("quince farms"))[0]
        writer.put([log_of(f"tick {number}" for number in range(400))], ENCODER)
        after = searcher.search(Query("quince farms"))[0]
    assert after.score == pytest.approx(before.score, rel=0.1)


FEW = [("large.md", 1_200), *((f"far/{number}.md", 1) for number in range(9))]


@pytest.fixture(scope="module")
def large_and_far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    """One document of many passages that are all nearer to a question about budgets than the others."""
    folder = tmp_path_factory.mktemp("few")
    texts = [
        (path, [f"budget plan number {path} {position}" for position in range(count)]) for path, count in FEW
    ]
    texts[1:] = [(path, [f"the budget, and a long tale of cheese and wine of {path}"]) for path, _ in FEW[1:]]
    with closing(Writer(folder)) as index:
        for number, (path, parts) in enumerate(texts, 1):
            chunks = tuple(Chunk(part, part, hashlib.sha256(part.encode()).hexdigest()) for part in parts)
            vectors = ENCODER.begin(chunks).result()
            index.put([replace(entry(number, path, "x"), chunks=chunks, vectors=vectors)], ENCODER)  # type: ignore[arg-type]
        with closing(SqliteStore(folder, writer=None)) as store:
            yield store


@pytest.mark.parametrize(
    ("query", "documents"),
    [
        (Query("budget plan", top_k=10), 10),
        (Query("budget plan", top_k=11), 10),
        (Query("budget plan", top_k=1_000), 10),
        (Query("budget plan", top_k=10, paths=("large.md",)), 1),
        (Query("budget plan", top_k=10, paths=("far/",)), 9),
        (Query("budget plan", top_k=10, paths=("far/3.md",)), 1),
        (Query("budget plan", top_k=10, paths=("nowhere/",)), 0),
    ],
)
def test_few_documents_are_all_found_without_scanning_every_passage(
    large_and_far: SqliteStore, query: Query, documents: int
) -> None:
    terms, vector = terms_of(query.text), ENCODER.query(query.text)
    with large_and_far.snapshot() as snapshot:
        candidates = snapshot.candidates(terms, ENCODER.model, vector, query, ENCODER.least_cosine)
        assert len({candidate.document for candidate in candidates}) == documents
        assert len(candidates) <= 2 * DEPTH + PASSAGES * documents
    steps = 0

    def step() -> bool:
        nonlocal steps
        steps += 1
        return False

    with large_and_far.snapshot() as snapshot:
        snapshot._connection.set_progress_handler(step, 100)
        snapshot.candidates([], ENCODER.model, vector, query, ENCODER.least_cosine)
        snapshot._connection.set_progress_handler(None)
    assert steps < 300, "hundreds of SQLite's instructions"


def test_topic_weight_does_not_depend_on_a_long_text_named_after_it(tmp_path: Path) -> None:
    long = "\n\n".join(f"## Part {number}\n\n" + f"heron nest number {number} " * 20 for number in range(100))
    scores = dict[str, float]()
    for name in ("kestrel.md", "heron.md"):
        with searching(tmp_path / name, [(name, long), ("b.md", "A kestrel flies.")]) as (searcher, _):
            scores[name] = next(e.score for e in searcher.search(Query("kestrel")) if e.path == "b.md")
    assert scores["kestrel.md"] == pytest.approx(scores["heron.md"])


def test_document_found_by_name_shows_the_passage_that_answers(tmp_path: Path) -> None:
    long = "\n\n".join(f"## Part {number}\n\n" + f"budget plan {number} " * 20 for number in range(400))
    texts = [("kestrel.md", f"{long}\n\n## Nests\n\nIt breeds in towers."), ("b.md", "A nest of herons.")]
    with searching(tmp_path, texts) as (searcher, _):
        hit = searcher.search(Query("Where does the kestrel breed?"))[0]
    assert (hit.path, "towers" in hit.passages[0].text) == ("kestrel.md", True)


def test_invalid_path_pattern_is_a_usage_error(searcher: Search) -> None:
    with pytest.raises(UsageError, match="not a gitignore pattern"):
        searcher.search(Query("leave", paths=("!",)))


AWKWARD = [
    "", " ", "\x00", "🎉", "'\"`;--", "(*)^:+{}", '"leave" AND NOT (', "NEAR(a b, 2)", "AND", "OR OR", "的",
    "name:leave", "leave " * 4_000, "字" * 12_000, "\ud800", "a\ud800b", "of the and",
]  # fmt: skip


def is_answered(searcher: Search, text: str) -> None:
    hits = searcher.search(Query(text))
    assert len(hits) <= 10 and all(hit.passages for hit in hits)
    snippet(text, text[::-1], 20)


@long
@given(st.text(st.characters(exclude_categories=()), max_size=60))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_empty_query_is_an_error(searcher: Search, text: str) -> None:
    is_answered(searcher, text)


@pytest.mark.parametrize("text", AWKWARD)
def test_unusual_queries_are_not_errors(searcher: Search, text: str) -> None:
    is_answered(searcher, text)


@long
def test_warm_searcher_sees_every_change(tmp_path: Path) -> None:
    texts = [("a.md", "red wine from France"), ("b.md", "cheese from Holland")]
    with searching(tmp_path, texts) as (searcher, index):

        def first(question: str) -> list[str | None]:
            return paths(searcher.search(Query(question, top_k=1)))

        drinks = "alcoholic drinks made of grapes"
        assert [first(drinks) for _ in range(3)] == [["a.md"]] * 3
        index.put([entry(3, "c.md", "alcoholic drinks are made of grapes")], ENCODER)
        assert first(drinks) == ["c.md"]
        index.put(
            [entry(9 + number, f"{number}.md", f"filler {number}") for number in range(SLOTS * 2)], ENCODER
        )
        index.delete([3])
        assert first(drinks) == ["a.md"]
        index.delete(list(range(4, 4 + SLOTS * 2)))
        assert first("dutch cheese") == ["b.md"]
        index.rename(2, "b/gouda.md", "gouda.md", 9.0)
        assert first("gouda") == ["b/gouda.md"]


def test_no_hit_mixes_two_documents(tmp_path: Path) -> None:
    """The service is slow, and the numbers of passages deleted meanwhile are reused."""

    class Ranker:
        most_texts = 10

        def order(self, _question: str, texts: Sequence[str]) -> list[tuple[int, float]]:
            index.delete([2])
            index.put([entry(3, "c.md", "the weather in Holland")], ENCODER)
            return [(number, 0.9 - number / 10) for number in reversed(range(len(texts)))]

    texts = [("a.md", "red wine from France"), ("b.md", "white wine from Spain")]
    with searching(tmp_path, texts) as (_, index), closing(SqliteStore(tmp_path, writer=None)) as store:
        hits = Search(store, ENCODER, Ranker()).search(Query("wine"))
    assert [(hit.path, hit.passages[0].text) for hit in hits] == [("a.md", "red wine from France")]


def test_cold_and_warm_scans_agree(tmp_path: Path) -> None:
    with searching(tmp_path, TEXTS.items()) as (searcher, _):
        cold, warm = searcher.search(Query("holidays")), searcher.search(Query("holidays"))
    assert paths(cold) == paths(warm)
    assert [hit.score for hit in cold] == pytest.approx([hit.score for hit in warm], abs=1e-5)


def test_documents_without_model_vectors_are_found_by_words(tmp_path: Path) -> None:
    other = LocalEncoder()
    other.model = "another model"
    with searching(tmp_path, [("a.md", "red wine"), ("b.md", "cheese")], other) as (searcher, index):
        assert paths(searcher.search(Query("wine"))) == ["a.md"]
        assert searcher.search(Query("alcoholic drinks")) == []
        index.put([entry(7, "c.md", "beer")], other)
        assert paths(searcher.search(Query("wine")))[0] == "a.md"
        assert "c.md" in paths(searcher.search(Query("beer brewery")))


TEXT = (
    "The office opens at eight. " * 20
    + "Employees get thirty days of paid leave a year. "
    + "Lunch is at noon. " * 20
)


def test_snippet_is_the_best_matching_window() -> None:
    result = snippet(TEXT, "How many days of leave does an employee get?", 90)
    assert len(result.text) <= 90
    assert (result.starts_late, result.ends_early) == (True, True)
    assert [result.text[start:end] for start, end in result.spans] == ["Employees", "get", "days", "leave"]
    assert TEXT.find(result.text) >= 0
    assert TEXT[TEXT.find(result.text) - 1] == " "


def test_chinese_snippet_highlights_pairs() -> None:
    text = "办公室八点开门。" * 30 + "员工每年有三十天带薪年假。" + "食堂中午开放。" * 30
    result = snippet(text, "年假有几天？", 40)
    assert len(result.text) <= 40
    assert "年假" in [result.text[start:end] for start, end in result.spans]


def test_words_around_a_chinese_question_are_not_marked() -> None:
    assert snippet("如果您想知道更多，请找发票。", "我想知道发票的审核", 40).parts[1::2] == ["发票"]
    assert snippet("怎么办？打印机坏了就办。", "打印机怎么办", 40).parts[1::2] == ["打印机"]


@pytest.mark.parametrize(
    "question", ["周一下午的會議", "统一下载", "任何时间", "许多大学", "功能不能用", "许可以及", "吗啡"]
)
def test_words_that_seem_to_contain_a_chinese_phrase_are_searched_for(question: str) -> None:
    plain = comparable(question)
    assert without_question_words(f"怎么{question}") == f" {plain}"


@pytest.mark.parametrize("question", ["where's the toy, I'm lost", "WHERE'S THE TOY? I'M LOST AND CAN'T SEE"])
def test_shortened_words_of_a_question_are_not_marked(question: str) -> None:
    assert snippet("Mike's dog's toys: can, s, m", question, 40).parts[1::2] == ["toys"]


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("Stories of running dogs", "story run dog", ["Stories", "running", "dogs"]),
        ("the cat and the dog", "the dog", ["dog"]),
        ("the the", "the", ["the", "the"]),
        ("snake_case names", "case", ["case"]),
        ("nothing here", "🎉", []),
        ("", "x", []),
    ],
)
def test_snippet_highlights(text: str, query: str, marked: list[str]) -> None:
    result = snippet(text, query, 200)
    assert [result.text[start:end] for start, end in result.spans] == marked


@pytest.mark.parametrize(
    ("path", "heading", "expected"),
    [
        ("a.md", "Class: `Bell` and [docs](https://x.example)", "Class: Bell and docs"),
        ("a.md", "**Lamps** <a id='x'></a> ![built](badge.svg)", "Lamps built"),
        ("a.md", "``", "``"),
        ("a.ipynb", "`run()`", "run()"),
        ("a.docx", "`run()` *", "`run()` *"),
        ("a.txt", "*run*", "*run*"),
    ],
)
def test_heading_is_shown_without_markup(path: str, heading: str, expected: str) -> None:
    assert plain_heading(heading, path) == expected


@pytest.mark.parametrize(
    ("path", "text", "above", "snippet_text"),
    [
        ("a.md", "# Backups\n\nBackups run at night.", ["Backups"], "Backups run at night."),
        ("a.md", "## Night\n\nThey run.\n\n## Day ##\nThey rest.", ["Night"], "They run.\nDay ·\nThey rest."),
        ("a.md", "# Backups", ["Backups"], "Backups"),
        ("a.md", "They run.\n\n# Restore", [], "They run.\nRestore"),
        ("a.md", "Run:\n\n```sh\n# as root\nrun\n```\nThen rest.", [], "Run:\n# as root\nrun\nThen rest."),
        ("a.md", "~~~\nbackup\n", [], "backup"),
        ("a.pdf", "| Day | Hour |\n| --- | ---: |\n| Monday | 9 |", [], "Day | Hour\nMonday | 9"),
        ("a.rst", "Backups\n=======\n\nThey run.", ["Backups"], "They run."),
        ("a.adoc", "== Backups\n\n----\nbackup\n----", [], "Backups ·\nbackup"),
        ("a.org", "* Backups\n#+begin_src sh\nbackup\n#+end_src", ["Backups"], "backup"),
        ("a.tex", "\\section{Backups}\\label{b}\nThey run.", ["Backups"], "They run."),
        ("a.md", 'Run **this** `now`: [the docs](https://x.org/a_b "T").', [], "Run this now: the docs."),
        (
            "a.md",
            "2*3*4, a * b, snake_case_name, *so* and __so__",
            [],
            "2*3*4, a * b, snake_case_name, so and so",
        ),
        (
            "a.md",
            "A file `__init__.py`, and `__main__.py` runs it. Write `[text](url)` or `` a`*b* ``.",
            [],
            "A file __init__.py, and __main__.py runs it. Write [text](url) or a`*b*.",
        ),
        ("a.md", "See [`_a_`](x.md), **not `*b*`**, `c", [], "See _a_, not *b*, c"),
        ("a.md", "[a](`b`) *c* \udfff `d`", [], "[a](b) c \ufffd d"),
        ("a.md", "It is `__a\nb__` and ``` *c* ```.", [], "It is __a\nb__ and *c*."),
        ("a.ipynb", "Call `__init__` *now*", [], "Call __init__ now"),
        ("a.docx", "override __init__ and _private_ of `x`", [], "override __init__ and _private_ of `x`"),
        ("a.docx", "**Comment by Ana:** is *this* __so__?", [], "Comment by Ana: is *this* __so__?"),
        ("a.html", "See __all__ of [the docs](https://x.org)", [], "See __all__ of the docs"),
        ("a.txt", "override __init__ and _private_", [], "override __init__ and _private_"),
        ("a.html", "\\# restart nginx\n\\| so", [], "# restart nginx\n| so"),
        ("a.xlsx", r"| a \| b | c \|" "\n| --- | --- |\n" r"| \|\| | \d |", [], "a | b | c |\n|| | \\d"),
        ("a.md", r"| `a \| b` | c |" "\n| --- | --- |\n| d | e |", [], "a | b | c\nd | e"),
        ("a.md", "Ask Anna. %%not sure%%\n%% or Bob %%", [], "Ask Anna. not sure\n or Bob "),
        ("a.md", "%%\nAsk Anna.\n\n%%", [], "\nAsk Anna.\n"),
        ("a.md", "100%% of 5 %% are `%%a%%`", [], "100%% of 5 %% are %%a%%"),
        ("a.md", "28 days. ^block-id\n- milk ^a1 \n\n^table-1", [], "28 days.\n- milk\n"),
        ("a.md", "x ^2 and y^2 and `^a`\nz^2", [], "x ^2 and y^2 and ^a\nz^2"),
        ("a.md", "An ==important word==, a == b, c==d==e", [], "An important word, a == b, c==d==e"),
        ("a.md", "> [!note] Rest\n> Three months.\n>> Or [!four]", [], "Rest\nThree months.\nOr [!four]"),
        ("a.md", "> [!warning]- Hot\n\na > b", [], "Hot\na > b"),
        ("a.md", "aliases: [Lily, Dr. May]\nabout: >-\n  Us.", [], "aliases: Lily, Dr. May\nabout: \n  Us."),
        ("a.md", 'who = ["May"]\nfee:\n  day: {old: 3}\n', [], 'who = "May"\nfee:\n  day: old: 3'),
        ("a.md", "See a: [b] c\nkey: [1](x) `a: [b]`", [], "See a: [b] c\nkey: 1 a: [b]"),
        (
            "a.md",
            '<a id="v1"></a>\n<p align="center">Ring <b>twice</b>, x<sup>2</sup><br/></p>',
            [],
            "\n Ring twice, x2  ",
        ),
        (
            "a.md",
            "<!-- keys of bells --> 1 < 2, a->b, <name> and `<b>`",
            [],
            "keys of bells 1 < 2, a->b, <name> and <b>",
        ),
        (
            "a.md",
            'See <https://x.example/a_b> ![x](y) <img src="b.png" alt="A bell" width=3><img>',
            [],
            "See https://x.example/a_b x A bell",
        ),
        (
            "a.md",
            '<b x=`a`>, <img alt="`b`"> <https://`c`> <!-- `d` -->',
            [],
            '<b x=a>, <img alt="b"> <https://c> d',
        ),
        ("a.md", "<table><tr><td>a</td><td>b</td></tr></table>", [], "   a  b   "),
        ("a.py", "# a comment\n```\n", ["a comment"], "# a comment\n```\n"),
        ("a.txt", "# no heading", [], "# no heading"),
    ],
)
def test_snippet_has_no_markup_and_no_repeated_heading(
    path: str, text: str, above: list[str], snippet_text: str
) -> None:
    assert without_markup(text, path, above) == snippet_text


@pytest.mark.parametrize(
    ("question", "path"),
    [
        ("report 11", "b/report 11.txt"),
        ("Report-11", "b/report 11.txt"),
        ("report 11.txt", "b/report 11.txt"),
        ("2026-03-14", "2026-03-14.md"),
        ("備份計劃", "备份计划.md"),
        ("status notes", "status-notes.md"),
        ("status-notes.md:3", "status-notes.md"),
        ("49 89 1234567", "+49 89 1234567.md"),
        ("E 4471", "E-4471.md"),
        ("argparse.py", "argparse.py"),
    ],
)
def test_file_named_like_the_query_comes_first(tmp_path: Path, question: str, path: str) -> None:
    every_line = (
        "2026-03-14 report 11 sent, 备份计划, server log, status notes, 49 89 1234567, E 4471, argparse.py"
    )
    texts = [("server.log", "\n".join([every_line] * 500)), ("report 11 of march.md", every_line)]
    texts += [
        ("b/report 11.txt", "some"),
        ("2026-03-14.md", "words"),
        ("备份计划.md", "of it"),
        ("status-notes.md", "a"),
        ("+49 89 1234567.md", "b"),
        ("E-4471.md", "y"),
        ("argparse.py", "z"),
        ("c.md", "x"),
    ]
    with searching(tmp_path, texts) as (search, index):
        [first, *_] = search.search(Query(question, explain=True))
        assert (first.path, first.reasons and first.reasons.is_named) == (path, True)
        assert path not in paths(search.search(Query(question, paths=("c*",))))
        number = [file_name for file_name, _ in texts].index(path) + 1
        index.rename(number, "other.md", "other.md", 1.0)
        assert search.search(Query(question))[0].path != "other.md"
        assert search.search(Query("other"))[0].path == "other.md"


@pytest.mark.parametrize(
    ("question", "path"),
    [
        ("handbook/errors.md", "handbook/errors.md"),
        ("handbook/errors", "handbook/errors.md"),
        ("Handbook/Errors.md", "handbook/errors.md"),
        ("old/handbook/errors.md", "old/handbook/errors.md"),
        ("v2/README", "docs/v2/README"),
    ],
)
def test_file_whose_path_is_the_query_comes_first(tmp_path: Path, question: str, path: str) -> None:
    every_path = "handbook/errors.md and old/handbook/errors.md and docs/v2/README"
    texts = [
        ("plan.canvas", every_path),
        ("notes.md", f"# Handbook errors\n\n{every_path}"),
        ("old/handbook/errors.md", f"handbook errors: {every_path}"),
        ("handbook/errors.md", "some"),
        ("docs/v2/README", "words"),
        ("docs/v3/README", "v2 of it"),
        ("errors.md", "handbook/errors.md"),
    ]
    with searching(tmp_path, texts) as (search, _):
        assert search.search(Query(question))[0].path == path
        assert path not in paths(search.search(Query(question, paths=("c*",))))


SCORES = st.lists(st.floats(-50, 50), min_size=1, max_size=20).map(
    lambda scores: sorted(scores, reverse=True)
)


@long
@given(SCORES)
def test_order_is_kept_and_every_score_is_a_fraction(scores: list[float]) -> None:
    order = spread(list(enumerate(scores)))
    assert [index for index, _ in order] == list(range(len(scores)))
    shares = [score for _, score in order]
    assert shares == sorted(shares, reverse=True)
    assert all(0 < share <= 1 for share in shares)


def test_unranked_hits_keep_their_place_and_no_score_rises() -> None:
    order = [(2, 0.9), (0, 0.5), (1, 0.1)]
    assert with_unranked(order, [0, 1, 2]) == order
    assert with_unranked(order, [1, 3, 4]) == [(0, 0.9), (4, 0.9), (2, 0.9), (1, 0.5), (3, 0.1)]


@long
@given(st.lists(st.floats(0.01, 1), max_size=10).map(lambda scores: sorted(scores, reverse=True)))
def test_unranked_hits_stay_behind_in_their_order(scores: list[float]) -> None:
    rest = behind(scores, 0.3)
    assert rest == sorted(rest, reverse=True)
    assert all(score < 0.3 for score in rest)


def test_longer_list_begins_with_the_shorter_one(tmp_path: Path) -> None:
    """Pages of a search must neither repeat nor skip documents, so a list can't depend on its length."""
    vocabulary = [f"word{letter}" for letter in "abcdefghijklmno"]
    draw = random.Random(7)
    texts = [(f"{n}.md", " ".join(draw.choices(vocabulary, k=40))) for n in range(400)]
    with searching(tmp_path, texts) as (search, _):
        search.search(Query("wordb"))  # the first search reads exact vectors, later ones a rounded copy
        for question in ("worda", "wordc wordj"):
            longest = search.search(Query(question, top_k=260))
            assert [hit.score for hit in longest] == sorted((hit.score for hit in longest), reverse=True)
            for count in (11, 21, 51, 101, 201):
                hits = search.search(Query(question, top_k=count))
                assert paths(hits) == paths(longest)[:count]


@long
def test_words_of_past_questions_do_not_fill_the_memory(tmp_path: Path) -> None:
    """In an index that doesn't change: each commit drops what its searches remember."""
    with searching(tmp_path, [("a.md", "one lonely word")]) as (_, _), closing(Reader(tmp_path)) as reader:
        sizes = list[int]()
        tracemalloc.start()
        try:
            for first in range(0, 3 * MAX_FREQUENCIES, MAX_FREQUENCIES):
                with reader.snapshot():
                    for number in range(first, first + MAX_FREQUENCIES, 1_000):
                        reader.unknown([Term(f"n{n}", f"n{n}") for n in range(number, number + 1_000)])
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert sizes[2] - sizes[1] < 200_000


@pytest.mark.parametrize(
    "prefix",
    ["/home/me/", "file:///home/me/", "file://host/home/me/", "~/", "./", "../", "C:\\Users\\me\\", "/"],
)
@pytest.mark.parametrize("path", ["notes/plan.md", "old/notes/plan.md", "plan.md", "Größe/der Plan.md"])
def test_file_whose_pasted_path_is_the_query_comes_first(tmp_path: Path, prefix: str, path: str) -> None:
    question = f"{prefix}{path}"
    texts = [
        *(("a.md", f"see {question}"), ("b.md", f"# {question}\n\n{question} home me notes")),
        *((f"{number}/notes/other.md", "home me notes plan") for number in range(3)),
        *(
            (name, "some words")
            for name in ("notes/plan.md", "old/notes/plan.md", "plan.md", "Größe/der Plan.md")
        ),
    ]
    pasted = [
        question,
        question.replace(" ", "%20").replace("ö", "%C3%B6") if prefix.startswith("file") else question,
    ]
    if prefix.startswith("C:"):
        pasted = [question.replace("/", "\\")]
    with searching(tmp_path, texts) as (search, _):
        for text in pasted:
            assert search.search(Query(text))[0].path == path
            assert search.unknown_words(Query(text)).codes == ()


def test_file_whose_path_begins_with_the_mirrored_folders_name_comes_first(tmp_path: Path) -> None:
    words = "docs contacts and guides"
    texts = [
        ("contacts.md", "Ann"),
        ("guides/plan.md", "May"),
        ("a.md", words),
        ("b.md", f"# {words}\n\n{words}"),
    ]
    texts += [(f"{number}.md", f"{words} {number}") for number in range(5)]
    with searching(tmp_path, [*texts, ("old/docs/faq.md", "Ann"), ("faq.md", "May")]) as (search, _):
        for question, path in (
            ("docs/contacts.md", "contacts.md"),
            ("docs/guides/plan.md:3", "guides/plan.md"),
            ("docs/faq.md", "old/docs/faq.md"),
        ):
            assert search.search(Query(question))[0].path == path
        assert search.search(Query("docs/contacts"))[0].path == "b.md"  # may be two words


@pytest.mark.parametrize("name", ["2026-03-14.md", "14.03.2026.docx", "20260314.txt", "14. März 2026.md"])
@pytest.mark.parametrize(
    "question", ["2026-03-14", "14 March 2026", "March 14, 2026", "14.3.2026", "2026年3月14日", "20260314"]
)
def test_file_named_by_the_date_in_a_query_comes_first(tmp_path: Path, name: str, question: str) -> None:
    every_date = "2026-03-14, 14 March 2026, 14.3.2026, 2026年3月14日, 20260314: Rain fell."
    texts = [("meeting.md", every_date), ("2026-03-15.md", every_date), (f"journal/{name}", "Snow.")]
    texts += [(f"{number}.md", "other") for number in range(5)]
    with searching(tmp_path, texts) as (search, _):
        assert search.search(Query(question))[0].path == f"journal/{name}"
        if name != "20260314.txt":  # a single word
            assert search.search(Query(f"the snow of {question}"))[0].path == f"journal/{name}"


@pytest.mark.parametrize("question", ["12 May 2026", "12.5.2026", "2026-05-12"])
def test_text_with_a_date_comes_before_texts_with_parts_of_it(tmp_path: Path, question: str) -> None:
    other = "Some other sentence about bicycles and rain. " * 20
    texts = [(f"{number} May 12, 5.md", "12 plums, 12 May, 5, May 2026") for number in range(DEPTH + 50)]
    texts.append(("notes.md", f"{other}On 12.05.2026, the roof was repaired. {other}"))
    with searching(tmp_path, texts) as (search, _):
        assert search.search(Query(question))[0].path == "notes.md"


@pytest.mark.parametrize("question", ["March 2026", "2026-03", "März 2026", "2026年3月"])
def test_file_named_by_a_month_comes_first(tmp_path: Path, question: str) -> None:
    texts = [
        ("a.md", "March 2026, 2026-03, März 2026"),
        ("March 2026.md", "Snow."),
        ("2026-03-01.md", "Ice."),
    ]
    with searching(tmp_path, texts) as (search, _):
        assert search.search(Query(question))[0].path == "March 2026.md"


GROUPED = ["15000", *(f"15{mark}000" for mark in ",.'\u2019 \u00a0\u2009\u202f")]


@pytest.mark.parametrize("written", GROUPED)
@pytest.mark.parametrize("question", GROUPED)
def test_large_number_is_found_however_its_digits_are_grouped(
    tmp_path: Path, written: str, question: str
) -> None:
    others = [("b.md", "15 km away, 12 km wide"), ("c.md", "Room 000, km 3"), ("d.md", "nothing")]
    with searching(tmp_path, [("a.md", f"The trip was {written} km long."), *others]) as (search, _):
        for query in (question, f"{question} km", f"{question}km"):
            assert search.search(Query(query))[0].path == "a.md"
            unknown = search.unknown_words(Query(query))
            assert (unknown.codes, unknown.are_all) == ((), False)
        assert snippet(f"{written} km long", question, 80).parts[1::2] == [" ".join(written.split())]


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("12 500 000 people", {"12500000"}),
        ("15 000 km, 3 750 EUR", {"15000", "15000km", "3750"}),
        ("in 2019 150 people; 150 2019", set()),
        ("1 200 30; 0 100; 1.5 100; 100 200 30", set()),
        ("15 000,50 and 15 000.", {"15000"}),
        ("15,000km 8.500 m 3 750kg", {"15000", "15000km", "15000 km", "8500", "3750", "3750kg", "3750 kg"}),
    ],
)
def test_numbers_next_to_each_other_are_not_joined(text: str, forms: set[str]) -> None:
    assert {form for _, _, form in forms_in(text)} == forms
