"""Classifies responses by how the caller must react: in an ordered list of rules, the first match counts.

Each service has its own table, which comes before the common one here. The order matters: certain rules come
before likely ones, and words before an ambiguous status. Every table checks first for lack of credit, then
for overload, then for lack of space, because services mix these up: a 429 may mean an empty account, and "too
many requests, the limit is exceeded, try again later" isn't about space.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import TypeVar

from kbsync.contract.target import DocState, DocStatus
from kbsync.core.backoff import LIMITED_PAUSE
from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import Fields, text_of

CHAT = "chat"
"""The name of the chat completions call in metrics and messages."""

OF_DOCUMENTS = frozenset({"upload", "attach", "add", "update", "delete"})
"""Calls about documents.

A firewall may refuse one document, whose text looks like an attack, and accept the next one.
"""

GONE = "gone"
"""The error code for a document that doesn't exist or has no content in the base."""

_MAX_MESSAGE_LENGTH = 300
_MAX_SAMPLE = 100  # enough to see what sent it, without the documents in a list
# The signature in a URL's query lets anybody read the document. JSON may have `\/` for `/`.
_SIGNED = re.compile(r"(https?:\\?/\\?/[^\s?\"']+)\?[^\s\"']*")

MONEY = re.compile(
    r"余额|欠费|充值|资源包|额度(?:已)?(?:不足|用尽|用完|耗尽)|"
    r"arrear|\brecharge\b|\btop[ -]?up\b|payment required|"
    r"(?:insufficient|not enough|no|out of|negative)[ _-](?:\w+[ _-])?(?:balance|credits?|funds|quota)\b|"
    r"\b(?:balance|credits?|funds)\b.{0,20}\b(?:insufficient|exhausted|not enough|used up|depleted|overdue)|"
    r"\boverdue (?:balance|payment|bill)|"
    r"exceed(?:ed)?[ _](?:your )?current[ _]quota|exceeded your (?:\w+ ){0,3}credits\b|"
    r"\bcredit (?:limit exceeded|balance is too low)|\bcheck your (?:plan and )?billing\b|"
    r"billing[ _]hard[ _]limit|account is in good standing|\bfree tier\b.{0,30}\bexhausted",
    re.IGNORECASE,
)
"""Matches messages about an account that has run out of credit, regardless of what else they say."""

BUSY = re.compile(
    r"繁忙|稍后|频繁|限流|限速|并发|速率|频率|每\s?(?:分钟|秒|小时)|过载|"
    r"\bbusy\b|\boverload|\btemporarily\b|throttl|slow down|rate[ _-]?limit|too many requests|"
    r"(?:try|retry)(?: \w+)? (?:again )?(?:later|soon|shortly|in \d|after \d)|"
    r"(?:requests?|tokens?) per (?:second|minute|min|hour)|\b(?:qps|rpm|tpm)\b",
    re.IGNORECASE,
)
"""Matches error messages for temporary failures, where retrying the same request a little later should
succeed."""

AWAY = re.compile(
    r"\bconnection (?:error|refused|timed out|timeout)\b|\bconnect call failed\b|"
    r"\ball connection attempts failed\b|\b(?:can(?:no|')t|could not|failed to|unable to) connect\b|"
    r"\bname resolution\b|\bname or service not known\b|\bmax retries exceeded\b|"
    r"\bserver unavailable error\b",
    re.IGNORECASE,
)
"""Matches messages about a failed document when the service didn't reach its model, for instance during a
restart.
"""

RETRY_TIME = re.compile(r"(?:retry|try again) in [0-9]|[0-9] ?秒后", re.IGNORECASE)
"""Matches messages that say when to retry. Such a limit ends by itself, even if the message also contains
words for an empty account (Gemini).
"""

FULL = re.compile(
    r"(?:空间|容量|存储)(?:已)?(?:不足|满|用尽|用完)|剩余空间|配额(?:已)?(?:不足|满|用尽|用完)|"
    r"(?:no|insufficient|not enough|out of) (?:\w+ )?(?:space|storage|capacity)\b|"
    r"(?:storage|disk|space|knowledge base) is full|"
    r"\bquota\b.{0,30}\b(?:exceeded|exhausted|used up|reached)|"
    r"\bexceed(?:s|ed|ing)?\b.{0,40}\b(?:storage|quota)\b",
    re.IGNORECASE,
)
"""Matches messages saying that no space is left, in words that can't refer to a single document."""

