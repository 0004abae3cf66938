"""The vendor's codes and sentences as errors: the one place where they are translated.

Source: the vendor's page of error codes, the knowledge API's manual, and bodies seen in production. A code
counts whether it comes as a string or a number, flat or inside `error`, under HTTP 200 or not. Texts are
Chinese as a rule, sometimes English, and one number stands for different causes (10001 is a full space in
the manual and a damaged document in production), so the words decide where a code is vague. The names of
documents in them say nothing: `without_names` takes them out first.
"""

from __future__ import annotations

import enum
import re

from kbsync.core.text import printable
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.errors import HttpAnswer, by_status
from kbsync.targets.zhipu.config import EXTENSIONS, extension_of
from kbsync.targets.zhipu.shapes import Envelope

KEY_ADVICE = "put a valid api_key (or api_key_file) into the config"
ACCOUNT_ADVICE = "see to the account and its rights in the vendor's console"
EXPIRED = "1003"
KEY_CODES = frozenset({"401", "1000", "1001", "1002", EXPIRED, "1004"})
MONEY_ADVICE = "top up the account or renew its plan in the vendor's console"
SPACE_ADVICE = "delete documents there or get more space in the vendor's console"


class ZhipuCall(enum.StrEnum):
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


# Applications and callbacks are gone from the vendor's current pages; the others were seen to be missing.
OPTIONAL = frozenset(call for call in ZhipuCall if "application" in call or "callback" in call) | {
    *(ZhipuCall.INVOKE, ZhipuCall.SSE_INVOKE, ZhipuCall.SLICE_INFO, ZhipuCall.CHAT, ZhipuCall.MODELS),
    *(ZhipuCall.UPLOAD_URL, ZhipuCall.REEMBED, ZhipuCall.RESLICE),
    *(ZhipuCall.CAPACITY, ZhipuCall.RETRIEVE, ZhipuCall.IMAGES),
}
"""Calls that are missing from some of the vendor's installations and can be done without."""

_OF_ONE_DOCUMENT = {
    *(ZhipuCall.UPLOAD, ZhipuCall.UPLOAD_URL, ZhipuCall.DETAIL, ZhipuCall.DELETE),
    *(ZhipuCall.REEMBED, ZhipuCall.RESLICE, ZhipuCall.IMAGES),
}
"""Calls that a 403 may be said of without a word about the key."""


_ABOUT_THE_CALLER = frozenset({401, 403, 407, 429})
"""HTTP statuses under which "does not exist" is said of a key or an account."""


SLOW = frozenset({"429", "1302", "1303", "1305", "1312"})
"""Codes that ask for fewer requests."""

VAGUE = frozenset({"400", "500"})
"""Codes under which the knowledge API reports anything that went wrong: the words tell more."""


class Blame(enum.Enum):
    """What a code means for what has to be done."""

    OUTCOME = "outcome unknown"
    LATER = "not stored, later"
    CREDENTIALS = "a person: key or account"
    FORBIDDEN = "the document, or a person where none is asked about"
    MONEY = "a person: money or plan"
    SPACE = "a person: space"
    REQUEST = "the document or a setting"
    MISSING = "no such document or base"
    ROUTE = "the call is not there, or not for this account"


Meaning = tuple[Blame, str]
"""One row of the table, with the sentence that a person reads before the vendor's own words."""

