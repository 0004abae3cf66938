"""Tests link files of three kinds: those that programs write, and invalid ones."""

from __future__ import annotations

import plistlib

import pytest

from kbsync.core.links import MAX_BYTES, NoLink, read_address, same_address

PAGE = "https://example.org/faq?a=1#/top"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.url", f"[InternetShortcut]\r\nURL={PAGE}\r\n".encode()),
        ("A.URL", f"[InternetShortcut]\r\nURL={PAGE}\r\n".encode()),
        ("a.url", f"\ufeff; made by hand\n[internetshortcut]\nurl = {PAGE} \n".encode()),
        ("a.url", f"[InternetShortcut]\r\nURL={PAGE}\r\n".encode("utf-16")),
        ("a.url", b"[InternetShortcut]\nIconFile=C:\\\xe4.ico\nURL=" + PAGE.encode()),
        ("a.url", f"[DEFAULT]\nBASEURL=x\n[InternetShortcut]\nURL={PAGE}\nURL=http://b\n".encode()),
        ("a.desktop", f"[Desktop Entry]\nVersion=1.0\nType=Link\nName[de]=Seite\nURL={PAGE}\n".encode()),
        ("a.webloc", plistlib.dumps({"URL": PAGE})),
        ("a.webloc", plistlib.dumps({"URL": PAGE}, fmt=plistlib.FMT_BINARY)),
    ],
)
def test_link_address_is_parsed(path: str, content: bytes) -> None:
    assert read_address(path, content) == PAGE


ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "https://x">]>'
    b"<plist><dict><key>URL</key><string>&a;</string></dict></plist>"
)


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("a.url", b"", "section"),
        ("a.url", b"[InternetShortcut]\n", "no address"),
        ("a.url", b"[InternetShortcut]\nURL=javascript:alert(1)\n", "javascript"),
        ("a.url", b"[InternetShortcut]\nURL=file:///etc/passwd\n", "file"),
        ("a.url", b"[InternetShortcut]\nURL=https://\n", "host"),
        ("a.url", b"[InternetShortcut]\nURL=https://a:b@c.org/\n", "password"),
        ("a.url", b"[InternetShortcut]\nURL=https://a.org/ b\n", "spaces"),
        ("a.url", b"[InternetShortcut]\nURL=https://a.org/\xe4\n", "forbidden"),
        ("a.url", b"[InternetShortcut]\nURL=https://a.org:99999/\n", "malformed"),
        ("a.url", b"[InternetShortcut]\nURL=https://a.org/" + b"x" * 2048, "2048"),
        ("a.url", b"[InternetShortcut]\nURL=https://a.org/\n" + b"#" * MAX_BYTES, "65,536"),
        ("a.desktop", b"[Desktop Entry]\nType=Application\nURL=https://a.org/\n", "Application"),
        ("a.desktop", b"[InternetShortcut]\nURL=https://a.org/\n", "Desktop Entry"),
        ("a.webloc", b"bplist00 and then nothing", "property list"),
        ("a.webloc", ENTITIES, "property list"),
        ("a.webloc", plistlib.dumps(["https://a.org/"]), "no URL"),
        ("a.webloc", plistlib.dumps({"URL": 7}), "no URL"),
    ],
)
def test_invalid_link_file_gives_a_reason(path: str, content: bytes, words: str) -> None:
    with pytest.raises(NoLink, match=words):
        read_address(path, content)


def test_addresses_are_sent_in_ascii() -> None:
    content = "[InternetShortcut]\nURL=https://exämple.org/ä b".replace(" b", "|?q=ö").encode()
    assert read_address("a.url", content) == "https://xn--exmple-cua.org/%C3%A4%7C?q=%C3%B6"


@pytest.mark.parametrize(
    ("requested", "listed", "is_same"),
    [
        ("https://a.org", "HTTPS://A.ORG:443/", True),
        ("https://a.org/x#y", "https://a.org/x", True),
        ("https://a.org/x", "https://a.org/x#y", False),
        ("https://a.org/x", "http://a.org/x", False),
        ("https://a.org/x", "https://a.org/X", False),
        ("https://a.org/x", "https://a.org:8443/x", False),
        ("https://a.org/x", "a title", False),
    ],
)
def test_equivalent_addresses_are_recognized(requested: str, listed: str, is_same: bool) -> None:
    assert same_address(requested, listed) is is_same
