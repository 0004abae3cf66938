"""The vendor's codes as errors: the one place where they are translated.

Source: the vendor's page of error codes, the knowledge API's manual, and bodies seen in production. A code
counts whether it comes as a string or a number, flat or inside `error`, under HTTP 200 or not.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http import Answer, by_status
from kbsync.targets.zhipu import words
from kbsync.targets.zhipu.meanings import CODES, KINDS, VAGUE, Blame, Meaning
from kbsync.targets.zhipu.wire import Envelope, envelope_of

KEY_ADVICE = "put a valid api_key (or api_key_file) into the config"
ACCOUNT_ADVICE = "see to the account and its rights in the vendor's console"
EXPIRED = "1003"
KEY_CODES = frozenset({"401", "1000", "1001", "1002", EXPIRED, "1004"})
MONEY_ADVICE = "top up the account or renew its plan in the vendor's console"
SPACE_ADVICE = "delete documents there or get more space in the vendor's console"


class Op(enum.StrEnum):
    """What is asked for; the word used in metrics and messages."""

    BASE = "base"
    CAPACITY = "capacity"
    UPLOAD = "upload"
    UPLOAD_URL = "upload-url"
    DETAIL = "detail"
    LIST = "list"
    DELETE = "delete"
    REEMBED = "reembed"
    RESLICE = "reslice"
    RETRIEVE = "retrieve"
    CHAT = "chat"
    IMAGES = "images"
    MODELS = "models"
    BASES = "bases"
    CREATE_BASE = "create-base"
    EDIT_BASE = "edit-base"
    DELETE_BASE = "delete-base"
    APPLICATIONS = "applications"
    APPLICATION = "application"
    CREATE_APPLICATION = "create-application"
    EDIT_APPLICATION = "edit-application"
    DELETE_APPLICATION = "delete-application"
    INVOKE = "invoke"
    SSE_INVOKE = "sse-invoke"
    SLICE_INFO = "slice-info"
    CALLBACK = "callback"
    SET_CALLBACK = "set-callback"
    DELETE_CALLBACK = "delete-callback"


_OF_APPLICATIONS = frozenset(
    {
        Op.APPLICATIONS,
        Op.APPLICATION,
        Op.CREATE_APPLICATION,
        Op.EDIT_APPLICATION,
        Op.DELETE_APPLICATION,
        Op.INVOKE,
        Op.SSE_INVOKE,
        Op.SLICE_INFO,
    }
)
OPTIONAL = _OF_APPLICATIONS | {
    Op.UPLOAD_URL,
    Op.CHAT,
    Op.CAPACITY,
    Op.REEMBED,
    Op.RESLICE,
    Op.RETRIEVE,
    Op.IMAGES,
    Op.MODELS,
    Op.CALLBACK,
    Op.SET_CALLBACK,
    Op.DELETE_CALLBACK,
}
"""Calls that are missing from some of the vendor's installations and can be done without."""

_OF_ONE_DOCUMENT = frozenset(
    {Op.UPLOAD, Op.UPLOAD_URL, Op.DETAIL, Op.DELETE, Op.REEMBED, Op.RESLICE, Op.IMAGES}
)
"""Calls that a 403 may be said of without a word about the key."""


_ABOUT_THE_CALLER = frozenset({401, 403, 407, 429})
"""HTTP statuses under which "does not exist" is said of a key or an account."""


class NoRoom(Halted):
    """The vendor speaks of too little room, and may mean one document: the capacity is asked first.

    `said`: its own words, without advice.
    """

    def __init__(self, said: str, *, code: str = "", cure: str = "") -> None:
        super().__init__("quota", f"{said}; {SPACE_ADVICE}", code=code, cure=cure)
        self.said = said


class NotFound(Rejected):
    """The vendor knows no such document or base. Means "gone" only where the base itself still answers."""


_AT_ITS_LIMIT = "the account is at its limit"


def judge(answer: Answer) -> TargetError | None:
    """None where the body says success and the HTTP status agrees, else the error.

    A 2xx without a usable body is of unknown outcome; 429 is a rate limit or an empty account, which only
    the body tells.
    """
    envelope = envelope_of(answer.body)
    if envelope is None or not (envelope.code or envelope.failed):
        return _without_code(answer, envelope)
    if envelope.is_success:
        return None if _is_2xx(answer) else _by_status(answer)
    meaning = _meaning(answer, envelope)
    if meaning is None:
        return _by_status_or_refused(answer, envelope)
    return _ERRORS[meaning.blame](answer, envelope, meaning.sentence)


def _by_status(answer: Answer) -> TargetError | None:
    return by_status(answer, of_item=answer.op in _OF_ONE_DOCUMENT)