ONE_DOCUMENT = re.compile(
    r"file size|\btoo (?:large|big|long)\b|(?:per|one|each|single) (?:file|document)|\btokens?\b",
    re.IGNORECASE,
)
"""Matches messages about the limits of a single document, which resemble those about the whole base."""

PERMISSION = re.compile(
    r"(?:insufficient|missing|lacks?|no|n.t have|without) (?:\w+ ){0,2}"
    r"(?:permissions?|scopes?|rights?(?! now))\b|"
    r"permission denied|access denied|not (?:permitted|authorized|authorised)|无权|没有权限|权限不足",
    re.IGNORECASE,
)
"""Matches messages saying that the key lacks a permission."""

MODEL = re.compile(
    r"\berror code: 401\b|"
    r"\b(?:invalid|incorrect|wrong|expired|missing)[ _](?:\w{1,20}[ _]){0,2}(?:api[ _-]?key|credentials)\b|"
    r"\bapi[ _-]?key\b.{0,30}\b(?:invalid|incorrect|expired|not valid|missing)\b|"
    r"\bmodel\b.{0,80}\b(?:not authorized|not found, try pulling|credentials is not initialized)|"
    r"\bnot allowed to generate embeddings\b|\bmodel_not_found\b|"
    r"api[ _-]?key.{0,10}(?:无效|错误|过期)|无效的 ?api|令牌已过期|身份验证失败|鉴权失败",
    re.IGNORECASE,
)
"""Matches messages about a failed document that blame the model of the service that indexes: its key is
refused, or the model doesn't exist.
"""

ACCOUNT = re.compile(f"{MONEY.pattern}|{BUSY.pattern}|{FULL.pattern}", re.IGNORECASE)
"""Words that the common rules look for in every refusal; a service's status rules must not match them."""

MODEL_HINT = "correct the model or its API key in the service"
MONEY_HINT = "check the account's balance and plan in the service's console"
NO_BASE_HINT = "this api_key has no such knowledge base; correct its id or base_url in the config"
FULL_HINT = "delete documents on the service, or get more space"
KEY_HINT = "check the API key"
NO_CALL_HINT = "the service doesn't support this call, or base_url is wrong"

_ENDINGS = (
    "c cpp cs css csv desktop doc docx eml epub htm html java js json jsonl log markdown md mdx msg odt pdf "
    "php ppt pptx properties py rb rst rtf sh sql svg tex toml ts tsv txt url vtt webloc xls xlsx xml yaml "
    "yml zip"
)
ENDINGS = frozenset(_ENDINGS.split())
"""The extensions that show that a word in a message is a file name, unlike the text after the dot in
`余额0.00元` or `Insufficient balance.Please pay`."""

_EMPTY_BODIES = ("", "{}", "[]", "null")

SUCCESS, REDIRECT, SERVER_ERROR = range(200, 300), range(300, 400), range(500, 1000)

_OPEN, _CLOSE = r"\"'“‘《「『【(（\[", r"\"'”’》」』】)）\]"
_APART = rf"\s，。；：、！？,;:!?<>|/\\{_OPEN}{_CLOSE}"


_END = rf"\.(?:{'|'.join(sorted(ENDINGS))})(?![a-z0-9])"
_FILES = re.compile(
    rf"[{_OPEN}][^{_OPEN}{_CLOSE}]*{_END}[{_CLOSE}]|(?<![^{_APART}])[^{_APART}]*{_END}", re.IGNORECASE
)
"""Matches text that looks like a file name, quoted or not."""


def without_files(text: str) -> str:
    """Return `text` without the names of documents, which may contain any words.

    For example, `余额.xlsx` doesn't mean that the account is empty.
    """
    return _FILES.sub(" ", text)


def strip_signatures(text: str) -> str:
    """Return `text` without the query strings of its URLs."""
    return _SIGNED.sub(r"\1", text)


def quote_message(text: str) -> str:
    """Return a service's message in a form that is safe to show: on one line, truncated, and without the
    signatures in URLs.
    """
    return printable(" ".join(strip_signatures(text).split()))[:_MAX_MESSAGE_LENGTH]


V = TypeVar("V")


def require_parsed(response: HttpResponse, value: V | None) -> V:
    """Return `value`, which was parsed from `response`.

    Raises `Unavailable` if it is None. The message says which host sent what instead, in case `base_url`
    leads to something else.
    """
    if value is None:
        answer = quote_message(response.excerpt)[:_MAX_SAMPLE] or "an empty body"
        what = f"{response.op}: {response.host} answered {response.status} with an unexpected shape"
        raise Unavailable(f"{what}: {answer}", code="shape")
    return value


