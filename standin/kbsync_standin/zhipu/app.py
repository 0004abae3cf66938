"""The service's application with all its calls."""

from __future__ import annotations

from typing import ClassVar

from kbsync_standin.forms import filename_in
from kbsync_standin.messages import Request
from kbsync_standin.zhipu.asking_calls import AskingCalls
from kbsync_standin.zhipu.base_calls import BaseCalls
from kbsync_standin.zhipu.document_calls import addresses_in
from kbsync_standin.zhipu.rules import FILES

_PLATFORM = "/paas/v4"


class ZhipuApplication(BaseCalls, AskingCalls):
    """One account with one empty knowledge base, `HOME_ID`, at first."""

    prefixes: ClassVar = {FILES: "", _PLATFORM: "/api", "": "/api/llm-application/open"}

    def subject(self, request: Request) -> str:
        """Return the sent name of a document, else the id of the base, else ""."""
        route, ids = self.route_of(request)
        match route.op if route else "":
            case "upload":
                return filename_in(request.body)
            case "upload-url":
                return addresses_in(request.body)
            case "list":
                return request.query.get("knowledge_id", "")
            case "detail" | "delete" | "reslice" | "reembed" | "images" | "file":
                document = self.documents.get(ids["id"])
                return document.sent_name if document else ""
        return ids.get("id", "")
