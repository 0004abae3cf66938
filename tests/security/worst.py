"""Texts of about 1 MB, each made to keep one reader busy for as long as it can."""

from __future__ import annotations

SIZE = 1_000_000


def times(piece: str, size: int = SIZE) -> str:
    """`piece` over and over, `size` characters of it."""
    return piece * (size // len(piece))


def _merged(count: int) -> str:
    """Front matter in which each mapping merges the one before twice: so much doubles with every line."""
    lines = ["a0: &a0 {x: 1, title: deep}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, count)]
    return "\n".join(["---", *lines, f"<<: *a{count - 1}", "---", ""])


def _org_levels(size: int) -> str:
    """Headings each one deeper than the one before, and as many words under each."""
    lines, length, level = [], 0, 1
    while length < size:
        lines.append(f"{'*' * level} heading number {level}\n{'word ' * 30}\n")
        length += len(lines[-1])
        level += 1
    return "".join(lines)


TEXTS: dict[str, tuple[str, str]] = {
    "a heading with blanks in it": ("x.md", "# a" + times(" ") + "b\n"),
    "a heading with tabs and hashes in it": ("x.md", "# a" + times("\t#") + " b\n"),
    "many headings with blanks in them": ("x.md", times("# a" + " " * 5_000 + "b\n")),
    "a heading of hashes": ("x.md", "## " + times("#") + "x\n"),
    "a long heading over short paragraphs": ("x.md", "# " + "word " * 300 + "\n" + times("words\n\n# b\n\n")),
    "front matter with merge keys": ("x.md", _merged(27) + times("word ")),
    "front matter of a thousand merge keys": ("x.md", _merged(1_000) + times("word ")),
    "front matter of one long line": (
        "x.md",
        "---\ntitle: " + times("x", 60_000) + "\n---\n" + times("word\n\n"),
    ),
    "front matter of one long list": (
        "x.md",
        "---\ntags: [" + times("a, ", 60_000) + "]\n---\n" + times("word "),
    ),
    "front matter of many keys": (
        "x.md",
        "---\n" + "".join(f"? &k{n} {n}\n: *k{n}\n" for n in range(3_500)) + "---\n" + times("word "),
    ),
    "front matter of an endless number": ("x.md", "---\ntitle: " + times("1:", 60_000) + "1\n---\nbody\n"),
    "front matter that is nested": ("x.md", "---\na: " + times("[", 60_000) + "\n---\nbody\n"),
    "front matter in TOML with one long key": ("x.md", "+++\n" + times("a.", 65_000) + "a = 1\n+++\nbody\n"),
    "front matter in TOML with a long key in a table": (
        "x.md",
        "+++\nx = {" + times('"".', 60_000) + "a = 1}\n+++\nbody\n",
    ),
    "front matter in TOML with many keys": (
        "x.md",
        "+++\n" + "".join(f"{'a.' * 99}b{n} = 1\n" for n in range(300)) + "+++\nbody\n",
    ),
    "front matter in TOML with a huge number": (
        "x.md",
        "+++\ntitle = 0x" + times("f", 60_000) + "\n+++\nbody\n",
    ),
    "a fence that nothing closes": ("x.md", times("~~~~\n```\n")),
    "fences each longer than the one before": ("x.md", "".join("`" * n + "\n" for n in range(1_400, 3, -1))),
    "a rule of a table that is none": ("x.md", "| a |\n|" + times("-") + "x|\n| b |\n"),
    "a heading in AsciiDoc": ("x.adoc", "= a" + times(" ") + "b\n"),
    "blanks after a heading's mark in AsciiDoc": ("x.adoc", "=" + times(" ") + "\n"),
    "a fence of AsciiDoc that is none": ("x.adoc", times("-") + "x\n"),
    "a heading in Org": ("x.org", "* a" + times(" ") + "b\n"),
    "a title in Org": ("x.org", "#+title: a" + times(" ") + "b\n"),
    "a block of Org with an endless name": (
        "x.org",
        "#+begin_" + times("w", SIZE // 2) + "\n" + times("a\n", SIZE // 2),
    ),
    "headings of Org each deeper than the one before": ("x.org", _org_levels(SIZE)),
    "a heading in TeX that is not closed": ("x.tex", times("\\section{")),
    "a heading in TeX with blanks": ("x.tex", "\\section{a" + times(" ") + "\n"),
    "a table in reStructuredText that is none": ("x.rst", times("| ") + "x\n"),
    "underlines of reStructuredText": ("x.rst", times("a\n==\n")),
    "an overline that nothing follows": ("x.rst", times("=") + "\n" + times("-") + "\n"),
    "a voice in subtitles that never ends": ("x.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n" + times("<v ")),
    "a voice in subtitles with blanks": ("x.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n<v" + times(" ")),
    "a voice in subtitles with classes": ("x.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n" + times("<v.a")),
    "tags in subtitles that never end": ("x.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n" + times("<1")),
    "a time in subtitles that is none": (
        "x.srt",
        "1\n00:00:01,000 --> 00:00:02,000\nsaid\n\n" + times("1") + "\n",
    ),
    "blanks before a time in subtitles": (
        "x.srt",
        "1\n00:00:01,000 --> 00:00:02,000\nsaid\n\n" + times(" ") + "\n",
    ),
    "a header as long as all records": (
        "x.csv",
        "名," + times("称,", SIZE // 6) + "\n" + times("a\n", SIZE // 2),
    ),
    "a cell of digits": ("x.csv", times("1") + "x\n2\n"),
    "a sentence of quotes": ("x.txt", "." + times('"') + "x"),
    "sentences that do not end": ("x.txt", times('."')),
    "marks of Chinese sentences": ("x.txt", times("。」")),
    "one word": ("x.txt", times("x")),
    "one Chinese word": ("x.txt", times("文", SIZE // 3)),
    "nothing but blanks before the end": ("x.txt", "a" + times(" ") + "b"),
    "blank lines": ("x.txt", "a" + times("\n") + "b"),
    "blank lines with blanks": ("x.txt", "a\n" + times(" \n") + "b"),
    "lines of one letter": ("x.txt", times("a\n")),
    "code that is blank lines": ("x.py", "a" + times("\n \n") + "b"),
    "records that are blank": ("x.jsonl", times(" \n") + "a"),
    "an XML declaration that never ends": ("x.xml", times("<?xml ") + "<a/>"),
    "nested XML": ("x.xml", times("<a>")),
    "nested JSON": ("x.json", times("[")),
    "aliases in YAML": ("x.yaml", _merged(1_000) + times("- a\n")),
}

LINE, SEARCH, WHOLE = "match", "finditer", "fullmatch"

_BLANKS, _TABS, _LETTERS, _DIGITS = times(" "), times("\t"), times("a"), times("1")
_BYTES = [times("\x80"), times("\x80\n"), times("a")]

EXPRESSIONS: dict[str, tuple[str, list[str]]] = {
    "core.names._AT_END": (SEARCH, [times("."), times(".a"), "." + _LETTERS]),
    "core.names._ADDED_AT_END": (SEARCH, [times("("), times(" (1"), times("_1"), times("_1111")]),
    "core.names._TAGGED": (
        WHOLE,
        [times("~"), times("~aaaaaaaa"), times("~aaaaaaaa-1.") + "/", times("~aaaaaaaa.a")],
    ),
    "core.names._PLAIN": (WHOLE, [times("~"), times("~-1"), _LETTERS]),
    "core.names._SHORTENED": (WHOLE, [times("~"), times("~~aaaaaaaaaaaa") + "!"]),
    "core.names._KEY": (
        SEARCH,
        [_LETTERS, "aaaaaaaa-" + _DIGITS + "!", times("aaaaaaaa-1"), times("aaaaaaaa_1")],
    ),
    "core.names._UNSAFE": (SEARCH, [times("_"), _BLANKS, times("_/"), times("é")]),
    "core.names._PIECE": (SEARCH, [times("~"), times("~0"), times("_")]),
    "core.names._WRITTEN": (WHOLE, [_LETTERS + "~", times("~00") + "~", times("a~00") + "~"]),
    "core.names._BYTE": (SEARCH, [times("~"), times("~0")]),
    "core.names._PERCENT": (SEARCH, [times("%"), times("%0")]),
    "core.names._SLASH": (SEARCH, [times("/"), times("\\")]),
    "core.names._LOST": (SEARCH, [times("?"), _LETTERS]),
    "core.names._ILLEGIBLE": (SEARCH, [times("\x80"), _LETTERS]),
    "core.text._HARMFUL": (SEARCH, [times("\x1b"), _LETTERS]),
    "core.text._HARMFUL_IN_LINES": (SEARCH, [times("\n"), times("\x1b"), _LETTERS]),
    "core.links._FORBIDDEN": (SEARCH, [_BLANKS, _LETTERS]),
    "core.text._FIT": (WHOLE, [_BLANKS, _LETTERS + "\n", "a" + _BLANKS]),
    "index.chunk._PARAGRAPH": (
        SEARCH,
        [times("a\n"), times("a\n "), "a\n" + _BLANKS, _BLANKS, times("\n"), times("a \n \n")],
    ),
    "index.chunk._GRAMMARS[MARKDOWN].heading": (
        LINE,
        ["# a" + _BLANKS + "b", "#" + _BLANKS, "# " + times("#") + "a", times("#")],
    ),
    "index.chunk._GRAMMARS[MARKDOWN].fence": (LINE, [_BLANKS, times("`"), _TABS + "~~"]),
    "index.chunk._GRAMMARS[MARKDOWN].table": (LINE, [_BLANKS, times("|")]),
    "index.chunk._GRAMMARS[RST].table": (
        LINE,
        [times("|") + "a", times("| ") + "a", "|" + _BLANKS + "a", times("|+")],
    ),
    "index.chunk._GRAMMARS[ASCIIDOC].heading": (LINE, ["= a" + _BLANKS + "b", "=" + _BLANKS, times("= ")]),
    "index.chunk._GRAMMARS[ASCIIDOC].fence": (
        LINE,
        [times("-") + "a", "----" + _BLANKS + "a", times("/") + "a", "|" + times("=") + "a"],
    ),
    "index.chunk._GRAMMARS[ORG].heading": (LINE, ["* a" + _BLANKS + "b", times("*"), "*" + _BLANKS]),
    "index.chunk._GRAMMARS[ORG].fence": (LINE, [_BLANKS, "#+begin_" + _LETTERS]),
    "index.chunk._GRAMMARS[ORG].table": (LINE, [_BLANKS, times("|")]),
    "index.chunk._GRAMMARS[TEX].heading": (
        LINE,
        ["\\section{" + _LETTERS, "\\section{" + times("}"), _BLANKS],
    ),
    "index.chunk._GRAMMARS[TEX].fence": (LINE, [_BLANKS, times("\\begin{table")]),
    "index.chunk._SENTENCE": (
        SEARCH,
        ["." + times('"'), times("."), "." + _BLANKS, times('."'), times(". "), times("。"), times("。」")],
    ),
    "index.chunk._NEWLINE": (SEARCH, [times("\n"), _LETTERS]),
    "index.read.encoding._FROM_FOREIGN": (SEARCH, _BYTES),
    "index.read.encoding._CONTROL": (SEARCH, [times("\x01"), _LETTERS]),
    "index.read.encoding._DECLARED": (
        SEARCH,
        [times("<?xml"), "<?xml encoding" + _BLANKS, times("<?xml encoding="), "<?xml encoding='" + _LETTERS],
    ),
    "index.read.encoding._META": (
        SEARCH,
        [
            times("<meta "),
            "<meta charset" + _BLANKS,
            "<meta charset=" + _BLANKS + "'" + _BLANKS,
            times("<meta charset="),
        ],
    ),
    "index.read.encoding._SUSPICIOUS": (SEARCH, [times("\x80"), _LETTERS]),
    "index.read.text._BLOCK[---]": (
        LINE,
        ["---" + _BLANKS, "---\n" + times("--- "), "---\n" + times("---x\n"), "---\n" + _LETTERS],
    ),
    "index.read.text._BLOCK[+++]": (
        LINE,
        ["+++" + _BLANKS, "+++\n" + times("+++ "), "+++\n" + times("+++x\n"), "+++\n" + _LETTERS],
    ),
    "index.read.text._FENCE": (
        SEARCH,
        [
            times("`"),
            times("```\n~~~\n"),
            "```\n" + _LETTERS,
            "".join("`" * n + "\n" for n in range(1_400, 3, -1)),
        ],
    ),
    "index.read.text._TICKS": (SEARCH, [times("`"), times("``a")]),
    "index.read.text._NO_TITLE": (
        LINE,
        ["document" + _DIGITS + "x", "präsenta" + _LETTERS + "!", "演示文稿" + _DIGITS + "x"],
    ),
    "index.read.text._ESCAPE": (SEARCH, [times("\\"), times("\\a")]),
    "index.read.text._BLANK_LINES": (
        SEARCH,
        [times("\n"), "\n" + _BLANKS, times("\n \n "), times("\n  a"), "\n" + _BLANKS + "\n" + _BLANKS],
    ),
    "index.read.text._CONTROL": (SEARCH, [times("\x01"), _LETTERS]),
    "index.read.text._LINE_START": (LINE, [_DIGITS, _DIGITS + "\\x"]),
    "index.read.notebook._COLOUR": (SEARCH, [times("\x1b["), "\x1b[" + times("1;"), times("\x1b[1")]),
    "index.read.office._EMPTY_ROW": (
        SEARCH,
        ["|" + _BLANKS, times("|") + "\n| ---", times("| ") + "a", times("||\n| ---\n")],
    ),
    "index.read.office._NAME_OF_ERROR": (WHOLE, [times("Error") + "!", _LETTERS]),
    "index.read.office._IMAGE": (SEARCH, ["/Subtype" + _BLANKS, times("/Subtype ")]),
    "index.read.office._ENTITY": (SEARCH, [times("&"), times("&#1"), times("&#x")]),
    "index.read.office._TAB": (SEARCH, ["<w:tab" + _BLANKS, times("<w:tab ")]),
    "index.read.office._HYPHEN": (SEARCH, ["<w:noBreakHyphen" + _BLANKS, times("<w:noBreakHyphen ")]),
    "index.read.office._CJK_BREAK": (
        SEARCH,
        ["文" + _BLANKS, "文" + _BLANKS + "\n" + _BLANKS, times("文 \n "), times("文\n")],
    ),
    "index.words._WORD": (SEARCH, [_LETTERS, _BLANKS]),
    "index.words._AT_THE_END": (SEARCH, [("a" * 4_000) + "!"]),  # of a question, of which no more is read
    "index.read.encoding._FOREIGN": (SEARCH, [times("é"), times("éa"), _LETTERS]),
    "index.read.encoding._KANA": (LINE, [times("ア")]),
    "index.read.encoding._LETTERS": (SEARCH, [_LETTERS, times("é1"), times("é_")]),
    "index.read.encoding._BETWEEN_LETTERS": (
        SEARCH,
        [times("§"), "é" + times("§"), times("é§"), times("é§ ")],
    ),
    "index.read.encoding._ASTRAY": (SEARCH, [times("\u0e31"), times("a\u0e31"), times("א\u05b0")]),
    "index.read.encoding._SIGN_IN_PLACE": (
        LINE,
        [times("§"), "¿" + _LETTERS, "¡" + times("!"), "§" + _BLANKS],
    ),
    "index.read.encoding._TOUCHING": (SEARCH, [times("§"), times("é§"), times("§a")]),
    "index.read.encoding._UNWESTERN": (SEARCH, [times("é"), times("éê"), times("ïa"), _LETTERS]),
    "index.read.encoding._ENGLISH": (SEARCH, [times("the"), _LETTERS, times("th ")]),
    "index.snippet._WORD": (SEARCH, [times("文"), _LETTERS, times("文a"), times("_")]),
    "index.snippet._CJK": (LINE, [times("文")]),
    "index.snippet._ONES": (SEARCH, [_DIGITS, times("10")]),
    "index.read.text._NUMBER": (LINE, [_DIGITS + "x", times("1.") + "x", times(","), times("1%")]),
    "index.read.text._CUE_TIME": (LINE, [_DIGITS, _BLANKS, "1:" + _DIGITS, "00:00:00.000" + _BLANKS + "x"]),
    "index.read.text._MARK": (SEARCH, [times("<"), times("<v "), times(">"), "<" + _BLANKS, times("<>")]),
    "index.read.text._CUE_TAG": (WHOLE, [_LETTERS, "1" + times(":") + "x", "/" + _LETTERS]),
    "index.read.text._PATTERNS[MARKDOWN]": (
        SEARCH,
        [
            "# a" + _BLANKS + "b",
            "#" + _BLANKS,
            times("# \n"),
            _LETTERS + "\n" + times("=") + "x",
            times("a\n=x\n"),
        ],
    ),
    "index.read.text._PATTERNS[RST]": (
        SEARCH,
        ["a\n" + times("=") + "x", "a\n===" + _BLANKS + "x", times("=\n"), times("a\n==x\n")],
    ),
    "index.read.text._PATTERNS[ASCIIDOC]": (
        SEARCH,
        ["= a" + _BLANKS + "b", "=" + _BLANKS, times("= \n")],
    ),
    "index.read.text._PATTERNS[ORG]": (
        SEARCH,
        ["* a" + _BLANKS + "b", times("*"), "#+title:" + _BLANKS, times("*\n")],
    ),
    "index.read.text._PATTERNS[TEX]": (
        SEARCH,
        [times("\\title{"), "\\title{" + _LETTERS, times("\\title{}")],
    ),
    "index.read.text._FENCED": (SEARCH, ["```\n" + times("~~\n"), times("```\n~~~\n")]),
    "index.words._RUN": (SEARCH, [times("文"), times("文a")]),
    "index.chunk._WIDE": (SEARCH, [times("文"), _LETTERS]),
}
"""Each expression by the module and the name it is found under: how it is used, and what costs it most."""
