"""Classifies the service's codes and messages; no other module interprets them.

Source: the service's page of error codes, the knowledge API's manual, and responses seen in production. A
code may be a string or a number, flat or inside `error`, under HTTP 200 or not. Messages are usually Chinese,
sometimes English. One code may have different causes (10001 is a full space in the manual and a damaged
document in production), so the message decides if a code is vague. Document names in messages could mislead
the rules: `without_names` removes them first.
"""

from __future__ import annotations

import re
from functools import partial

from kbsync.core.text import extension_of
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http import rules
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.rules import ErrorCase, ErrorRule, case_of, classify
from kbsync.targets.services import bigmodel

KEY_ADVICE = "set a valid api_key (or api_key_file) in the config"
ACCOUNT_ADVICE = "check the account and its permissions in the service's console"
MONEY_ADVICE = "top up the account or renew its plan in the service's console"
SPACE_ADVICE = "delete documents or get more space in the service's console"

_AT_ITS_LIMIT = "the account has reached its limit"


# The service's current pages no longer mention applications and callbacks; some installations lack the
# others.
_OPTIONAL = (
    "invoke sse-invoke slice-info chat models upload-url reembed reslice capacity retrieve images "
    "applications application create-application edit-application delete-application "
    "callback set-callback delete-callback"
)
OPTIONAL = frozenset(_OPTIONAL.split())
"""Calls that some installations of the service lack and that kbsync can do without."""

_OF_ONE_DOCUMENT = {"upload", "upload-url", "detail", "delete", "reembed", "reslice", "images"}
"""Calls for which a 403 may concern only one document, not the key."""

_OF_ONE_APPLICATION = {"application", "edit-application", "delete-application", "invoke", "sse-invoke"}


_CODES = {
    "the request is invalid": "400",
    "the service rejected the API key": "401 1000 1002 1004",
    "access is forbidden": "403",
    "the service has no such document or knowledge base": "404",
    "the service doesn't support this call": "405 501 1221 1222",
    "the request timed out": "408",
    "the file is too large for the service": "413",
    "too many requests": "429 1303 1305",
    "this account has no access to the knowledge API": "434",
    "the file is over the service's limit of 100 MB": "435",
    "the service had an internal error": "500 1200 1230",
    "the service's gateway received no response": "502 504",
    "the service is unavailable": "503",
    "the request has no API key": "1001",
    "the API key or its token has expired": "1003",
    "the account has neither read nor write access": "1100",
    "the account is inactive": "1110",
    "the account doesn't exist": "1111",
    "the account is locked": "1112",
    "the account is out of credit": "1113",
    "the account is temporarily unavailable": "1120",
    "the account is locked for violating the service's rules": "1121",
    "a parameter is wrong": "1210 1214",
    "the service has no such model": "1211",
    "the model doesn't support this call": "1212",
    "a parameter is missing": "1213",
    "two parameters contradict each other": "1215",
    "this account has no access to this API": "1220",
    "a request with this id is already in progress": "1231",
    "the service's network failed": "1234",
    "the text is too long for the service": "1261",
    "the service's policy blocks this content": "1300",
    "the service considers this content unsafe": "1301",
    "too many concurrent requests from this account": "1302",
    "the daily quota is used up": "1304",
    "the quota for this period is used up": "1308",
    "the account's plan has expired": "1309",
    "the weekly quota is used up": "1310",
    "the account's plan doesn't cover this request": "1311",
    "the model is overloaded": "1312",
    "the service's fair use policy limits this account": "1313",
}
SENTENCES = {code: sentence for sentence, codes in _CODES.items() for code in codes.split()}
"""The message for each known code. It precedes the service's own message."""

_NO_APPLICATION = "the service has no such application or knowledge base"