@dataclass(frozen=True, slots=True)
class ErrorCase:
    """A response in the form that rules check.

    `status`: the HTTP status. `codes`: every error code and kind in the body, as text; `code`: the one to
    quote in messages. `message`: the service's message, safe to show; `matched_text`: the same without names
    of documents, for patterns. `is_error`: the body reports an error, regardless of the status.
    `is_of_document`: the call is about one document, which a 403 then blames. `excerpt`: the beginning of the
    body, or the target of a redirect.
    """

    call: str
    status: int = 200
    codes: frozenset[str] = frozenset()
    code: str = ""
    message: str = ""
    matched_text: str = ""
    is_error: bool = False
    is_of_document: bool = True
    is_json: bool = True
    is_page: bool = False
    host: str = "the target"
    excerpt: str = ""
    retry_after: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the HTTP status is a success."""
        return self.status in SUCCESS

    def gives_no_reason(self, known_codes: Collection[str] | None) -> bool:
        """Return whether the response has no message and none of the `known_codes`.

        In that case, the next request may succeed. A web page, such as a gateway's, doesn't count as a
        reason.
        """
        if self.message:
            return False
        if self.codes:
            return self.is_page or self.codes.isdisjoint(known_codes or ())
        return self.is_page or self.excerpt in _EMPTY_BODIES


def message_in(body: Fields) -> str:
    """Return the message in a response's body, from the fields that most services use."""
    # Spring and RAGFlow put only the name of the HTTP status in `error`, next to the message.
    places = [body.object("error").get("message"), *map(body.get, ("message", "msg", "detail", "error"))]
    return next(filter(None, map(text_of, places)), "")


def case_of(
    response: HttpResponse,
    *,
    codes: Collection[str] = (),
    code: str = "",
    message: str | None = None,
    matched_text: str | None = None,
    is_error: bool = False,
    is_of_document: bool | None = None,
) -> ErrorCase:
    """Return a response in the form that rules check.

    By default, `message` is the one in the usual fields, `matched_text` is `message` without names, and calls
    in `OF_DOCUMENTS` are about a document.
    """
    message = message_in(response.fields) if message is None else message
    excerpt = strip_signatures(response.excerpt)
    if response.status in REDIRECT:
        # Omit the query, which may be secret and doesn't belong in a base_url, and any username and
        # password.
        address = re.split(r"[?#]", response.headers.get("location", ""))[0]
        address = re.sub(r"^([a-zA-Z][a-zA-Z0-9+.-]*:)?//[^/]*@", r"\1//", address)
        excerpt = f"to {address}" if address else "without an address"
    return ErrorCase(
        call=response.op,
        status=response.status,
        codes=frozenset(codes) or frozenset({code} - {""}),
        code=code,
        message=quote_message(message),
        matched_text=without_files(message) if matched_text is None else matched_text,
        is_error=is_error,
        is_of_document=response.op in OF_DOCUMENTS if is_of_document is None else is_of_document,
        is_json=response.body is not None,
        is_page=response.is_page,
        host=response.host,
        excerpt=excerpt,
        retry_after=response.retry_after,
    )


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One row of a table: conditions on a case, and the error that it means if all hold.

    `means`: the error's class; None means success. An omitted condition always holds. `reported`: the
    required `is_error` of the case. The message must match `pattern` and must not match `unless`. `says`: our
    sentence; `hint`: what to do. `as_code`: the error's code; "" uses the service's. `pause`: seconds until
    the next try if the response has no Retry-After. A comment above each row gives its source.
    """

    means: type[TargetError] | None
    call: Container[str] | None = None
    status: Container[int] | None = None
    code: Set[str] | None = None
    reported: bool | None = None
    pattern: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None
    when: Callable[[ErrorCase], bool] | None = None
    halt: str = ""
    says: str = ""
    hint: str = ""
    fix: str = ""
    as_code: str = ""
    may_pass: bool = False
    is_rate_limit: bool = False
    pause: float | None = None

    def fits(self, case: ErrorCase) -> bool:
        """Return whether the case meets all conditions of the rule."""
        return (
            (self.call is None or case.call in self.call)
            and (self.status is None or case.status in self.status)
            and (self.code is None or not self.code.isdisjoint(case.codes))
            and (self.reported is None or self.reported == case.is_error)
            and (self.when is None or self.when(case))
            and (self.pattern is None or self.pattern.search(case.matched_text) is not None)
            and (self.unless is None or self.unless.search(case.matched_text) is None)
        )

    def error(self, case: ErrorCase, reason: str) -> TargetError | None:
        """Return the rule's error for a case: `reason`, followed by the hint."""
        if self.means is None:
            return None
        reason = f"{reason}; {self.hint}" if self.hint else reason
        code = self.as_code or case.code or str(case.status)
        if issubclass(self.means, Halted):
            return self.means(self.halt, reason, fix=self.fix, code=code)
        if issubclass(self.means, Unavailable):
            wait = self.pause if case.retry_after is None else case.retry_after
            return self.means(reason, code=code, retry_after=wait, is_rate_limit=self.is_rate_limit)
        if issubclass(self.means, Rejected):
            # A refusal without a reason doesn't blame the document (promise 9), unless the rule has its own
            # sentence.
            is_open = (
                self.means is Rejected and not (self.says or self.hint) and case.gives_no_reason(self.code)
            )
            return self.means(reason, code=code, may_pass=self.may_pass or is_open)
        error = self.means(reason, code=code)
        error.is_answer = case.status not in OF_GATEWAYS
        return error


