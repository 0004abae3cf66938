"""The config block for `type: dify`, and how to open that target.

Sources are paths in https://github.com/langgenius/dify, at the commits in docs/targets/dify.md.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from kbsync.config.kinds import Bytes, Choice
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import KEY_ALLOWED, BaseId, BaseUrl, RemoteTargetConfig
from kbsync.dataclass import dataclass

_ALWAYS = "txt markdown md mdx pdf html htm xlsx xls docx csv vtt properties"
FORMATS = {
    "dify": frozenset(_ALWAYS.split()),
    "unstructured": frozenset(f"{_ALWAYS} doc eml msg pptx xml epub".split()),
}
"""Accepted extensions by `ETL_TYPE` (api/constants/__init__.py)."""

MAX_BYTES = 15 * 1024 * 1024
"""Maximum file size in bytes: the default of `UPLOAD_FILE_SIZE_LIMIT`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DifyTargetConfig(RemoteTargetConfig):
    """A knowledge base on Dify. Sizes are in bytes; 0 means no limit."""

    type: Annotated[Literal["dify"], Choice("`dify`: a knowledge base in Dify")] = "dify"
    base_url: Annotated[str, BaseUrl("the URL of the API, including `/v1`")] = "https://api.dify.ai/v1"
    api_key: Annotated[Secret, Confidential("a key for the knowledge API, not for an app", *KEY_ALLOWED)]
    dataset_id: Annotated[
        str, BaseId("the id of the knowledge base, in quotes", "c42e2a6e-40b3-4330-96f8-f1e4d768e8c9")
    ]
    etl_type: Annotated[
        Literal["dify", "unstructured"],
        Choice("the installation's `ETL_TYPE`; it determines the [formats](targets/dify.md#limits)"),
    ] = "dify"
    max_bytes: Annotated[
        int, Bytes("refuse files larger than this; set it to the server's `UPLOAD_FILE_SIZE_LIMIT`", least=1)
    ] = MAX_BYTES
    metadata: Annotated[
        Literal["sent", "none"],
        Choice("whether to send the [path and tags](targets/dify.md#metadata), by which Dify can filter"),
    ] = "sent"

    opens: ClassVar[str] = "kbsync.targets.dify.target:DifyTarget"
    id_setting: ClassVar[str] = "dataset_id"