_SENTENCES: dict[Blame, dict[str, str]] = {
    Blame.OUTCOME: {
        "500": "the vendor had an internal error",
        "502": "the vendor's gateway had no answer",
        "503": "the vendor is out of service",
        "504": "the vendor's gateway did not wait for the answer",
        "1200": "the vendor's call failed",
        "1230": "the vendor's workflow failed",
        "1231": "a request with this id is under way already",
        "1234": "the vendor's network failed",
    },
    Blame.LATER: {
        "408": "the vendor did not wait for the request",
        "429": "too many requests at the vendor",
        "1120": "the account cannot be reached at the moment",
        "1302": "too many requests at once for this account",
        "1303": "too many requests in a short time for this account",
        "1305": "the vendor slows requests down",
        "1312": "the vendor's model is overloaded",
    },
    Blame.CREDENTIALS: {
        "401": "the vendor refuses the api_key",
        "434": "this account has no right to the knowledge API",
        "1000": "the vendor refuses the api_key",
        "1001": "the vendor saw no api_key",
        "1002": "the vendor calls the api_key invalid",
        "1003": "the vendor calls the api_key expired",
        "1004": "the vendor does not accept the api_key",
        "1100": "the account can neither read nor write",
        "1110": "the account is not active",
        "1111": "the account does not exist",
        "1112": "the account is locked",
        "1121": "the account is locked for a violation of the vendor's rules",
    },
    Blame.FORBIDDEN: {"403": "the vendor forbids it"},
    Blame.MONEY: {
        "1113": "the account has no money left",
        "1304": "the quota of the day is used up",
        "1308": "the quota of this period is used up",
        "1309": "the plan of the account has expired",
        "1310": "the quota of the week is used up",
        "1311": "the plan of the account does not cover this",
        "1313": "the account is limited by the vendor's fair use policy",
    },
    Blame.REQUEST: {
        "400": "the vendor calls the request wrong",
        "413": "the file is too large for the vendor",
        "435": "the file is too large for the vendor (over 100 MB)",
        "1210": "the vendor calls a parameter wrong",
        "1211": "the vendor has no such model",
        "1212": "the vendor's model does not support this call",
        "1213": "the vendor misses a parameter",
        "1214": "the vendor calls a parameter invalid",
        "1215": "the vendor calls two parameters contradictory",
        "1261": "the text is too long for the vendor",
        "1300": "the vendor's policy blocks this content",
        "1301": "the vendor calls this content unsafe",
    },
    Blame.MISSING: {"404": "the vendor knows no such document or knowledge base"},
    Blame.ROUTE: {
        "405": "the vendor has no such call",
        "501": "the vendor has no such call",
        "1220": "this account may not use this call",
        "1221": "the vendor has taken this call off-line",
        "1222": "the vendor has no such call",
    },
}

CODES: dict[str, Meaning] = {
    code: (blame, sentence) for blame, group in _SENTENCES.items() for code, sentence in group.items()
}

KINDS = {
    "authentication_error": Blame.CREDENTIALS,
    "permission_error": Blame.FORBIDDEN,
    "rate_limit_error": Blame.LATER,
    "overloaded_error": Blame.LATER,
    "not_found_error": Blame.MISSING,
    "api_error": Blame.OUTCOME,
}
"""`error.type` of bodies that carry no code."""

_LONGEST = 300
# The signature in the query of a URL lets anybody read the document.
_SIGNED = re.compile(r"(https?://[^\s?#\"']+)[?#][^\s\"']*")
_THING = (
    r"(?:知识库?|文档|文件|文章|页面|应用|回调地址|document|knowledge(?:[ _-]?base)?|file|page|application)"
)
NOT_FOUND = re.compile(
    rf"{_THING}[^,，。;；:：]{{0,40}}(?:不存在|未找到|找不到|已(?:被)?删除|not[ _-]?found|(?:not|n't) exist)|"
    rf"(?:未找到|找不到|没有找到|no such|unknown)\s?(?:该|此|这个|指定的?|对应的?)?{_THING}",
    re.IGNORECASE,
)
"""Of a document or a base, and of no parameter or resource that a request may be short of."""
_NAME_TAKEN = re.compile(
    r"已存在|已经存在|重名|同名|重复|duplicate|already (?:exists?|used|taken)|\bexist(?:s|ed|ing)?\b",
    re.IGNORECASE,
)
_ONE_THING = re.compile(
    r"损坏|加密|解析|格式|类型|大小|过大|单个文件|单文件|内容为空|名称|文件名|长度|页数|参数|范围|"
    r"corrupt|damaged|encrypt|pars(?:e|ing)|format|too (?:large|big|long)|\bsize\b|unsupported|\bname\b|"
    r"length|\bpages?\b|parameter|range",
    re.IGNORECASE,
)
MONEY = re.compile(r"余额|欠费|充值|资源包|arrears|recharge|balance", re.IGNORECASE)
SURELY_FULL = re.compile(
    r"空间(?:已)?(?:不足|满|用尽)|剩余空间|余额|欠费|充值|资源包|"
    r"no (?:space|storage) left|arrears|recharge|"
    r"(?:insufficient|not enough|out of) (?:space|storage|balance|quota)",
    re.IGNORECASE,
)
_FULL = re.compile(
    r"空间|容量|超出|已满|上限|配额|额度|quota|capacity|\bfull\b|storage|balance|insufficient",
    re.IGNORECASE,
)
BUSY = re.compile(
    r"繁忙|稍后|频繁|限流|并发|\bbusy\b|try again|rate limit|too many requests|temporarily", re.IGNORECASE
)
WRONG_TYPE = re.compile(
    r"不支持|文件类型|文档类型|unsupported|not supported|file type|document type", re.IGNORECASE
)

