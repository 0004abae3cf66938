from __future__ import annotations

import re

import pytest

from kbsync.contract.target import Limits
from kbsync.core.model import FileChoice, FileKind
from kbsync.core.selection import Rules, person_part
from kbsync.core.text import extension_of

LIMITS = Limits(
    extensions=frozenset({"md", "pdf", "txt", "csv", "py"}),
    names=frozenset({"README", "LICENSE"}),
    max_bytes=1_000,
    max_bytes_by_extension={"pdf": 5_000},
)


def rules(include: list[str] | None = None, exclude: list[str] | None = None, **ignore: str) -> Rules:
    rule_set = Rules(None if include is None else tuple(include), tuple(exclude or ()), LIMITS)
    return rule_set.below("", ignore["root"]) if "root" in ignore else rule_set


def choice(rules: Rules, path: str, size: int = 10, kind: FileKind = FileKind.FILE) -> FileChoice:
    return rules.verdict(path, size, kind).choice


def is_mirrored(rules: Rules, path: str) -> bool:
    """Return whether a scan would select it: every folder above it must be entered."""
    parts = path.split("/")
    folders = ["/".join(parts[:n]) for n in range(1, len(parts))]
    return all(choice(rules, f, kind=FileKind.FOLDER) is FileChoice.SELECTED for f in folders) and (
        choice(rules, path) is FileChoice.SELECTED
    )


@pytest.mark.parametrize(
    "path",
    [
        *("a.md", "deep/er/B.MD", "x.tar.pdf", "README", "readme", "docs/License"),
        *("two\nlines.md", "bell\x07.md", "bad-\udce9.md"),
        *("ein Buch (2. Auflage) – Überblick.pdf", "u\u0308ber.md", "\u00fcber.md", "Case.md"),
        *("case.md", "n" * 252 + ".md", "-rf.md", "#heading.md", " leading and trailing .md"),
        *("cvs/mine.md", "sedentary.md", "4913.md"),
    ],
)
def test_ordinary_files_with_unusual_names_are_mirrored(path: str) -> None:
    assert is_mirrored(rules(), path)


@pytest.mark.parametrize(
    "path",
    [
        *(".git/HEAD.md", ".git", "sub/.hg/a.md", ".svn/a.md", ".bzr/a.md", "CVS/a.md"),
        *("_darcs/a.md", ".jj/a.md", "a.md~", ".a.md.swp", ".a.md.swx", "4913", ".#a.md"),
        *("#a.md#", "~$report.md", ".~lock.a.odt#", "a.tmp", "a.pdf.part", "a.pdf.crdownload"),
        *("a.bak", ".DS_Store", "._a.md", "Thumbs.db", "desktop.ini", ".r.md.Ab3xYz"),
        *(".README.a1bcde", "sedAb3xYz", "sub/seda1bcde", ".goutputstream-ABC123"),
        *(".stfolder/a.md", ".stversions/a.md", "~syncthing~a.md.tmp", "~syncthing~a.md"),
        *("node_modules/pkg/README.md", "__pycache__/a.py", ".nfs000000000023a4b200000001"),
        *(".Trash-1000/files/a.md", ".kbsyncignore", "sub/.kbsyncignore"),
        *(".obsidian/plugins/x/main.js", ".obsidian/a.md", "vault/.trash/a.md", ".hidden.md", ".config/a.md"),
        *("a.sync-conflict-20261120-101500-ABCDEFG.md", "sub/.notes/deep/a.md"),
    ],
)
def test_program_leftovers_are_excluded_by_default(path: str) -> None:
    assert not is_mirrored(rules(), path)


def test_default_exclusion_is_named_as_a_default() -> None:
    verdict = rules().verdict("notes/a.md~", 3, FileKind.FILE)
    assert (verdict.choice, verdict.reason, verdict.rule) == (
        FileChoice.EXCLUDED,
        "excluded by *~",
        "default",
    )


def test_hidden_file_is_reported_as_hidden_and_a_matching_rule_is_named() -> None:
    for path, kind in ((".hidden.md", FileKind.FILE), ("sub/.notes", FileKind.FOLDER)):
        verdict = rules().verdict(path, 3, kind)
        outcome = (verdict.choice, verdict.reason, verdict.rule)
        assert outcome == (FileChoice.EXCLUDED, "hidden, and left out by default", "default")
    assert rules().verdict(".git", 3, FileKind.FOLDER).reason == "excluded by .git"


def test_include_of_one_hidden_name_includes_no_other() -> None:
    rule_set = rules([".notes/**", "*.md"])
    assert is_mirrored(rule_set, ".notes/a.md")
    assert not is_mirrored(rule_set, ".other/a.md")
    assert not is_mirrored(rule_set, ".hidden.md")


def test_editor_lock_is_excluded_even_as_a_symlink() -> None:
    assert choice(rules(), ".#a.md", kind=FileKind.SYMLINK) is FileChoice.EXCLUDED


