"""Streams of events are read whatever way they are cut and written."""

from __future__ import annotations

import pytest

from kbsync.targets.http.bodies import Event, EventReader

PLAIN = "event:add\nid:7\ndata: naïve 猫\n\n:keep-alive\n\nevent:finish\nid:7\ndata:\n\n"
SPACED = "id: 7\nevent: add\ndata:  naïve 猫\n\n: keep-alive\n\nId: 7\nevent: finish\ndata:\nusage: {}\n\n"
QUOTED = 'Id: "7"\nevent: "add"\ndata: " naïve 猫"\n\n\n\nID: "7"\nEvent: "finish"\nData: ""\n\n'


def read(*pieces: bytes) -> list[Event]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)] + list(reader.end())


@pytest.mark.parametrize("text", [PLAIN, SPACED, QUOTED])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "bom"])
def test_an_event_is_the_same_however_it_is_cut(text: str, end: str, mark: bytes) -> None:
    content = mark + text.replace("\n", end).encode()
    for cut in range(len(content) + 1):
        events = read(content[:cut], content[cut:])
        assert [(one.name, one.id, one.data) for one in events] == [
            ("add", "7", " naïve 猫"),
            ("finish", "7", ""),
        ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_event_is_given_with_its_last_line_and_not_a_byte_later(end: str) -> None:
    reader = EventReader()
    content = "event: add\ndata: a\n\n".replace("\n", end).encode()
    before, last = content[: -len(end)], end[:1].encode()
    assert list(reader.feed(before)) == []
    assert [event.data for event in reader.feed(last)] == ["a"]


@pytest.mark.parametrize("left_out", [1, 2])
def test_a_last_event_needs_no_blank_line(left_out: int) -> None:
    assert [one.data for one in read(b"data: a\n\ndata: b\n\n"[:-left_out])] == ["a", "b"]


def test_lines_of_data_are_joined_and_fields_of_their_own_are_kept() -> None:
    [event] = read(b'data: a\ndata:\ndata: b\nusage: {"total_tokens": 5}\nodd\n\n')
    assert event.data == "a\n\nb"
    assert event.fields == {"usage": '{"total_tokens": 5}', "odd": ""}


def test_quotes_belong_to_the_text_where_nothing_else_is_quoted() -> None:
    assert [one.data for one in read(b'event: add\ndata: "no"\n\n')] == ['"no"']
    assert [one.data for one in read(b'event: "add"\ndata: "a \\"b\\"\\n"\n\n')] == ['a "b"\n']
    assert [one.data for one in read(b'event: "add"\ndata: "a "b""\n\n')] == ['a "b"']


def test_comments_alone_are_no_event() -> None:
    assert read(b": a\n\n:\n\n\n\n") == []


def test_bytes_that_are_no_text_spoil_no_more_than_themselves() -> None:
    assert [one.data for one in read(b"data: a\xff\xfeb\n\n", b"data: c\xe7")] == [
        "a\ufffd\ufffdb",
        "c\ufffd",
    ]
