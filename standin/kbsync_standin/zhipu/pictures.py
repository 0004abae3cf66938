"""POST /document/slice/image_list/{id}: the images of a document, and what their addresses give.

The vendor puts placeholders in place of images. Here a document has an image for each placeholder that stands
in its text already.
"""

from __future__ import annotations

import re

from kbsync_standin.messages import Response
from kbsync_standin.zhipu.answers import Json
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.documents import Document
from kbsync_standin.zhipu.searching import passages_of

PLACEHOLDER = re.compile("【示意图序号_[0-9_]+】")
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000b49444154789c6360000200000500017a5eab3f0000000049454e44ae426082"
)
_MALFORMED: list[object] = [
    None,
    "image",
    {"text": 7, "cos_url": "https://cdn.example/"},
    {"text": "【示意图序号_1】"},
    [],
]


def images(call: Call) -> Json | None:
    """Each image of the document with a signed address of its own."""
    document = call.known_document(call.ident)
    match call.play.word("form", "none") if call.play.kind == "pictures" else "":
        case "null":
            return None
        case "missing":
            return {}
        case "none":
            return {"images": []}
        case "others":
            return {"images": [_image("【示意图序号_999_9】", document, 0, call)]}
        case "malformed":
            return {"images": [*_MALFORMED, *_MALFORMED]}
    return {"images": images_of(document, call)}


def images_of(document: Document, call: Call) -> list[Json]:
    """The images behind the placeholders in its text."""
    text = "\n".join(passage.text for passage in passages_of(document))
    found = dict.fromkeys(PLACEHOLDER.findall(text))
    return [_image(placeholder, document, number, call) for number, placeholder in enumerate(found)]


def _image(placeholder: str, document: Document, number: int, call: Call) -> Json:
    url = call.signer.url(call.origin, f"{document.id}.{number}.png", call.now)
    return {"text": placeholder, "cos_url": url}


def is_picture(ident: str) -> bool:
    """`ident` of an address is that of an image."""
    return ident.endswith(".png")


def picture() -> Response:
    """One pixel."""
    return Response(200, PIXEL, {"content-type": "image/png"})
