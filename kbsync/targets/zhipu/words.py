"""What the vendor's sentences speak of, where its numbers do not tell. Pure.

Texts are Chinese as a rule, sometimes English, and one number stands for different causes (10001 is a full
space in the manual and a damaged document in production), so the words decide. The names of documents in
them are nobody's words: `without_names` comes first.
"""

from __future__ import annotations

import re

from kbsync.core.printable import printable
from kbsync.targets.zhipu.formats import EXTENSIONS, extension_of

_LONGEST = 300
_SIGNED = re.compile(r"(https?://[^\s?#\"']+)[?#][^\s\"']*")
_THING = (
    r"(?:知识库?|文档|文件|文章|页面|应用|回调地址|document|knowledge(?:[ _-]?base)?|file|page|application)"
)
_NOT_FOUND = re.compile(
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
_MONEY = re.compile(r"余额|欠费|充值|资源包|arrears|recharge|balance", re.IGNORECASE)
_SURELY_FULL = re.compile(
    r"空间(?:已)?(?:不足|满|用尽)|剩余空间|余额|欠费|充值|资源包|"
    r"no (?:space|storage) left|arrears|recharge|"
    r"(?:insufficient|not enough|out of) (?:space|storage|balance|quota)",
    re.IGNORECASE,
)
_FULL = re.compile(
    r"空间|容量|超出|已满|上限|配额|额度|quota|capacity|\bfull\b|storage|balance|insufficient",
    re.IGNORECASE,
)
_BUSY = re.compile(
    r"繁忙|稍后|频繁|限流|并发|\bbusy\b|try again|rate limit|too many requests|temporarily", re.IGNORECASE
)
_TYPE = re.compile(
    r"不支持|文件类型|文档类型|unsupported|not supported|file type|document type", re.IGNORECASE
)

_VOCABULARY = (_NOT_FOUND, _NAME_TAKEN, _ONE_THING, _SURELY_FULL, _FULL, _BUSY, _TYPE)
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
    """`text` with the queries of its URLs left out: they open a document to whoever has them."""
    return _SIGNED.sub(r"\1", text)


def without_names(text: str, *names: str) -> str:
    """`text` without the names of documents, which may say anything: `names`, and what looks like a file."""
    for name in sorted(filter(None, names), key=len, reverse=True):
        if extension_of(name):
            text = text.replace(name, " ")
        stem = name.rpartition(".")[0] or name
        if _misleads(stem):
            text = text.replace(stem, " ")
    return _FILE.sub(" ", text)


def _misleads(stem: str) -> bool:
    """It speaks of something and is more than a word of the vendor's own, such as 余额."""
    spoken = any(one.search(stem) for one in _VOCABULARY)
    return spoken and not any(one.fullmatch(stem) for one in _VOCABULARY)


def says_not_found(text: str) -> bool:
    """What was asked for does not exist."""
    return bool(_NOT_FOUND.search(text))


def says_name_taken(text: str) -> bool:
    """The base has a document of this name already."""
    return bool(_NAME_TAKEN.search(text)) and not says_not_found(text)


def says_full(text: str) -> bool:
    """Of a document: the account is out of space or money. One file's size, name or damage is not that."""
    return says_surely_full(text) or bool(_FULL.search(text) and not _ONE_THING.search(text))


def says_surely_full(text: str) -> bool:
    """Of whatever was asked: the account is out of space or money."""
    return bool(_SURELY_FULL.search(text))


def says_money(text: str) -> bool:
    """It is about money, which no room for documents helps with."""
    return bool(_MONEY.search(text))


def says_busy(text: str) -> bool:
    """The service has no time now."""
    return bool(_BUSY.search(text))


def says_wrong_type(text: str) -> bool:
    """The format is not taken."""
    return bool(_TYPE.search(text))