no_base = partial(ErrorRule, Halted, halt="knowledge-base-missing", hint=NO_BASE_HINT)
no_quota = partial(ErrorRule, Halted, halt="quota", hint=MONEY_HINT)
no_money = partial(no_quota, pattern=MONEY, unless=RETRY_TIME)
no_room = partial(ErrorRule, Halted, pattern=FULL, unless=ONE_DOCUMENT, halt="quota", hint=FULL_HINT)
no_access = partial(ErrorRule, Halted, halt="credentials", hint=KEY_HINT)
slow_down = partial(ErrorRule, Unavailable, is_rate_limit=True)
"""Create the usual rows of a rule table. Further arguments add conditions or replace the hint."""

OF_GATEWAYS = frozenset((408, 502, 504))
"""HTTP statuses indicating that a target responded too late or not at all."""

_NO_SENTENCES: Mapping[str, str] = {}

Describe = Callable[[ErrorCase, ErrorRule], str]
"""Returns the beginning of a reason: what happened, in our own words and those of the service."""


def describe_answer(case: ErrorCase, rule: ErrorRule, sentences: Mapping[str, str] = _NO_SENTENCES) -> str:
    """Return a message such as `upload: kb.example answered 413: …`.

    `sentences`: the meanings of the service's codes.
    """
    if case.status in REDIRECT:
        return f"{case.call}: {case.host} redirects ({case.status}) {case.excerpt}"
    beginning = f"{case.call}: {case.host} answered {case.status}"
    if case.status in SUCCESS and not case.is_json:
        return f"{beginning} without JSON: {case.excerpt or 'the body is empty'}"
    beginning += f" (code {case.code})" if case.code else ""
    says = rule.says or sentences.get(case.code, "")
    words = case.message or ("" if case.code and says else case.excerpt)
    if words.endswith(".") and not words.endswith(".."):
        words = words[:-1]  # our own words may follow, after a semicolon
    return "; ".join(filter(None, (f"{beginning}: {words}" if words else beginning, says)))


def classify(
    case: ErrorCase, rules: Sequence[ErrorRule] = (), describe: Describe = describe_answer
) -> TargetError | None:
    """Return the error for a case by the first rule that matches, or None on success.

    `rules` and `describe` are those of the service. If none of its rules matches, the HTTP status decides and
    is used as the code.
    """
    matching = first_rule(case, rules)
    if matching is not None:
        return matching.error(case, describe(case, matching))
    rule = first_rule(case, COMMON)
    assert rule is not None
    return rule.error(replace(case, code=""), describe_answer(case, rule))


def first_rule(case: ErrorCase, rules: Sequence[ErrorRule]) -> ErrorRule | None:
    """Return the first rule that matches, or None."""
    return next((rule for rule in rules if rule.fits(case)), None)


def by_status(response: HttpResponse) -> TargetError | None:
    """Classify a response by the common rules, for a service without its own table. A body that is plain text
    is the message. Return None for 2xx with JSON.
    """
    is_text = response.body is None and not response.is_page
    return classify(case_of(response, message=response.text if is_text else None))


def says_money(words: str) -> bool:
    """Return whether the message, perhaps about a failed document, says that the account is out of credit."""
    words = without_files(words)
    return MONEY.search(words) is not None and RETRY_TIME.search(words) is None