@pytest.mark.parametrize(
    ("include", "path"),
    [
        (["*.bak.md", "a.bak"], "a.bak"),
        (["notes/*.tmp"], "notes/a.tmp"),
        ([".git/**/*.md"], ".git/info/a.md"),
        (["node_modules/"], "node_modules/pkg/README.md"),
        ([".obsidian/"], ".obsidian/a.md"),
        (["vault/.trash/*.md"], "vault/.trash/a.md"),
        (["**/.notes/**"], "sub/.notes/deep/a.md"),
        ([".*"], ".hidden.md"),
        ([".*.md"], ".hidden.md"),
        (["*.sync-conflict-*"], "a.sync-conflict-20261120-101500-ABCDEFG.md"),
    ],
)
def test_include_naming_a_default_overrides_it(include: list[str], path: str) -> None:
    limits = Limits(extensions=frozenset({"md", "bak", "tmp"}))
    rule_set = Rules(tuple(include), (), limits)
    parts = path.split("/")
    assert all(rule_set.enters("/".join(parts[:n])).choice is FileChoice.SELECTED for n in range(len(parts)))
    assert rule_set.verdict(path, 5, FileKind.FILE).choice is FileChoice.SELECTED


@pytest.mark.parametrize("include", [["*"], ["**"], ["**/*"], ["*.md"], ["/sub/"]])
def test_wide_include_overrides_no_default_but_a_negation_does(include: list[str]) -> None:
    assert not is_mirrored(rules(include), "sub/.git/a.md")
    assert not is_mirrored(rules(include), "sub/~$a.md")
    assert not is_mirrored(rules(include), "sub/.notes/a.md")
    assert not is_mirrored(rules(include), "sub/.hidden.md")
    assert is_mirrored(rules(exclude=["!.git/"]), ".git/a.md")
    assert is_mirrored(rules(exclude=["!.notes/"]), "sub/.notes/a.md")
    assert is_mirrored(rules(root="!~$*\n"), "~$a.md")


def test_ignore_file_is_never_mirrored() -> None:
    limits = Limits(names=frozenset({".kbsyncignore"}))
    rule_set = Rules((".kbsyncignore",), ("!.kbsyncignore",), limits)
    assert rule_set.verdict(".kbsyncignore", 5, FileKind.FILE).choice is FileChoice.EXCLUDED


@pytest.mark.parametrize(
    ("size", "kind", "reason"),
    [
        (0, FileKind.FILE, "empty"),
        (9, FileKind.SYMLINK, "symlink (not followed)"),
        (0, FileKind.SPECIAL, "socket, fifo or device"),
    ],
)
def test_empty_files_symlinks_and_special_files_are_skipped(size: int, kind: FileKind, reason: str) -> None:
    for rule_set in (rules(), rules(["*.md"])):
        verdict = rule_set.verdict("a.md", size, kind)
        assert (verdict.choice, verdict.reason) == (FileChoice.SKIPPED, reason)


def test_unsupported_format_is_skipped_unless_requested() -> None:
    assert rules().verdict("a.exe", 5, FileKind.FILE).reason == "the target doesn't accept .exe files"
    assert choice(rules(), "a.exe") is FileChoice.SKIPPED
    assert choice(rules(), "Makefile") is FileChoice.SKIPPED
    refused = rules(["*.md", "*.exe"]).verdict("a.exe", 5, FileKind.FILE)
    assert refused.choice is FileChoice.REFUSED
    assert refused.reason.startswith("explicitly included but not accepted")
    assert refused.rule == "include[1]"
    assert choice(rules(["*.md"]), "a.exe") is FileChoice.EXCLUDED


def test_file_over_the_limit_is_refused_with_both_sizes() -> None:
    verdict = rules().verdict("a.md", 12_345, FileKind.FILE)
    assert (verdict.choice, verdict.rule) == (FileChoice.REFUSED, "max_bytes")
    assert verdict.reason == "12,345 bytes, over the limit of 1,000 bytes"
    assert choice(rules(), "a.md", 1_000) is FileChoice.SELECTED
    assert choice(rules(), "a.pdf", 5_000) is FileChoice.SELECTED
    assert choice(rules(), "a.pdf", 5_001) is FileChoice.REFUSED


def test_rules_name_file_and_line_or_config_key() -> None:
    rule_set = rules(exclude=["x/", "*.txt"]).below("docs", "# comment\n\n*.md\n!keep.md\n")
    assert rule_set.verdict("docs/a.md", 5, FileKind.FILE).rule == "docs/.kbsyncignore:3"
    assert rule_set.verdict("docs/keep.md", 5, FileKind.FILE).rule == "docs/.kbsyncignore:4"
    assert rule_set.verdict("docs/a.txt", 5, FileKind.FILE).rule == "exclude[1]"
    assert rule_set.enters("docs/x").rule == "exclude[0]"
    assert rules(["*.md"]).verdict("a.md", 5, FileKind.FILE).rule == "include[0]"
    assert rules(["*.md"]).verdict("a.txt", 5, FileKind.FILE).rule == "include"


