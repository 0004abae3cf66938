"""What each of the vendor's codes means, in a sentence and for what has to be done. Pure.

Source: the vendor's page of error codes, the knowledge API's manual, and bodies seen in production.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

SLOW = frozenset({"429", "1302", "1303", "1305", "1312"})
"""Codes that ask for fewer requests."""

VAGUE = frozenset({"400", "500"})
"""Codes under which the knowledge API reports whatever went wrong: the words tell more."""


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


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the table. `sentence` is what a person reads before the vendor's own words."""

    blame: Blame
    sentence: str


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
    code: Meaning(blame, sentence) for blame, group in _SENTENCES.items() for code, sentence in group.items()
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