READY, INDEXING = DocStatus(DocState.READY), DocStatus(DocState.INDEXING)
MISSING, UNKNOWN = DocStatus(DocState.MISSING), DocStatus(DocState.UNKNOWN)


def failed(words: str, code: str = "failed", *, is_quota: bool = False, is_final: bool = False) -> DocStatus:
    """Return the status of a document that the service failed to index, with its reason.

    `is_quota`: whether the account is to blame, not the document. A reason that mentions money implies this.
    A reason like those of `MODEL` blames the model that the service uses. `is_final`: see `DocStatus`.
    """
    reason, halt = quote_message(words) or "the service gives no reason", ""
    if is_quota or says_money(words):
        halt = "quota"
    elif not is_final and MODEL.search(without_files(words)) is not None:
        reason, halt = f"{reason}; {MODEL_HINT}", "target-rejects"
    is_brief = not halt and any(pattern.search(without_files(words)) for pattern in (BUSY, AWAY))
    pause = LIMITED_PAUSE if is_brief else 0.0
    return DocStatus(DocState.FAILED, reason, code, halt, is_final, pause=pause)


P = TypeVar("P")


async def unless_gone(response: Awaitable[P]) -> P | None:
    """Return the result, or None if the service reports that the document doesn't exist."""
    try:
        return await response
    except Rejected as error:
        if error.code != GONE:
            raise
        return None


COMMON: tuple[ErrorRule, ...] = (
    # A gateway redirects; only a 303 means that the request was carried out.
    ErrorRule(
        Unsure, status=REDIRECT, hint="set base_url to the final URL; if that redirects, too, fix the gateway"
    ),
    # HTTP and the body agree on success.
    ErrorRule(None, status=SUCCESS, when=lambda case: case.is_json and not case.is_error),
    # A web page or an empty body under 200 comes from a proxy, or is a truncated response.
    ErrorRule(Unsure, status=SUCCESS, reported=False),
    # The server doesn't support the method.
    ErrorRule(NotOffered, status={501}, hint="it has no such call"),
    # The server may have done the work before it failed, regardless of the message.
    ErrorRule(Unsure, status=SERVER_ERROR),
    # Words for an empty account are unmistakable, even under 429 or 403 (new-api, SiliconFlow)
    no_money(),
    # Services report a rate limit as exceeded or full, too, so this rule comes before the one about space.
    slow_down(pattern=BUSY),
    # No room for any document.
    no_room(),
    # RFC 9110, 15.5.2. A web page comes from a gateway and says nothing about the key.
    no_access(status={401}, when=lambda case: not case.is_page),
    # See `OF_DOCUMENTS`.
    ErrorRule(Rejected, status={403}, when=lambda case: case.is_of_document, may_pass=True),
    # The message isn't about the key.
    ErrorRule(Unavailable, status={401, 403}, hint="a firewall or gateway may have refused the request"),
    # Payment required (RFC 9110, 15.5.3).
    no_quota(status={402}),
    # The service has no such path or method.
    ErrorRule(NotOffered, status={404, 405}, hint=NO_CALL_HINT),
    # Proxy authentication required (RFC 9110, 15.5.8).
    ErrorRule(Unavailable, status={407}, hint="the proxy requires a username and password"),
    # Too many requests (RFC 6585, 4).
    slow_down(status={429}),
    # The request timed out at the server, or came too early.
    ErrorRule(Unavailable, status={408, 425}),
    # Of the other statuses, only these are about a base's id; the rest concern HTTP itself (RFC 9110, 15.5).
    ErrorRule(Unavailable, call={"base"}, when=lambda case: case.status not in (400, 410, 422)),
    # A gateway gives no reason, either.
    ErrorRule(Unavailable, call={"base"}, when=lambda case: case.gives_no_reason(None)),
    # Content too large (RFC 9110, 15.5.14).
    ErrorRule(Rejected, status={413}, hint="the document is too large"),
    # Any other client error blames this request.
    ErrorRule(Rejected, status=range(400, 500)),
    # An unknown status.
    ErrorRule(Unsure),
)
"""The rules shared by every service; one of them always matches."""


def is_completion(response: HttpResponse) -> bool:
    """Return whether the response is a chat completion.

    A chat completion doesn't need the envelope that the service's other responses have.
    """
    body = response.fields
    return response.is_success and isinstance(body.get("choices"), list) and not body.get("error")
