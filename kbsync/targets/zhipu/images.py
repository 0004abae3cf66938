"""The pictures in passages: placeholders in the text, and where the vendor keeps what they stand for.

Source: the vendor's manual of the knowledge API, 3.2.9: `POST /document/slice/image_list/{id}`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kbsync.contract.searching import Hit, Image, Passage
from kbsync.errors import NotOffered, Unavailable
from kbsync.targets.http.lacking import Lacking
from kbsync.targets.zhipu.api import Api
from kbsync.targets.zhipu.codes import Op
from kbsync.targets.zhipu.each import Answers, ask_each
from kbsync.targets.zhipu.wire import Images

PATIENCE = 5.0
"""Seconds that all questions of one search about pictures may take together."""

MOST_DOCUMENTS = 20
"""So many are asked about, the best ones: as many as there are passages in an answer."""

_PLACEHOLDER = re.compile("【示意图序号_[^【】]{1,100}】")


class Illustrating:
    """Asks for the pictures of one knowledge base, `at_once` documents at a time.

    `lacking` remembers that there is no such call.
    """

    def __init__(self, api: Api, lacking: Lacking, at_once: int) -> None:
        self._api, self._lacking, self._at_once = api, lacking, at_once

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """The hits in their order; a failure or a slow answer costs pictures and nothing else."""
        ids = dict.fromkeys(hit.remote_id for hit in hits if any(map(_lacks_images, hit.passages)))
        found = await self._found(list(ids)[:MOST_DOCUMENTS])
        return [with_images(hit, found.get(hit.remote_id, {})) for hit in hits]

    async def _found(self, ids: Iterable[str]) -> Mapping[str, Images]:
        if self._lacking.lacks(Op.IMAGES):
            return {}
        deadline = asyncio.get_running_loop().time() + PATIENCE

        async def in_time(remote_id: str) -> Images:
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._api.images(remote_id)
            except TimeoutError as error:
                raise Unavailable("the pictures did not come in time") from error

        answers = await ask_each(ids, in_time, self._at_once)
        self._learn(answers)
        return answers.given

    def _learn(self, answers: Answers[Images]) -> None:
        """A bare 404 may be about the one document; about all of several it is not."""
        missing = [error for error in answers.refused.values() if isinstance(error, NotOffered)]
        is_of_all = len(missing) == len(answers.refused) > 1 and not answers.given
        sure = missing if is_of_all else [error for error in missing if error.code != "404"]
        if sure:
            self._lacking.note(Op.IMAGES, sure[0])


def with_images(hit: Hit, images: Images) -> Hit:
    """The hit with those of the images that its passages name; `images` maps placeholders to addresses."""
    if not images:
        return hit
    return replace(hit, passages=tuple(_illustrated(passage, images) for passage in hit.passages))


def _illustrated(passage: Passage, images: Images) -> Passage:
    named = (Image(one, images[one]) for one in _placeholders(passage.text) if one in images)
    return replace(passage, images=passage.images or tuple(named))


def _lacks_images(passage: Passage) -> bool:
    return not passage.images and _PLACEHOLDER.search(passage.text) is not None


def _placeholders(text: str) -> Iterable[str]:
    """Each once, in the order of the text."""
    return dict.fromkeys(_PLACEHOLDER.findall(text))
