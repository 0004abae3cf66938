"""The config block for `type: ragflow`, and how to open that target."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from kbsync.config.kinds import Bytes, Choice
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import KEY_ALLOWED, BaseId, BaseUrl, RemoteTargetConfig
from kbsync.dataclass import dataclass

MAX_BYTES = 128 * 1024 * 1024
"""Maximum size in bytes of a file that RAGFlow parses (`DOC_MAXIMUM_SIZE`, common/settings.py); an upload may
be larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RagflowTargetConfig(RemoteTargetConfig):
    """A RAGFlow dataset. Sizes are in bytes; 0 means no limit."""

    type: Annotated[Literal["ragflow"], Choice("`ragflow`: a dataset on a RAGFlow server")] = "ragflow"
    base_url: Annotated[str, BaseUrl("the server's URL, without `/api/v1`")] = "http://127.0.0.1:9380"
    api_key: Annotated[Secret, Confidential("the API key of the user", *KEY_ALLOWED)]
    dataset_id: Annotated[str, BaseId("the id of the dataset, in quotes", "3b4de7d4241d11f0a6a79f24fc270c7f")]
    max_bytes: Annotated[
        int, Bytes("refuse files larger than this; set it to your server's limit", least=1, most=1024**3)
    ] = MAX_BYTES

    opens: ClassVar[str] = "kbsync.targets.ragflow.target:RagflowTarget"
    id_setting: ClassVar[str] = "dataset_id"


_TEXTS = "txt md mdx html htm json jsonl epub eml"
_OFFICE = "pdf docx doc xlsx xls csv pptx ppt"
_CODE = "py js java c cpp h php go ts sh cs kt sql"
EXTENSIONS = frozenset(f"{_TEXTS} {_OFFICE} {_CODE}".split())
"""Extensions that RAGFlow accepts (api/utils/file_utils.py) and that the general chunk method, or the one for
slides and mail, can parse (rag/app/naive.py). Pictures and audio need a model; RAGFlow accepts xml, rtf and
ini, but fails to parse them.
"""
