"""The settings of target type `gptbots`, and how a target is opened with them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from kbsync.contract.target import Surroundings
from kbsync.targets.gptbots.api import RANKING
from kbsync.targets.gptbots.config import RANKING_MODELS, GptbotsSearchConfig, GptbotsTargetConfig
from kbsync.targets.gptbots.target import GptbotsTarget

from .reading import mirror, told, with_settings

LEAST = 'type: gptbots, api_key: secret, knowledge_base_id: "67457fea6f658672d6482542"'


def test_searches_and_questions_are_left_as_they_were_where_nothing_is_said(tmp_path: Path) -> None:
    target = mirror(tmp_path, f"target: {{{LEAST}}}").target
    assert isinstance(target, GptbotsTargetConfig)
    assert (target.search, target.qa_update) == (GptbotsSearchConfig(), "replace")
    assert GptbotsSearchConfig() == GptbotsSearchConfig(None, None, None)


def test_what_is_said_of_searches_reaches_the_target(tmp_path: Path) -> None:
    search = "search: {embedding_rate: 1, doc_correlation: 0.1, rerank_version: BCE-Rerank}"
    one = mirror(tmp_path, f"target: {{{LEAST}, {search}, qa_update: in_place}}")

    async def opened() -> GptbotsTarget:
        async with aclosing(one.target.open(Surroundings("docs", tmp_path, tmp_path))) as target:
            assert isinstance(target, GptbotsTarget)
            return target

    settings = asyncio.run(opened())._config
    assert (settings.search, settings.qa_update) == (GptbotsSearchConfig(1.0, 0.1, "BCE-Rerank"), "in_place")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            "search: {embedding_rate: 1.1}",
            "search.embedding_rate: 1.1 is not taken; allowed: a number from 0 to 1, such as 0.2",
        ),
        (
            "search: {doc_correlation: 0}",
            "search.doc_correlation: 0 is not taken; allowed: a number from 0.1 to 0.95, such as 0.2",
        ),
        (
            "search: {rerank_version: BGE}",
            "search.rerank_version: 'BGE' is not taken; allowed: BGE-Rerank, "
            "Jina-reranker-v2-base-multilingual, Jina-colbert-v2, BCE-Rerank",
        ),
        (
            "qa_update: inplace",
            "qa_update: 'inplace' is not taken; allowed: replace, in_place; did you mean in_place?",
        ),
    ],
)
def test_what_the_service_would_refuse_is_refused_when_it_is_read(
    tmp_path: Path, settings: str, problem: str
) -> None:
    assert told(tmp_path, with_settings(f"target: {{{LEAST}, {settings}}}")) == [
        f"4 mirrors[0].target.{problem}"
    ]


def test_the_model_that_ranks_on_request_is_one_of_those_that_can_be_named() -> None:
    assert RANKING in RANKING_MODELS