_VOCABULARY = (NOT_FOUND, _NAME_TAKEN, _ONE_THING, SURELY_FULL, _FULL, BUSY, WRONG_TYPE)
_OPEN, _CLOSE = r"\"'“‘《「『【(（\[", r"\"'”’》」』】)）\]"
_APART = rf"\s，。；：、！？,;:!?<>|/\\{_OPEN}{_CLOSE}"
_END = rf"\.(?:{'|'.join(sorted(EXTENSIONS))})(?![a-z0-9])"
_FILE = re.compile(
    rf"[{_OPEN}][^{_OPEN}{_CLOSE}]*{_END}[{_CLOSE}]|(?<![^{_APART}])[^{_APART}]*{_END}", re.IGNORECASE
)
"""What looks like a file that can be sent. Other endings are none: `余额0.00元`, `余额不足.Please pay`."""


def quoted(text: str) -> str:
    """The vendor's own words, fit to be shown: one line, not endless, without the signatures of URLs."""
    return printable(unsigned(text.strip()))[:_LONGEST]


def unsigned(text: str) -> str:
    """`text` with the queries of its URLs left out."""
    return _SIGNED.sub(r"\1", text)


def without_names(text: str, *names: str) -> str:
    """`text` without the names of documents, which may say anything: `names`, and what looks like a file."""
    for name in sorted(filter(None, names), key=len, reverse=True):
        if extension_of(name):
            text = text.replace(name, " ")
        stem = name.rpartition(".")[0] or name
        # A name that speaks of something misleads, unless it is a word of the vendor's own, such as 余额.
        speaks = any(one.search(stem) for one in _VOCABULARY)
        if speaks and not any(one.fullmatch(stem) for one in _VOCABULARY):
            text = text.replace(stem, " ")
    return _FILE.sub(" ", text)


def says_name_taken(text: str) -> bool:
    """The base has a document of this name already."""
    return bool(_NAME_TAKEN.search(text)) and not NOT_FOUND.search(text)


def says_full(text: str) -> bool:
    """Of a document: the account is out of space or money. One file's size, name or damage is not that."""
    return bool(SURELY_FULL.search(text)) or bool(_FULL.search(text) and not _ONE_THING.search(text))


class NoRoom(Halted):
    """The vendor speaks of too little room, and may mean one document: the capacity is asked first.

    `said`: its own words, without advice.
    """

    def __init__(self, said: str, *, code: str = "") -> None:
        super().__init__("quota", f"{said}; {SPACE_ADVICE}", code=code)
        self.said = said


class NotFound(Rejected):
    """The vendor knows no such document or base. Means "gone" only where the base itself still answers."""


def is_gone(error: TargetError) -> bool:
    """The vendor has no such thing; true only while the base itself answers (`ZhipuApi.base`, promise 1)."""
    return isinstance(error, NotFound) or (isinstance(error, NotOffered) and error.code == "404")


def judge(answer: HttpAnswer, envelope: Envelope | None) -> TargetError | None:
    """None where the body says success and the HTTP status agrees, else the error.

    A 2xx without a usable body is of unknown outcome; 429 is a rate limit or an empty account, which only
    the body says.
    """
    if envelope is None or not (envelope.code or envelope.failed):
        return _without_code(answer, envelope.message if envelope is not None else "")
    if envelope.is_success:  # both have to say so: a gateway may wrap an old body in its own status
        return None if answer.is_success else _by_status(answer)
    meaning = _meaning(answer, envelope)
    if meaning is None and not answer.is_success:
        return _by_status(answer)
    # an unknown code is a failure all the same (promise 10)
    meaning = meaning or (Blame.REQUEST, "the vendor refused the request")
    return _error(answer, envelope, meaning)