def _is_2xx(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def _without_code(answer: Answer, envelope: Envelope | None) -> TargetError | None:
    """No code: the HTTP status decides, and 2xx proves nothing."""
    text = envelope.message if envelope is not None else ""
    spoken = words.without_names(text)
    if str(answer.status) in ("434", "435"):
        meaning = CODES[str(answer.status)]
        return _ERRORS[meaning.blame](answer, Envelope(str(answer.status), text), meaning.sentence)
    if answer.status >= 400 and words.says_surely_full(spoken):
        return _full(answer, Envelope(str(answer.status), text), spoken)
    if _is_2xx(answer):
        return Unsure(f"{answer.op}: the vendor's answer does not say whether it was done", code="no-code")
    return _by_status(answer)


def _meaning(answer: Answer, envelope: Envelope) -> Meaning | None:
    """The table's row, or what the words say under codes that say little; None: nothing is known."""
    known = CODES.get(envelope.code)
    if known is not None and envelope.code not in VAGUE:
        return known
    if answer.op in (Op.UPLOAD, Op.UPLOAD_URL) and (envelope.code == "500" or answer.status >= 500):
        return CODES["500"]  # whatever it says, the document may have been stored
    if known is not None and not _is_2xx(answer) and envelope.code != str(answer.status):
        known = None  # the HTTP status says more than a vague code
    return _by_words(words.without_names(envelope.message), answer, envelope) or known or _by_kind(envelope)


def _by_words(text: str, answer: Answer, envelope: Envelope) -> Meaning | None:
    """What is missing says so with 404, or with 400 for the id that came: 500 tells of the vendor's trouble.

    Whoever took another code's words for it would call a document deleted that stays (promise 10).
    """
    is_of_the_id = envelope.code == "400" and answer.status not in _ABOUT_THE_CALLER
    if is_of_the_id and words.says_not_found(text):
        return CODES["404"]
    if words.says_surely_full(text) or (answer.op == Op.UPLOAD and words.says_full(text)):
        blame = Blame.MONEY if words.says_money(text) else Blame.SPACE
        return Meaning(blame, _AT_ITS_LIMIT)
    if words.says_busy(text):
        return Meaning(Blame.LATER, "the vendor is busy")
    return None


def _by_kind(envelope: Envelope) -> Meaning | None:
    blame = KINDS.get(envelope.kind)
    return Meaning(blame, "the vendor refused the request") if blame is not None else None


def _by_status_or_refused(answer: Answer, envelope: Envelope) -> TargetError | None:
    """A code that nobody knows: a failure all the same."""
    if _is_2xx(answer):
        return _request(answer, envelope, "the vendor refused the request")
    return _by_status(answer)


def _reason(envelope: Envelope, sentence: str) -> str:
    said = words.quoted(envelope.message)
    code = f"code {envelope.code}" if envelope.code else envelope.kind
    inside = ": ".join(part for part in (code, said) if part)
    return f"{sentence} ({inside})" if inside else sentence


def _outcome(_answer: Answer, envelope: Envelope, sentence: str) -> TargetError:
    return Unsure(_reason(envelope, sentence), code=envelope.code)


def _later(answer: Answer, envelope: Envelope, sentence: str) -> TargetError:
    return Unavailable(_reason(envelope, sentence), code=envelope.code, retry_after=answer.retry_after)


def _credentials(_answer: Answer, envelope: Envelope, sentence: str) -> TargetError:
    advice = KEY_ADVICE if envelope.code in KEY_CODES else ACCOUNT_ADVICE
    return Halted("credentials", f"{_reason(envelope, sentence)}; {advice}", code=envelope.code)


def _forbidden(answer: Answer, envelope: Envelope, sentence: str) -> TargetError:
    """No code for a bad key: it halts where no document is asked about, and the call is needed."""
    if answer.op in _OF_ONE_DOCUMENT:
        return Rejected(_reason(envelope, sentence), code=envelope.code, may_pass=True)
    if answer.op in OPTIONAL:
        return NotOffered(_reason(envelope, sentence), code=envelope.code)
    return _credentials(answer, envelope, sentence)


def _money(_answer: Answer, envelope: Envelope, sentence: str) -> TargetError:
    return Halted("quota", f"{_reason(envelope, sentence)}; {MONEY_ADVICE}", code=envelope.code)


def _space(_answer: Answer, envelope: Envelope, sentence: str) -> TargetError:
    return NoRoom(_reason(envelope, sentence), code=envelope.code)


def _full(answer: Answer, envelope: Envelope, spoken: str) -> TargetError:
    return (_money if words.says_money(spoken) else _space)(answer, envelope, _AT_ITS_LIMIT)


def _request(answer: Answer, envelope: Envelope, sentence: str) -> TargetError:
    is_taken = answer.op == Op.UPLOAD and words.says_name_taken(words.without_names(envelope.message))
    kind = NameTaken if is_taken else Rejected
    return kind(_reason(envelope, sentence), code=envelope.code)


def _missing(_answer: Answer, envelope: Envelope, sentence: str) -> TargetError:
    return NotFound(_reason(envelope, sentence), code=envelope.code)


def _route(answer: Answer, envelope: Envelope, sentence: str) -> TargetError:
    """An optional call is done without; where a needed one is forbidden a person is asked for."""
    if answer.op in OPTIONAL or envelope.code != "1220":
        return NotOffered(_reason(envelope, sentence), code=envelope.code)
    return _credentials(answer, envelope, sentence)


_ERRORS: dict[Blame, Callable[[Answer, Envelope, str], TargetError]] = {
    Blame.OUTCOME: _outcome,
    Blame.LATER: _later,
    Blame.CREDENTIALS: _credentials,
    Blame.FORBIDDEN: _forbidden,
    Blame.MONEY: _money,
    Blame.SPACE: _space,
    Blame.REQUEST: _request,
    Blame.MISSING: _missing,
    Blame.ROUTE: _route,
}
