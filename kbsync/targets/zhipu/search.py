"""The vendor's search: with its ranking model where that is wanted, and the pictures that passages name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kbsync.contract.searching import Hit, Image, Passage
from kbsync.errors import NotOffered, Rejected, Unavailable
from kbsync.targets.http.target import search_ranked
from kbsync.targets.zhipu.api import ZhipuApi
from kbsync.targets.zhipu.errors import NotFound, ZhipuCall
from kbsync.targets.zhipu.shapes import FoundSlice, Images, RetrieveRequest, request_about

OVERLOADED = frozenset({"1305", "1312"})
"""Codes of a model that has too much work."""

PICTURES_WITHIN = 5.0
"""Seconds that all questions of one search about pictures may take together."""

MOST_DOCUMENTS = 20
"""So many are asked about, the best ones: as many as there are passages in an answer."""

_PLACEHOLDER = re.compile("【示意图序号_[^【】]{1,100}】")


class Searcher:
    """Searches one knowledge base."""

    def __init__(self, api: ZhipuApi) -> None:
        self._api = api

    async def found(self, request: RetrieveRequest) -> Sequence[FoundSlice]:
        """What is found; in the order of the search itself where the ranking model does not give its own."""
        if not request.rerank:
            return await self._search(request)
        without = replace(request, rerank=False)
        return await search_ranked(lambda: self._search(request), lambda: self._search(without), OVERLOADED)

    async def confirms(self, remote_id: str, name: str) -> bool:
        """A search in this one document finds it. Raises `NotOffered` where there is no search."""
        try:
            found = await self._retrieve(request_about(remote_id, name))
        except NotFound:  # the base is there: it is said of the document
            return False
        return any(one.doc_id == remote_id for one in found)

    async def _search(self, request: RetrieveRequest) -> Sequence[FoundSlice]:
        try:
            return await self._retrieve(request)
        except NotFound as error:
            raise _no_search(error) from error

    async def _retrieve(self, request: RetrieveRequest) -> Sequence[FoundSlice]:
        self._api.missing.check(ZhipuCall.RETRIEVE)
        try:
            return await self._api.retrieve(request)
        except NotOffered as error:
            said = _no_search(error)
            # with a ranking model asked for, that may be what is missing
            raise (said if request.rerank else self._api.missing.note(ZhipuCall.RETRIEVE, said)) from error

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """The hits in their order with their pictures; a failure or a slow answer costs pictures alone.

        Source: the vendor's manual of the knowledge API, 3.2.9: `POST /document/slice/image_list/{id}`.
        """
        ids = dict.fromkeys(hit.remote_id for hit in hits if any(map(_lacks_images, hit.passages)))
        images = await self._images(list(ids)[:MOST_DOCUMENTS])
        return [with_images(hit, images.get(hit.remote_id, {})) for hit in hits]

    async def _images(self, ids: Iterable[str]) -> Mapping[str, Images]:
        if self._api.missing.lacks(ZhipuCall.IMAGES):
            return {}
        deadline = asyncio.get_running_loop().time() + PICTURES_WITHIN

        async def in_time(remote_id: str) -> Images:
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._api.images(remote_id)
            except TimeoutError as error:
                raise Unavailable("the pictures did not come in time") from error

        answers = await self._api.each(ids, in_time)
        missing = [error for error in answers.refused.values() if isinstance(error, NotOffered)]
        # a bare 404 may be about the one document; about all of several it is not
        is_of_all = len(missing) == len(answers.refused) > 1 and not answers.given
        sure = missing if is_of_all else [error for error in missing if error.code != "404"]
        if sure:
            self._api.missing.note(ZhipuCall.IMAGES, sure[0])
        return answers.given


def _no_search(error: Rejected) -> NotOffered:
    return NotOffered(f"this knowledge base offers no search: {error.reason}", code=error.code)


def with_images(hit: Hit, images: Images) -> Hit:
    """The hit with those of the images that its passages name; `images` maps placeholders to addresses."""
    if not images:
        return hit
    return replace(hit, passages=tuple(_illustrated(passage, images) for passage in hit.passages))


def _illustrated(passage: Passage, images: Images) -> Passage:
    named = dict.fromkeys(_PLACEHOLDER.findall(passage.text))  # each once, in the order of the text
    return replace(
        passage,
        images=passage.images or tuple(Image(one, images[one]) for one in named if one in images),
    )


def _lacks_images(passage: Passage) -> bool:
    return not passage.images and _PLACEHOLDER.search(passage.text) is not None