_THING = (
    r"(?:知识库?|文档|文件|文章|页面|应用|回调地址|document|knowledge(?:[ _-]?base)?|file|page|application)"
)
NOT_FOUND = re.compile(
    rf"{_THING}[^,，。;；:：]{{0,40}}(?:不存在|未找到|找不到|已(?:被)?删除|not[ _-]?found|(?:not|n't) exist)|"
    rf"(?:未找到|找不到|没有找到|no such|unknown)\s?(?:该|此|这个|指定的?|对应的?)?{_THING}",
    re.IGNORECASE,
)
"""Matches messages about a missing document or base, but not about a missing parameter or resource of the
request.
"""
_NAME_TAKEN = re.compile(
    r"已存在|已经存在|重名|同名|重复|duplicate|already (?:exists?|used|taken)|\bexist(?:s|ed|ing)?\b",
    re.IGNORECASE,
)
_NOT_FULL = re.compile(
    r"损坏|加密|解析|格式|类型|大小|过大|单个文件|单文件|内容为空|名称|文件名|长度|页数|参数|范围|"
    r"corrupt|damaged|encrypt|pars(?:e|ing)|format|too (?:large|big|long)|\bsize\b|unsupported|\bname\b|"
    rf"length|\bpages?\b|parameter|range|{rules.PERMISSION.pattern}",
    re.IGNORECASE,
)
SURELY_FULL = re.compile(
    r"空间(?:已)?(?:不足|满|用尽)|剩余空间|"
    r"no (?:space|storage) left|(?:insufficient|not enough|out of) (?:space|storage|quota)",
    re.IGNORECASE,
)
_FULL = re.compile(
    r"空间|容量|超出|已满|上限|配额|额度|quota|capacity|\bfull\b|storage|balance|insufficient", re.IGNORECASE
)
WRONG_TYPE = re.compile(
    r"不支持|文件类型|文档类型|unsupported|not supported|file type|document type", re.IGNORECASE
)

_PATTERNS = (rules.MONEY, rules.BUSY, NOT_FOUND, _NAME_TAKEN, _NOT_FULL, SURELY_FULL, _FULL, WRONG_TYPE)
_VOCABULARY = re.compile("|".join(one.pattern for one in _PATTERNS), re.IGNORECASE)
"""All the words that the rules look for."""


def without_names(text: str, *names: str) -> str:
    """Return `text` without `names` and without anything that looks like a file name.

    Names may contain any words.
    """
    for name in sorted(filter(None, names), key=len, reverse=True):
        if extension_of(name):
            text = text.replace(name, " ")
        stem = name.rpartition(".")[0] or name
        # Don't remove a name that is one of the service's own words, such as 余额.
        if _VOCABULARY.search(stem) and not _VOCABULARY.fullmatch(stem):
            text = text.replace(stem, " ")
    return rules.without_files(text)


class NoRoom(Halted):
    """The service reports a lack of space, but may mean only this document. Check the capacity first."""


class NotFound(Rejected):
    """The service has no such document or base.

    This proves that it is missing only while the base itself still responds.
    """


def is_gone(error: TargetError) -> bool:
    """Return whether the service says "not found", which is believed only while the base itself responds
    (promise 1).
    """
    return isinstance(error, NotFound) or (isinstance(error, NotOffered) and error.code == "404")


UPLOADS = frozenset({"upload", "upload-url"})
FAILED_INFOS = "failedInfos"
RECEIPT, INDEXED = "receipt", "indexed"
"""Values of `call`: where the service's message about a failure was found.

`RECEIPT`: with a file in the response to an upload. `INDEXED`: with a document that the service failed to
index.
"""

_OPEN = frozenset({"502", "503", "504", "1200", "1230", "1231", "1234", "api_error"})
_OF_THE_REQUEST = bigmodel.BAD_REQUEST | {"413", "435"}
_FORBIDDEN, _NO_ACCESS = frozenset({"403", "permission_error"}), frozenset({"1220"})
_NOT_FOUND = frozenset({"404", "not_found_error"})
_NO_CALL = frozenset({"405", "501", "1221", "1222"})
# A missing permission doesn't blame the key for calls that concern one document, or that aren't required.
_NEEDS_NO_RIGHTS = (_OF_ONE_DOCUMENT | OPTIONAL | {RECEIPT, INDEXED}) - UPLOADS

_ABOUT_THE_CALLER = frozenset({401, 403, 407, 429})
"""HTTP statuses under which "does not exist" refers to a key or an account."""


def _agrees(case: ErrorCase) -> bool:
    """Return whether the code fits the HTTP status, which is more reliable than a vague code."""
    return case.is_success or case.code == str(case.status)