def _by_status(answer: HttpAnswer) -> TargetError | None:
    return by_status(answer, of_item=answer.op in _OF_ONE_DOCUMENT)


def _without_code(answer: HttpAnswer, message: str) -> TargetError | None:
    """No code: the HTTP status decides, and 2xx proves nothing."""
    status, text = str(answer.status), without_names(message)
    # Statuses of this vendor's own: no right to the API, and a file over 100 MB.
    if status in ("434", "435"):
        return _error(answer, Envelope(status, message), CODES[status])
    if answer.status >= 400 and SURELY_FULL.search(text):
        return _error(answer, Envelope(status, message), _limit(text))
    if answer.is_success:
        return Unsure(f"{answer.op}: the vendor's answer does not say whether it was done", code="no-code")
    return _by_status(answer)


def _limit(text: str) -> Meaning:
    return (Blame.MONEY if MONEY.search(text) else Blame.SPACE), "the account is at its limit"


def _meaning(answer: HttpAnswer, envelope: Envelope) -> Meaning | None:
    """The table's row, or what the words say under codes that say little; None: nothing is known."""
    known = CODES.get(envelope.code)
    if known is not None and envelope.code not in VAGUE:
        return known
    is_upload = answer.op in (ZhipuCall.UPLOAD, ZhipuCall.UPLOAD_URL)
    if is_upload and (envelope.code == "500" or answer.status >= 500):
        return CODES["500"]  # whatever it says, the document may have been stored
    text = without_names(envelope.message)
    # A missing document answers 404, or 400 for the id that was sent; 500 is trouble at the vendor.
    # Under another code these words would have a document called deleted that stays (promise 10).
    is_of_the_id = envelope.code == "400" and answer.status not in _ABOUT_THE_CALLER
    if is_of_the_id and NOT_FOUND.search(text):
        return CODES["404"]
    if SURELY_FULL.search(text) or (answer.op == ZhipuCall.UPLOAD and says_full(text)):
        return _limit(text)
    if BUSY.search(text):
        return Blame.LATER, "the vendor is busy"
    # Where the two differ, the HTTP status says more than a vague code.
    if known is not None and (answer.is_success or envelope.code == str(answer.status)):
        return known
    blame = KINDS.get(envelope.kind)
    return (blame, "the vendor refused the request") if blame is not None else None


def _error(answer: HttpAnswer, envelope: Envelope, meaning: Meaning) -> TargetError:
    """The error that a meaning is for the call, in our sentence and the vendor's own words."""
    blame, sentence = meaning
    code = envelope.code
    named = f"code {code}" if code else envelope.kind
    inside = ": ".join(part for part in (named, quoted(envelope.message)) if part)
    reason = f"{sentence} ({inside})" if inside else sentence
    advice = KEY_ADVICE if code in KEY_CODES else ACCOUNT_ADVICE
    calls_a_person = Halted("credentials", f"{reason}; {advice}", code=code)
    match blame:
        case Blame.OUTCOME:
            return Unsure(reason, code=code)
        case Blame.LATER:
            return Unavailable(reason, code=code, retry_after=answer.retry_after)
        case Blame.CREDENTIALS:
            return calls_a_person
        case Blame.FORBIDDEN if answer.op in _OF_ONE_DOCUMENT:
            return Rejected(reason, code=code, may_pass=True)  # it is not said of the key
        case Blame.FORBIDDEN:
            return NotOffered(reason, code=code) if answer.op in OPTIONAL else calls_a_person
        case Blame.MONEY:
            return Halted("quota", f"{reason}; {MONEY_ADVICE}", code=code)
        case Blame.SPACE:
            return NoRoom(reason, code=code)
        case Blame.MISSING:
            return NotFound(reason, code=code)
        case Blame.ROUTE if answer.op in OPTIONAL or code != "1220":
            return NotOffered(reason, code=code)
        case Blame.ROUTE:  # a call that is needed is forbidden
            return calls_a_person
        case Blame.REQUEST:
            is_taken = answer.op == ZhipuCall.UPLOAD and says_name_taken(without_names(envelope.message))
            return (NameTaken if is_taken else Rejected)(reason, code=code)
