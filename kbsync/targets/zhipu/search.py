"""Asking the vendor's search, with its ranking model where that is wanted, and where there is such a call.

The pictures in passages: placeholders in the text, and where the vendor keeps what they stand for.

Source: the vendor's manual of the knowledge API, 3.2.9: `POST /document/slice/image_list/{id}`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kbsync.contract.searching import Hit, Image, Passage
from kbsync.errors import NotOffered, Rejected, Unavailable
from kbsync.targets.http.limits import MissingCalls
from kbsync.targets.http.target import search_ranked
from kbsync.targets.zhipu.api import EachAnswered, Knowledge, ZhipuApi, ask_each
from kbsync.targets.zhipu.errors import NotFound, ZhipuCall
from kbsync.targets.zhipu.shapes import OVERLOADED, FoundSlice, Images, RetrieveRequest, question_about


class Retrieving:
    """Searches one knowledge base. `lacking` remembers that there is no search."""

    def __init__(self, api: ZhipuApi, knowledge: Knowledge, lacking: MissingCalls) -> None:
        self._api, self._knowledge, self._lacking = api, knowledge, lacking

    async def ranked(self, question: RetrieveRequest) -> Sequence[FoundSlice]:
        """What is found; in the order of the search itself where the ranking model does not give its own."""
        if not question.rerank:
            return await self._found(question)
        without = replace(question, rerank=False)
        return await search_ranked(lambda: self._found(question), lambda: self._found(without), OVERLOADED)

    async def confirms(self, remote_id: str, name: str) -> bool:
        """A search in this one document finds it. Raises `NotOffered` where there is no search."""
        self._lacking.check(ZhipuCall.RETRIEVE)
        try:
            found = await self._api.retrieve(question_about(remote_id, name))
        except NotFound:
            await self._knowledge.look()
            return False
        except NotOffered as error:
            raise await self._no_search(error) from error
        return any(one.doc_id == remote_id for one in found)

    async def _found(self, question: RetrieveRequest) -> Sequence[FoundSlice]:
        self._lacking.check(ZhipuCall.RETRIEVE)
        try:
            return await self._api.retrieve(question)
        except (NotFound, NotOffered) as error:
            raise await self._no_search(error, is_plain=not question.rerank) from error

    async def _no_search(self, error: Rejected, *, is_plain: bool = True) -> NotOffered:
        """Raises `Halted` where it is the base that is missing. Remembered where only the call can be."""
        await self._knowledge.look()
        said = NotOffered(f"this knowledge base offers no search: {error.reason}", code=error.code)
        is_the_call = is_plain and isinstance(error, NotOffered)
        return self._lacking.note(ZhipuCall.RETRIEVE, said) if is_the_call else said


PATIENCE = 5.0
"""Seconds that all questions of one search about pictures may take together."""

MOST_DOCUMENTS = 20
"""So many are asked about, the best ones: as many as there are passages in an answer."""

_PLACEHOLDER = re.compile("【示意图序号_[^【】]{1,100}】")


class Illustrating:
    """Asks for the pictures of one knowledge base, `at_once` documents at a time.

    `lacking` remembers that there is no such call.
    """

    def __init__(self, api: ZhipuApi, lacking: MissingCalls, at_once: int) -> None:
        self._api, self._lacking, self._at_once = api, lacking, at_once

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """The hits in their order; a failure or a slow answer costs pictures and nothing else."""
        ids = dict.fromkeys(hit.remote_id for hit in hits if any(map(_lacks_images, hit.passages)))
        found = await self._found(list(ids)[:MOST_DOCUMENTS])
        return [with_images(hit, found.get(hit.remote_id, {})) for hit in hits]

    async def _found(self, ids: Iterable[str]) -> Mapping[str, Images]:
        if self._lacking.lacks(ZhipuCall.IMAGES):
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

    def _learn(self, answers: EachAnswered[Images]) -> None:
        """A bare 404 may be about the one document; about all of several it is not."""
        missing = [error for error in answers.refused.values() if isinstance(error, NotOffered)]
        is_of_all = len(missing) == len(answers.refused) > 1 and not answers.given
        sure = missing if is_of_all else [error for error in missing if error.code != "404"]
        if sure:
            self._lacking.note(ZhipuCall.IMAGES, sure[0])


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