_no_money = partial(rules.no_money, says=_AT_ITS_LIMIT, hint=MONEY_ADVICE)
_no_room = partial(ErrorRule, NoRoom, halt="quota", says=_AT_ITS_LIMIT, hint=SPACE_ADVICE)
_no_rights = partial(rules.no_access, hint=ACCOUNT_ADVICE)
# The manual doesn't document equal names; this message would mean them.
_name_taken = partial(ErrorRule, NameTaken, pattern=_NAME_TAKEN, unless=NOT_FOUND)

RULES: tuple[ErrorRule, ...] = (
    # Both must report success: a gateway may send an old body with its own status (promise 10).
    ErrorRule(None, status=rules.SUCCESS, code={"200"}, reported=False),
    # According to the manual, every response has a code (promise 10).
    ErrorRule(
        Unsure,
        status=rules.SUCCESS,
        reported=False,
        when=lambda case: case.is_json,
        says="the service's response doesn't say whether the request succeeded",
        as_code="no-code",
    ),
    # A web page or an empty body under 200 comes from a proxy, or is a truncated response.
    ErrorRule(Unsure, status=rules.SUCCESS, reported=False, as_code="no-code"),
    # Text that isn't JSON comes from a gateway. The service's own response for a missing base or document is
    # undocumented, so any other may be that.
    ErrorRule(
        Unavailable,
        call={"base", "detail", "delete"},
        status={404, 405},
        when=lambda case: not case.is_json and case.excerpt != "",
    ),
    # -- codes with one meaning
    # Page of error codes: the key.
    rules.no_access(code=bigmodel.BAD_KEY | {"401", "authentication_error"}, hint=KEY_ADVICE),
    # Page of error codes: the account.
    _no_rights(code=bigmodel.BAD_ACCOUNT | {"434"}),
    # Page of error codes: money and plans.
    rules.no_quota(code=bigmodel.NO_MONEY, hint=MONEY_ADVICE),
    # Seen in production: an empty account under 429, like a rate limit.
    _no_money(code=bigmodel.RATE_LIMIT | {"408", "429", "1120", "rate_limit_error"}),
    # Page of error codes: rate limits.
    rules.slow_down(code=bigmodel.RATE_LIMIT | {"rate_limit_error", "overloaded_error"}),
    # Page of error codes: unreachable services and timeouts.
    ErrorRule(Unavailable, code={"408", "1120"}),
    # Page of error codes: failures during processing.
    ErrorRule(Unsure, code=_OPEN),
    # For a wrong parameter the message is more precise than the code.
    _name_taken(call={"upload"}, code=_OF_THE_REQUEST),
    # Page of error codes: the request is wrong.
    ErrorRule(Rejected, code=_OF_THE_REQUEST),
    # For a call about one document, this doesn't blame the key.
    ErrorRule(Rejected, code=_FORBIDDEN, when=lambda case: case.is_of_document, may_pass=True),
    # kbsync can do without the call.
    ErrorRule(NotOffered, code=_FORBIDDEN | _NO_ACCESS, call=OPTIONAL),
    # The account may not use a required call.
    _no_rights(code=_FORBIDDEN | _NO_ACCESS),
    # The path contains no id, so only the call can be missing.
    ErrorRule(NotOffered, code=_NOT_FOUND, call={"capacity"}),
    # No such document or base.
    ErrorRule(NotFound, code=_NOT_FOUND),
    # The call doesn't exist.
    ErrorRule(NotOffered, code=_NO_CALL),
    # -- vague, unknown and missing codes: the message is more precise
    # Despite such a response, the document may have been stored.
    ErrorRule(
        Unsure, call=UPLOADS, when=lambda case: "500" in case.codes or case.status in rules.SERVER_ERROR
    ),
    # A missing document is a 404, or a 400 for its id; 500 is an internal error. Accepting this message under
    # a different code could make an existing document count as deleted (promise 10).
    ErrorRule(
        NotFound,
        code={"400"},
        pattern=NOT_FOUND,
        when=lambda case: case.status not in _ABOUT_THE_CALLER,
        says=SENTENCES["404"],
    ),
    # The words for an empty account are unmistakable.
    _no_money(),
    # Messages about rate limits also say "exceeded" (超出), so this rule comes before the one about space.
    rules.slow_down(pattern=rules.BUSY, says="the service is busy"),
    # A lack of space, in unmistakable words.
    _no_room(pattern=SURELY_FULL),
    # The key lacks rights, in the service's own body: "insufficient" may also be about space, and a firewall
    # may refuse a single document.
    _no_rights(
        pattern=rules.PERMISSION,
        reported=True,
        when=lambda case: case.call not in _NEEDS_NO_RIGHTS and "500" not in case.codes,
        says="access is forbidden",
    ),
    # The account's limit is exceeded. The size, name or damage of one file is a different error, and so is a
    # call that isn't about a document.
    _no_room(call={"upload", RECEIPT, INDEXED}, pattern=_FULL, unless=_NOT_FULL),
    # Manual, 3.2.7: 10002 is a full knowledge base; 10001 was seen with a damaged document.
    _no_room(call={INDEXED}, code={"10002"}),
    # The manual's example of a reason (3.2.2).
    ErrorRule(Rejected, call={RECEIPT}, pattern=WRONG_TYPE, says="the service doesn't accept this format"),
    # Next to a file in the response to its upload, or with a vague or unknown code.
    _name_taken(
        call={"upload", RECEIPT}, when=_agrees, says="the service already has a document with this name"
    ),
    # A wrong parameter, according to the manual.
    ErrorRule(Rejected, code={"400"}, when=_agrees),
    # RFC 6585.
    rules.slow_down(code={"429"}, when=_agrees),
    # An internal error.
    ErrorRule(Unsure, code={"500"}, when=_agrees),
    # -- a failure too, as its body says under 200 (promise 10)
    # An unknown code also counts as a failure (promise 10).
    ErrorRule(Rejected, status=rules.SUCCESS),
)
"""The service's rules, in order; the common rules, which check the HTTP status, come after them."""


