"""Texts of about 1 MB, each made to keep one reader busy for as long as possible."""

from __future__ import annotations

SIZE = 1_000_000


def times(piece: str, size: int = SIZE) -> str:
    """Return `size` characters of repeated `piece`."""
    return piece * (size // len(piece))


def _merged(count: int) -> str:
    """Return front matter in which each mapping merges the previous one twice: its size doubles with every
    line.
    """
    lines = ["a0: &a0 {x: 1, title: deep}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, count)]
    return "\n".join(["---", *lines, f"<<: *a{count - 1}", "---", ""])


def _org_levels(size: int) -> str:
    """Return headings, each one level deeper, with as many words under each."""
    lines, length, level = [], 0, 1
    while length < size:
        lines.append(f"{'*' * level} heading number {level}\n{'word ' * 30}\n")
        length += len(lines[-1])
        level += 1
    return "".join(lines)


_TEXTS: dict[str, dict[str, str]] = {
    "x.md": {
        "a heading with tabs and hashes in it": "# a" + times("\t#") + " b\n",
        "many headings with blanks in them": times("# a" + " " * 5_000 + "b\n"),
        "a heading of hashes": "## " + times("#") + "x\n",
        "a long heading over short paragraphs": "# " + "word " * 300 + "\n" + times("words\n\n# b\n\n"),
        "front matter with merge keys": _merged(27) + times("word "),
        "front matter of a thousand merge keys": _merged(1_000) + times("word "),
        "front matter of one long line": "---\ntitle: " + times("x", 60_000) + "\n---\n" + times("word\n\n"),
        "front matter of one long list": "---\ntags: [" + times("a, ", 60_000) + "]\n---\n" + times("word "),
        "front matter of many keys":
            "---\n" + "".join(f"? &k{n} {n}\n: *k{n}\n" for n in range(3_500)) + "---\n" + times("word "),
        "front matter of an endless number": "---\ntitle: " + times("1:", 60_000) + "1\n---\nbody\n",
        "front matter that is nested": "---\na: " + times("[", 60_000) + "\n---\nbody\n",
        "front matter in TOML with one long key": "+++\n" + times("a.", 65_000) + "a = 1\n+++\nbody\n",
        "front matter in TOML with a long key in a table":
            "+++\nx = {" + times('"".', 60_000) + "a = 1}\n+++\nbody\n",
        "front matter in TOML with many keys":
            "+++\n" + "".join(f"{'a.' * 99}b{n} = 1\n" for n in range(300)) + "+++\nbody\n",
        "front matter in TOML with a huge number": "+++\ntitle = 0x" + times("f", 60_000) + "\n+++\nbody\n",
        "a fence that nothing closes": times("~~~~\n```\n"),
        "fences each longer than the one before": "".join("`" * n + "\n" for n in range(1_400, 3, -1)),
        "headings alone": times("# a\n"),
        "links that nothing closes": times("[[a"),
        "links among backticks": times("[[a|`") + "]]",
        "backticks alone": "[[" + times("`"),
        "underlined headings": times("a\n=\n"),
        "rules alone": times("---\n"),
        "rows without a rule": times("|a|b|\n"),
        "a rule of a table that is none": "| a |\n|" + times("-") + "x|\n| b |\n",
    },
    "x.org": {
        "a block of Org with an endless name":
            "#+begin_" + times("w", SIZE // 2) + "\n" + times("a\n", SIZE // 2),
        "headings of Org each deeper than the one before": _org_levels(SIZE),
    },
    "x.tex": {
        "a heading in TeX that is not closed": times("\\section{"),
        "headings in TeX that are not closed": times("\\section[" + "a" * 90 + "\n"),
        "braces in a heading of TeX": "\\section{" + times("{}"),
    },
    "x.rst": {
        "underlines of reStructuredText": times("a\n==\n"),
        "an overline that nothing follows": times("=") + "\n" + times("-") + "\n",
    },
    "x.vtt": {
        "a voice in subtitles that never ends": "WEBVTT\n\n00:01.000 --> 00:02.000\n" + times("<v "),
        "a voice in subtitles with classes": "WEBVTT\n\n00:01.000 --> 00:02.000\n" + times("<v.a"),
    },
    "x.srt": {"numbers without a time in subtitles": times("1\n")},
    "x.csv": {
        "a header as long as all records": "名," + times("称,", SIZE // 6) + "\n" + times("a\n", SIZE // 2),
        "quotes in a table": times('"'),
        "rows of two cells": times("a,b\n"),
    },
    "x.txt": {
        "marks of Chinese sentences": times("。」", SIZE // 3),
        "one word": times("x"),
        "one Chinese word": times("文", SIZE // 3),
        "nothing but blanks before the end": "a" + times(" ") + "b",
        "Chinese and letters": times("漢a", SIZE // 3),
        "letters with accents": times("é", SIZE // 2),
        "letters taken apart": times("か\u3099", SIZE // 3),
        "letters that have forms": times("ﾊﾞﾁ\ufb03", SIZE // 3),
        "marks on one letter": "a" + times("\u0301\u0323", SIZE // 2),
        "half-width marks on one letter": "a" + times("\u0301ﾞ", SIZE // 2),
        "combining marks": times("a\u0301", SIZE // 2),
        "blank lines": "a" + times("\n") + "b",
        "blank lines with blanks": "a\n" + times(" \n") + "b",
        "lines of one letter": times("a\n"),
    },
    "x.log": {"carriage returns": times("x\r")},
    "x.py": {"code that is blank lines": "a" + times("\n \n") + "b"},
    "x.jsonl": {"records that are blank": times(" \n") + "a"},
    "x.xml": {"nested XML": times("<a>"), "references of XML": times("&#22791;")},
    "x.json": {"nested JSON": times("["), "escapes of JSON": times("\\u5907")},
    "x.yaml": {"aliases in YAML": _merged(1_000) + times("- a\n")},
}  # fmt: skip
TEXTS = {name: (path, text) for path, texts in _TEXTS.items() for name, text in texts.items()}
"""By name: a file, and its content."""

_BLANKS, _TABS, _LETTERS, _DIGITS = times(" "), times("\t"), times("a"), times("1")
_BYTES = [times("\x80"), times("\x80\n"), times("a")]

_SEARCHED = {
    "core.names._AT_END": [times("."), times(".a"), "." + _LETTERS],
    "core.names._ADDED_AT_END": [times("("), times(" (1"), times("_1"), times("_1111")],
    "core.names._KEY": [_LETTERS, "aaaaaaaa-" + _DIGITS + "!", times("aaaaaaaa-1"), times("aaaaaaaa_1")],
    "core.names._UNSAFE": [times("_"), _BLANKS, times("_/"), times("é")],
    "core.names._PIECE": [times("~"), times("~0"), times("_")],
    "core.names._BYTE": [times("~"), times("~0")],
    "core.names._PERCENT": [times("%"), times("%0")],
    "core.names._SLASH": [times("/"), times("\\")],
    "core.names._LOST": [times("?"), _LETTERS],
    "core.names._ILLEGIBLE": [times("\x80"), _LETTERS],
    "index.read.text._INLINE":
        [times("&"), "&" + _LETTERS, times("&#1"), times("[["), times("[[a|"), times("`"), times("`a"),
         times("[[a|`") + "]]"],
    "core.text._HARMFUL": [times("\x1b"), _LETTERS],
    "core.text._HARMFUL_IN_LINES": [times("\n"), times("\x1b"), _LETTERS],
    "core.text._JSON_ESCAPE": [times("\\"), times("\\ud800"), times("\\ud800\\u")],
    "core.text._JSON_SURROGATE": [times("\\"), times("\\ud")],
    "core.links._FORBIDDEN": [_BLANKS, _LETTERS],
    "index.chunk._NEWLINES": [times("\n"), times("\n ")],
    "index.chunk._SENTENCE": ["." + times('"'), times("."), "." + _BLANKS, times('."'), times(". "),
        times("。"), times("。」")],
    "index.chunk._NEWLINE": [times("\n"), _LETTERS],
    "index.read.encoding._FROM_FOREIGN": _BYTES,
    "index.characters._any": [times("\ud800"), times("é"), _LETTERS],
    "index.characters._compatible": [times("ｱ"), times("ﾡ"), times("か゛"), _LETTERS],
    "index.characters._MARKS": [times("é\u0301"), times("\u0301"), times("\u0301" * 63 + "a")],
    "index.characters._RADICAL": [times("\u2ed3"), times("é"), _LETTERS],
    "index.characters._SURROGATE": [times("\ud800"), _LETTERS],
    "index.characters._unseen_in_text": [times("\u200b"), times("\u00ad"), _LETTERS],
    "index.characters._unseen_in_words": [times("\u200b"), times("\u200d"), _LETTERS],
    "index.chunk._BRACE": [times("{"), times("\\"), _LETTERS],
    "index.chunk._COMMAND": [times("\\"), "\\" + _LETTERS, "\\a" + _BLANKS, times("\\a ")],
    "index.chunk._LABEL": [times("\\label{"), "\\label{" + _LETTERS, times("\\label{a")],
    "index.dates._DIGITS_OF_YEAR": [times("19"), times("201"), _LETTERS],
    "index.dates._ISO": [times("2026-01-01-"), times("2026-01-"), _DIGITS, times("2026-")],
    "index.dates._YEAR": [times("2026-01-01-"), times("2026-01-"), _DIGITS, times("2026 ")],
    "index.dates._after_year": ["-" + _DIGITS, "-1" + times("-1"), " 年" + _BLANKS, times("年1月")],
    # Applied to the 26 characters before a year, reversed.
    "index.dates._before_year": ["1" * 26, ".1" * 13, " .1" * 8, " " + "a" * 25, " .a" * 8, " ,.ram 1" * 3,
                                 " de ram fo 1", " ,ht41 hcram"],
    "index.words._COMPACT_DATE": [times("20260101"), times("20260101 "), _DIGITS],
    "index.spelling._endings": ["e" * 30 + "n", "al" * 2_000, "bab" * 1_300, "a" * 4_000, "og" * 2_000],
    "index.words._forms": [times("aA"), times("aA") + "é", _LETTERS, "a-" + _DIGITS, times("a-1"),
                           times("1'111'") + "x", times("1,111") + "é", times("111,"), _DIGITS, times("1 "),
                           times("1-") + "x", _DIGITS + "mmm", times("1 m"), "v" + _DIGITS, times("v1."),
                           times("12345678 1") + "x", times("A."), times("A.") + "b",
                           times("a."), times("+a"), times("a_"), times("-0")],
    "index.words._RESPELT": ["a" + "1" * 4_000 + "é", "1" * 4_000, "a1" * 2_000, "1." * 2_000],
    "index.words._SEPARATORS": [times("."), times("a-"), _LETTERS],
    "index.words._SEPARATORS_OF_CODES": [times("."), times("1,"), _LETTERS],
    "index.words._GROUPED": [times("1\u00a0"), times("1\u00a0111"), _DIGITS],
    "index.words._gaps": [times("文*"), times("文\n"), times("文***\n***"), times("*"), times("ก\u200b")],
    "index.words._SYMBOLS": [times("+"), times("#"), times("C+")],
    "index.words._PARTS": [times("aA"), _LETTERS, _DIGITS, times("A")],
    "index.sqlite.readahead._CONTINUATIONS": [times("\3"), times("\3aaaa"), times("\3aaaaa"), _LETTERS],
    "index.embed._PIECE": [times("\u2581"), times("\u2581a"), _LETTERS],
    "index.embed._E5": [times("e5"), times("e5 "), _LETTERS],
    "index.embed._EXTERNAL": [times("\x0a\x08location"), _LETTERS],
    "index.read.encoding._SEPARATOR": [times("\x01"), _LETTERS],
    "index.read.encoding._TERMINAL": [times("\x1b["), "\x1b[" + _DIGITS, times("\x1b]"), times("\x1b]a" * 9),
        times("\b"), times("\x1b[1")],
    "index.read.encoding._STRAY": [times("\x1b"), _LETTERS],
    "index.read.encoding._DECLARED": [times("<?xml"), "<?xml encoding" + _BLANKS, times("<?xml encoding="),
        "<?xml encoding='" + _LETTERS],
    "index.read.encoding._META": [times("<meta "), "<meta charset" + _BLANKS,
        "<meta charset=" + _BLANKS + "'" + _BLANKS, times("<meta charset=")],
    "index.read.text._TICKS": [times("`"), times("``a")],
    "index.read.text._BLANK_LINES": [times("\n"), "\n" + _BLANKS, times("\n \n "), times("\n  a"),
        "\n" + _BLANKS + "\n" + _BLANKS],
    "index.read.text._ASSIGNMENT": [times("="), _LETTERS],
    "index.read.text._CJK_WORD": [times("文a"), _LETTERS],
    "index.read.text._ESCAPED": [times("\\"), times("\\u"), times("\\ud800\\u"), times("\\U0001")],
    "index.read.text._IN_TEX": [times("\\"), times("{\\"), times("\\\""), times("\\'{"), times("\\o "),
        times("\\ss ")],
    "index.read.text._CUE_POSITION": [times("{\\"), "{\\" + _LETTERS, times("{\\a}")],
    "index.read.text._NO_CHARACTER": [times("\ufeff"), _LETTERS],
    "index.read.text._REFERRED": [times("&#"), times("&#1"), "&#" + _DIGITS, times("&#x")],
    "index.read.pdf._IMAGE": ["/Subtype" + _BLANKS, times("/Subtype ")],
    "index.read.pdf._FIXED_NAME": [times("Courie"), times("M")],
    "index.read.pdf._LEADER": [times("."), times(". "), "....." + _BLANKS, "....." + _DIGITS,
        times(".....1 ")],
    "index.read.pdf._LEADER_DOTS": [times("."), times(".   "), _BLANKS],
    "index.read.pdf._TOKEN": [_BLANKS, _LETTERS, times("a ")],
    "index.read.pdf._RIGHT_TO_LEFT": [_LETTERS, times("\u05d0")],
    "index.read.pdf._LINE": [_LETTERS, times("\n"), times("a\ufffe")],
    "index.read.pdf._BULLET": ["•" + _BLANKS, times("• ")],
    "index.read.pdf._LISTED": ["(1)" + _BLANKS, times("i"), "[1]" + _TABS],
    "index.read.pdf._PAGE_NUMBER": [_DIGITS, times("p. 1 - "), _BLANKS + "1", times("1 of "), times("- ")],
    "index.read.pdf._MARK": [_DIGITS, times("1,")],
    "index.read.pdf._MARKED": [_DIGITS, times("word1"), _LETTERS, times("*")],
    "index.read.pdf._NOTE": [_DIGITS, times("*")],
    "index.read.pdf._WIDE": [times("文"), _LETTERS],
    "index.read.pdf._BETWEEN_CJK": [times("文\n"), _LETTERS],
    "index.read.pdf._WORDS": [_LETTERS, times("a1"), times("文")],
    "index.read.pdf._GAP": [_BLANKS, times("a ")],
    "index.read.pdf._HYPHENATED": [_LETTERS, times("a-"), times("-"), _LETTERS + "-" + _LETTERS + "1"],
    "index.read.rtf._TOKEN": [times("\\"), times("\\a"), "\\" + _LETTERS, "\\a" + _DIGITS, times("{"),
        _BLANKS],
    "index.read.sheets._LINK": [times("<hyperlink "), "<hyperlink " + _LETTERS, times("<a:hyperlink ")],
    "index.read.sheets._LINKED": [times("ref="), 'id="' + _LETTERS, times('ref="')],
    "index.read.sheets._CELL": [_LETTERS, "A" + _DIGITS],
    "index.read.sheets._FORMATTED": [times('<c r="A1" s="1">'), times('<c r="A1" s="1"><f'),
        '<c r="A1" s="1"><f' + _LETTERS, times('<c r="A1" s="1"><f></f><v>1')],
    "index.read.sheets._BEFORE_CELL": [_BLANKS, ">" + _BLANKS, times("> "), times("> <table:table-cell ")],
    "index.read.sheets._REPEATED": [times("<table:table-row "), "<table:table-row " + _BLANKS,
                                    times('<table:table-cell a="'), times("<table:table-row '>")],
    "index.read.sheets._REPEATS": [_BLANKS, times(" table:number-rows-repeated="),
                                   ' table:number-rows-repeated="' + _DIGITS],
    "index.read.sheets._DIMENSION": [times("<dimension "), times('<dimension ref="A1:'), times("<a:")],
    "index.read.sheets._WITH_VALUE": [times('<c r="A1"/>'), '<c r="A1"' + _LETTERS, times('<c r="A1" ')],
    "index.read.sheets._PLACED": [times("<hyperlink "), "<hyperlink " + _BLANKS, times('<hyperlink ref="'),
        times('<mergeCell ref="A1:'), times("<a:c ")],
    "index.read.docx._CODE": [_DIGITS, _LETTERS],
    "index.read.docx._NUMBER_MARK": [times("%"), times("%1"), _LETTERS],
    "index.read.text._KEYWORD_END": [times(","), times("a,"), _LETTERS],
    "index.glossary._REMARK": [times("("), times("["), times("(["), "(" + _LETTERS, times("文a")],
    "index.glossary._SEPARATOR": [times("/;"), _LETTERS],
    "index.glossary._BEGINNING": [times("to be "), _LETTERS],
    "index.words._WORD": [_LETTERS, _BLANKS],
    "index.words._EXACT": ["a-" * 2_000, "1,1" * 1_300 + "é", "a" * 4_000, "a--" * 1_300 + "-"],
    "index.words._OF_NAMES": [":" * 3_999, "a:" * 2_000, "a" * 4_000],
    "index.words._CODE": [("a-" * 2_000), "a." * 2_000 + "é", "a" * 4_000, "1" * 4_000, "-1" * 2_000,
        "_" * 4_000, "a__" * 1_300],
    "index.words._last_word": [("a" * 4_000) + "!"],  # in a question, which is cut at this length
    "index.read.encoding._FOREIGN": [times("é"), times("éa"), _LETTERS],
    "index.read.encoding._LETTERS": [_LETTERS, times("é1"), times("é_")],
    "index.read.encoding._BETWEEN_LETTERS": [times("§"), "é" + times("§"), times("é§"), times("é§ ")],
    "index.read.encoding._ASTRAY": [times("\u0e31"), times("a\u0e31"), times("א\u05b0")],
    "index.read.encoding._TOUCHING": [times("§"), times("é§"), times("§a")],
    "index.read.encoding._UNWESTERN": [times("é"), times("éê"), times("ïa"), _LETTERS],
    "index.read.encoding._ENGLISH": [times("the"), _LETTERS, times("th ")],
    "index.snippet._LINK": [times("["), times("[]("), "[](" + times("a"), times("[a](b ")],
    "index.snippet._EMPHASIS": [times("*"), times("*a"), times(" *a"), times(" _a"), times(" *" + "a" * 299)],
    "index.snippet._LABEL": [times("**a"), times("**a\n"), "**" + times(":"), "**" + times("a:*")],
    "index.snippet._OBSIDIAN": [times("%"), times("%%a"), times(" ^a"), times("^a "), times("=="),
        times("==a"), "> " + times("> "), times("> [!"), times("a =="), "^" + _LETTERS, "^a" + _BLANKS],
    "index.snippet._HTML": [times("<"), times("<a "), "<a " + _LETTERS, times("<img "),
        "<img " + times('alt="'), times("<!--"), "<!--" + _BLANKS, _BLANKS + "-->", "<http://" + _LETTERS,
        times("<img alt=")],
    "index.snippet._TICKS": [times("`"), times("``a")],
    "index.snippet._ONES": [_DIGITS, times("10")],
    "index.read.text._MARK": [times("<"), times("<v "), times(">"), "<" + _BLANKS, times("<>")],
    "index.read.text._PATTERNS[MARKDOWN]": ["# a" + _BLANKS + "b", "#" + _BLANKS, times("# \n"),
        _LETTERS + "\n" + times("=") + "x", times("a\n=x\n")],
    "index.read.text._PATTERNS[RST]": ["a\n" + times("=") + "x", "a\n===" + _BLANKS + "x", times("=\n"),
        times("a\n==x\n")],
    "index.read.text._PATTERNS[ASCIIDOC]": ["= a" + _BLANKS + "b", "=" + _BLANKS, times("= \n")],
    "index.read.text._PATTERNS[ORG]": ["* a" + _BLANKS + "b", times("*"), "#+title:" + _BLANKS, times("*\n")],
    "index.read.text._PATTERNS[TEX]": [times("\\title["), times("\\title{"), "\\title{" + _LETTERS,
        times("\\title{}")],
    "index.read.text._FENCED": ["```\n" + times("~~\n"), times("```\n~~~\n")],
    "index.postgres.dsn._ESCAPED": [times("\\a"), _LETTERS],
    "index.postgres.dsn._PAIR": [times("a= "), "a='" + _LETTERS, times("a='"), "a=" + times("\\")],
    "index.postgres.errors._NO_DATABASE": [times('database "'), 'database "' + _LETTERS],
    "index.postgres.errors._REFUSED": [times('role "'), 'role "' + _LETTERS],
    "index.postgres.searching._SURROGATE": [times("\udce9"), _LETTERS],
    "index.search._WORD": [_LETTERS, _BLANKS, times("a_")],
    "index.words.cjk_runs": [times("文"), times("文a")],
    "index.words._SIGNED": [times("\U000f0e31"), times("ก\U000f0e31")],
    "index.words.unspaced_runs": [times("文"), times("กa"), times("\u0e31")],
    "index.chunk._wide": [times("文"), _LETTERS],
}  # fmt: skip
_SEARCHED["index.words._forms_4"] = _SEARCHED["index.words._forms"]
_MATCHED = {
    "index.glossary._ENTRY": [_LETTERS, "a b [" + _LETTERS, "a b [] /" + times("/") + "x", times("a ")],
    "index.glossary._NO_MEANING": [times("old "), _LETTERS],
    "index.chunk._GRAMMARS[MARKDOWN].heading": ["# a" + _BLANKS + "b", "#" + _BLANKS,
        "# " + times("#") + "a", times("#")],
    "index.chunk._GRAMMARS[MARKDOWN].fence": [_BLANKS, times("`"), _TABS + "~~"],
    "index.chunk._GRAMMARS[MARKDOWN].table": [_BLANKS, times("|")],
    "index.chunk._GRAMMARS[RST].table": [times("|") + "a", times("| ") + "a", "|" + _BLANKS + "a",
        times("|+")],
    "index.chunk._GRAMMARS[ASCIIDOC].heading": ["= a" + _BLANKS + "b", "=" + _BLANKS, times("= ")],
    "index.chunk._GRAMMARS[ASCIIDOC].fence": [times("-") + "a", "----" + _BLANKS + "a", times("/") + "a",
        "|" + times("=") + "a"],
    "index.chunk._GRAMMARS[ORG].heading": ["* a" + _BLANKS + "b", times("*"), "*" + _BLANKS],
    "index.chunk._GRAMMARS[ORG].fence": [_BLANKS, "#+begin_" + _LETTERS],
    "index.chunk._GRAMMARS[ORG].table": [_BLANKS, times("|")],
    "index.chunk._GRAMMARS[TEX].heading": ["\\section{" + _LETTERS, "\\section{" + times("}"), _BLANKS],
    "index.chunk._GRAMMARS[TEX].fence": [_BLANKS, times("\\begin{table")],
    "index.read.text._BLOCK[---]": ["---" + _BLANKS, "---\n" + times("--- "), "---\n" + times("---x\n"),
        "---\n" + _LETTERS],
    "index.read.text._BLOCK[+++]": ["+++" + _BLANKS, "+++\n" + times("+++ "), "+++\n" + times("+++x\n"),
        "+++\n" + _LETTERS],
    "index.read.text._NO_TITLE": ["document" + _DIGITS + "x", "präsenta" + _LETTERS + "!",
        "演示文稿" + _DIGITS + "x"],
    "index.read.encoding._KANA": [times("ア")],
    "index.read.encoding._SIGN_IN_PLACE": [times("§"), "¿" + _LETTERS, "¡" + times("!"), "§" + _BLANKS],
    "index.read.text._HEADING_STYLE": ["heading" + _BLANKS, "title" + _LETTERS],
    "index.read.text._CONTENTS_STYLE": ["toc" + _BLANKS, "toc 1" + _LETTERS],
    "index.read.rtf._ADDRESS": ["HYPERLINK" + _BLANKS, 'HYPERLINK "' + _LETTERS],
    "index.chunk._PRIORITY": ["[#" + _LETTERS],
    "index.read.text._STRUCTURE": [times("#"), "#" + _BLANKS, times("`")],
    "index.read.text._NUMBER": [_DIGITS + "x", times("1.") + "x", times(","), times("1%")],
    "index.read.text._CUE_TIME": [_DIGITS, _BLANKS, "1:" + _DIGITS, "00:00:00.000" + _BLANKS + "x"],
}  # fmt: skip
_MATCHED_WHOLE = {
    "core.names._TAGGED": [times("~"), times("~aaaaaaaa"), times("~aaaaaaaa-1.") + "/", times("~aaaaaaaa.a")],
    "core.names._PLAIN": [times("~"), times("~-1"), _LETTERS],
    "core.names._SHORTENED": [times("~"), times("~~aaaaaaaaaaaa") + "!"],
    "core.names._WRITTEN": [_LETTERS + "~", times("~00") + "~", times("a~00") + "~"],
    "core.text._FIT": [_BLANKS, _LETTERS + "\n", "a" + _BLANKS],
    "index.postgres.dsn._HOST": [_LETTERS, times(":"), "[" + _LETTERS],
    "index.postgres.dsn._PORTS": [_DIGITS + "x"],
    "index.postgres.dsn._URL": ["postgres://" + times("a/") + "@", "postgres://" + times("@"),
        "postgres://" + times("?")],
    "index.postgres.errors._NEEDS_NO_QUOTES": [_LETTERS + "!"],
    "index.chunk._ORG_TAGS": [times(":"), ":" + _LETTERS, times(":a") + "!"],
    "index.read.sheets._FORMAT": [times("#") + "x", times("0"), times("#,0"), "0." + times("0")],
    "index.read.calendars._EAST_ASIAN": [times("文"), times("文") + "a"],
    "index.read.text._CUE_TAG": [_LETTERS, "1" + times(":") + "x", "/" + _LETTERS],
}  # fmt: skip
EXPRESSIONS: dict[str, tuple[str, list[str]]] = {
    label: (how, texts)
    for how, table in (("finditer", _SEARCHED), ("match", _MATCHED), ("fullmatch", _MATCHED_WHOLE))
    for label, texts in table.items()
}
"""Each expression by its module and name: how it is used, and its worst input."""
