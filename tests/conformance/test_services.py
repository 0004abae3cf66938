"""Runs the suite on each service's target, with its stand-in over TCP and each of its possible behaviours."""

from __future__ import annotations

from typing import ClassVar

from tests.conformance.served import ServedSuite
from tests.conformance.variants import LightragSuite, SharedTextsSuite
from tests.services.dify import ServedDify
from tests.services.gptbots import ServedGptbots
from tests.services.lightrag import ServedLightrag
from tests.services.openai import ServedOpenai
from tests.services.openwebui import ServedOpenWebui
from tests.services.ragflow import ServedRagflow
from tests.services.zhipu import ServedZhipu
from tests.share import enumerated


class TestZhipu(ServedSuite):
    world_type = ServedZhipu


@enumerated()
class TestZhipuPlainNames(TestZhipu):
    style = "plain"


@enumerated()
class TestZhipuLagging(TestZhipu):
    behaviour: ClassVar = {
        "list_lag": 0.9,
        "page_cap": 10,
        "order": "oldest",
        "total": "string",
        "empty_list": "null",
    }


@enumerated()
class TestZhipuOdd(TestZhipu):
    behaviour: ClassVar = {
        "ids": "number",
        "extra_fields": True,
        "page_beyond": "repeats",
        "order": "shuffled",
        "deleted_detail": "null",
        "unknown_delete": "code",
        "clock_skew": 7200.0,
    }


class TestDify(ServedSuite):
    world_type = ServedDify


@enumerated()
class TestDifyUnused(TestDify):
    """Plain names, in a base that was created without any settings, at an older version."""

    style = "plain"
    behaviour: ClassVar = {"fresh": True, "technique_needed": True, "deleted": "number", "extra_fields": True}


class TestRagflow(ServedSuite):
    world_type = ServedRagflow


@enumerated()
class TestRagflowPlainNames(TestRagflow):
    style = "plain"


@enumerated()
class TestRagflowOld(TestRagflow):
    """Like versions up to 0.24: other deletions, and a list without the `ids` filter."""

    behaviour: ClassVar = {
        "ids_filter": False,
        "unknown_ids": "reported",
        "no_ids": "all",
        "runs": "digits",
        "total": "total_datasets",
    }


@enumerated()
class TestRagflowOdd(TestRagflow):
    behaviour: ClassVar = {
        "total": "missing",
        "page_cap": 20,
        "page_beyond": "repeats",
        "no_index": "empty",
        "statuses": "mapped",
        "extra_fields": True,
    }


class TestGptbots(ServedSuite):
    world_type = ServedGptbots


@enumerated()
class TestGptbotsStale(TestGptbots):
    """The old version's status stays long after the new one is searchable."""

    behaviour: ClassVar = {"stale_status": 3.5, "page_cap": 10}


@enumerated()
class TestGptbotsOdd(TestGptbots):
    behaviour: ClassVar = {
        "extra_fields": True,
        "page_beyond": "repeats",
        "order": "shuffled",
        "total": "missing",
        "names": "bare",
        "times": "ms",
        "working": "wait",
        "failed": "absent",
        "bases": "data_list",
        "unknown_ids": "refused",
    }


class TestOpenai(ServedSuite):
    world_type = ServedOpenai


@enumerated()
class TestOpenaiLags(TestOpenai):
    behaviour: ClassVar = {"list_lag": 2.0, "extra_fields": True}


@enumerated()
class TestOgx(SharedTextsSuite, TestOpenai):
    behaviour: ClassVar = {"dialect": "ogx"}


class TestOpenWebui(ServedSuite):
    world_type = ServedOpenWebui


@enumerated()
class TestOpenWebuiOdd(TestOpenWebui):
    """For a user who isn't an admin, and a server that refuses equal texts at once."""

    behaviour: ClassVar = {"page_size": 30, "looks_late": False, "extra_fields": True}


class TestLightrag(LightragSuite, ServedSuite):
    world_type = ServedLightrag


@enumerated()
class TestLightragLagging(TestLightrag):
    behaviour: ClassVar = {"list_lag": 0.9, "deleting": 0.5, "tells_progress": False, "extra_fields": True}