def classify_response(response: HttpResponse) -> TargetError | None:
    """Return None if the body and the HTTP status both report success, otherwise the error.

    This reads flat (`code`, `message`) and gateway (`error: {code, message, type}`) bodies. `error` takes
    precedence.
    """
    body = response.fields
    error = body.object("error")
    source = error or body
    code = source.id("code") or ""
    message = source.text("message") or source.text("msg")
    if not (code or error) and str(response.status) in ("434", "435"):
        code = str(response.status)  # HTTP statuses that only this service uses
    case = case_of(
        response,
        # Other products at this host report the kind of error instead of a code: authentication_error.
        codes={code or error.text("type")} - {""},
        code=code,
        message=message,
        matched_text=without_names(message),
        is_error=bool(error) or code not in ("", "200"),
        is_of_document=response.op in _OF_ONE_DOCUMENT,
    )
    return classify(case, RULES, _describe)


def _describe(case: ErrorCase, rule: ErrorRule) -> str:
    """Return our message, followed by the service's code and message."""
    if not case.is_error:
        return f"{case.call}: {rule.says}" if rule.says else rules.describe_answer(case, rule)
    sentence = rule.says or SENTENCES.get(case.code, "the service refused the request")
    if sentence == SENTENCES["404"] and case.call in _OF_ONE_APPLICATION:
        sentence = _NO_APPLICATION
    named = f"code {case.code}" if case.code else "".join(case.codes)
    inside = ": ".join(part for part in (named, case.message) if part)
    return f"{sentence} ({inside})" if inside else sentence


def receipt_error(text: str, *names: str) -> TargetError:
    """Return the error for a file that the response to an upload lists as failed, with the free text `text`.

    The words, without the `names` of the document, show whether the account or the document is to blame.
    """
    message = rules.quote_message(text)
    rule = refusal(RECEIPT, message, without_names(text, *names))
    reason = f"{rule.says or 'the service refused the document'} ({message or 'no reason given'})"
    error = rule.error(ErrorCase(RECEIPT, code=FAILED_INFOS, message=message), reason)
    assert error is not None
    return error


def refusal(call: str, text: str, words: str, code: str = "") -> ErrorRule:
    """Return the rule for a message from the service about a single document.

    `call`: `RECEIPT` or `INDEXED`.
    """
    codes = frozenset({code} - {""})
    case = ErrorCase(call, codes=codes, code=code, message=text, matched_text=words, is_error=True)
    return rules.first_rule(case, RULES) or RULES[-1]