def test_config_overrides_ignore_files_and_nearer_ignore_files_override_farther() -> None:
    rule_set = rules(exclude=["secret.md"], root="!secret.md\n*.txt\n").below("sub", "!keep.txt\n")
    assert choice(rule_set, "sub/secret.md") is FileChoice.EXCLUDED
    assert choice(rule_set, "sub/other.txt") is FileChoice.EXCLUDED
    assert choice(rule_set, "sub/keep.txt") is FileChoice.SELECTED


def test_include_is_decided_by_the_nearest_matching_line() -> None:
    rule_set = rules(["docs/", "!docs/private/", "!docs/draft.md"])
    assert is_mirrored(rule_set, "docs/a.md")
    assert is_mirrored(rule_set, "docs/deep/er/a.md")
    assert not is_mirrored(rule_set, "docs/private/a.md")
    assert not is_mirrored(rule_set, "docs/draft.md")
    assert not is_mirrored(rule_set, "a.md")


def test_folders_that_cannot_contain_included_files_are_not_entered() -> None:
    rule_set = rules(["/docs/*/pages/*.md", "handbook/**"])
    for entered in ("docs", "docs/x", "docs/x/pages", "handbook", "handbook/a/b"):
        assert rule_set.enters(entered).choice is FileChoice.SELECTED, entered
    for shut in ("src", "docs/x/other", "docs/x/pages/deeper", "x/docs"):
        assert rule_set.enters(shut).choice is FileChoice.EXCLUDED, shut
    assert rules(["**/x/*.md"]).enters("any/where").choice is FileChoice.SELECTED


@pytest.mark.parametrize(
    "line",
    [
        *("[abc", "a/[!", "x\\", "[[:nope:]]", "docs/a[b/c]"),
        *("./drafts/", "!../a", "a//b", "//a", "a/.", "..", "d\0r\0"),
        *(r"\./x", "a/[.]/b", r"!\.[.]", "[.]/"),
    ],
)
def test_line_that_can_never_match_is_an_error_with_its_location(line: str) -> None:
    with pytest.raises(ValueError, match=r"^exclude\[1\]: "):
        Rules(None, ("fine", line), LIMITS)
    with pytest.raises(ValueError, match=r"^docs/\.kbsyncignore:2: "):
        rules().below("docs", f"fine\n{line}\n")


@pytest.mark.parametrize(("line", "name"), [(r"\[.]", "[.]"), ("[].]", "]"), (r"[\].]/a", "]/a")])
def test_line_that_only_looks_like_a_dot_still_matches(line: str, name: str) -> None:
    assert choice(rules(root=line), name) is FileChoice.EXCLUDED


def test_error_about_a_path_from_a_shell_says_how_to_write_it() -> None:
    for line in ("./drafts/", "!./a.md", r"\./a.md"):
        with pytest.raises(ValueError, match=re.escape(f".kbsyncignore:1: ./ instead of / in {line!r}")):
            rules(root=f"{line}\r\n")


def test_ignore_files_may_have_bom_crlf_any_script_and_no_last_newline() -> None:
    rule_set = rules(root="\ufeffa.md\r\nb.md  \r\nc\\ \r\n第?章.md\nbad-\udce9.md\nx-?.md\nd.md")
    for name in ("a.md", "b.md", "c ", "第三章.md", "bad-\udce9.md", "x-\udcff.md", "d.md"):
        assert choice(rule_set, name) is FileChoice.EXCLUDED, name


def test_versions_distinguish_user_changes_from_program_changes() -> None:
    base = rules(["*.md"])
    assert rules(["*.md"]).version == base.version
    for other in (rules(["*.txt"]), rules(), rules(["*.md"], ["a"]), base.below("", "x\n")):
        assert other.person_version != base.person_version
        assert other.program_version == base.program_version
        assert person_part(other.version) == other.person_version
    upgraded = Rules(("*.md",), (), Limits(extensions=frozenset({"md"})))
    assert upgraded.person_version == base.person_version
    assert upgraded.program_version != base.program_version
    assert upgraded.version != base.version


def test_versions_do_not_depend_on_where_a_rule_set_was_built() -> None:
    first = Limits(extensions=frozenset(["a", "b", "c", "d"]))
    second = Limits(extensions=frozenset(["d", "c", "b", "a"]))
    assert Rules(None, (), first).version == Rules(None, (), second).version


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("a.MD", "md"),
        ("a.tar.gz", "gz"),
        (".md", ""),
        ("..md", ""),
        ("a.", ""),
        ("README", ""),
        ("a.b.", ""),
        ("x.y/readme", ""),
        ("a.b/.c", ""),
        ("caf\udce9.Pdf", "pdf"),
        ("", ""),
    ],
)
def test_extension_follows_the_last_inner_dot(name: str, extension: str) -> None:
    assert extension_of(name) == extension


def test_hostile_pattern_is_not_slow() -> None:
    stars = rules(root="*a" * 40 + "b\n" + "**/x/" * 20 + "y\n")
    assert choice(stars, "a" * 240 + ".md") is FileChoice.SELECTED
    assert choice(stars, "x/" * 200 + "z.md") is FileChoice.SELECTED
