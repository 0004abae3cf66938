"""Lists every failure that a user must act on: its message, its mirror, the fix and the exit code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trouble:
    """A mirror with a problem.

    `reason`: its halt after `--once`, '' for none. `code`: the exit code of a pass over this mirror alone.
    `messages`: what happened and where ({folder}, {base}: the mirror's paths). `fix`: the command to paste.
    `logged`: the reason of its halt in the daemon.
    """

    name: str
    reason: str
    code: int
    messages: tuple[str, ...]
    fix: str = "kbsync --once --mirror {name}"
    logged: str = ""


def halt(
    name: str, reason: str, *messages: str, fix: str = "kbsync --once --mirror {name}", code: int = 3
) -> Trouble:
    return Trouble(name, reason, code, messages, fix, reason)


MIRRORS = (
    halt(
        "gone",
        "folder-missing",
        "{folder}: the folder is missing; mount the folder, or if it has moved, correct `folder`",
    ),
    halt(
        "unmounted",
        "folder-missing",
        "{folder}: it is no longer a mount point",
        fix="kbsync approve unmounted",
    ),
    halt(
        "shut",
        "folder-missing",
        "{folder}: the folder is unreadable: permission denied; run: chmod u+rX {folder}",
    ),
    Trouble(
        "shrunk",
        "deletions-held",
        3,
        ("7 of 8 documents would be deleted; they stay",),
        "kbsync approve shrunk",
    ),
    Trouble(
        "recut",
        "recipe-held",
        3,
        (
            "8 of 8 documents (152 B) would be reindexed with the new settings "
            "(from knowledge_type 1 to knowledge_type 2)",
        ),
        "kbsync approve recut",
    ),
    halt("model", "config", "embedding.path: ", "no-model has no model.onnx", code=2),
    halt("authority", "config", "ca_file ", "config.yaml: no certificates in PEM form", code=2),
    halt(
        "sealed",
        "index-read-only",
        "the index in {base} cannot be used (the mode of {base}/index.db keeps its owner, ",
    ),
    Trouble(
        "occupied",
        "failing",
        4,
        (
            "{base} is in use by another kbsync; stop it or wait for it",
            "the next pass will pick up where the last one stopped",
        ),
        "kbsync --once --mirror occupied",
        "failing",
    ),
    Trouble(
        "broken",
        "",
        1,
        (
            "no.pdf: cannot be read: ",
            "odd.bin: explicitly included but not accepted",
            "large.md: 1,001 bytes, over the limit of 1,000 bytes",
            "grows.md: 1,200 bytes, over the limit of 1,000 bytes; an outdated version is still searchable",
            "shut.md: cannot be read: permission denied; give the user who runs kbsync read access",
            "closed/: cannot be listed: permission denied; give the user who runs kbsync read access",
        ),
        "kbsync retry",
    ),
    halt("refused", "credentials", "1004", "set a valid api_key (or api_key_file) in the config"),
    halt("unpaid", "quota", "1113", "top up the account"),
    halt(
        "full",
        "quota",
        "the account has 10 B left of 10 B",
        "0~",
        "needs",
        "delete documents or get more space in the service's console",
    ),
    halt("unknown", "knowledge-base-missing", "1999999999999999999", "kb list"),
    halt(
        "emptied",
        "knowledge-base-emptied",
        "8 of 8 documents are no longer in the knowledge base",
        fix="kbsync verify --repair --mirror emptied",
    ),
    halt(
        "rejecting",
        "target-rejects",
        "5 documents in a row were refused for the same reason: ",
        "accept this format",
        fix="kbsync retry --mirror rejecting",
    ),
    halt(
        "stuck",
        "target-stuck",
        "5 documents in a row were accepted, but none was searchable after 2 s",
        fix="kbsync retry --mirror stuck",
    ),
    Trouble(
        "down",
        "target-down",
        4,
        ("answered 503", "the next pass will pick up where the last one stopped"),
        "kbsync --once --mirror down",
        "target-down",
    ),
)
"""Problems shown by `--once`, `status` and the log; one process has all of them at once."""

ELSEWHERE = {
    "disk-full": "what the embedded base's disk reports",
    "out-of-memory": "no library fits into the limit of the process any more",
    "upgraded": "files of kbsync that were replaced while it runs",
    "embedding": "a model that vanished while it was used",
    "read-only": "a base that was opened for looking",
    "embedding-dimensions": "another model answers than the one whose vectors the index has",
    "embedding-missing": "a service of embeddings that has no such model",
}
"""Halts that `test_disk_and_model_errors_halt_with_a_hint` causes, and their meaning."""

AT_A_DATABASE = {
    "unsuitable-server": "PostgreSQL or pgvector is missing or too old",
    "workers-differ": "a worker of the Dask cluster has another kbsync or model, or none",
    "newer-index": "a later kbsync has been at the database",
    "older-index": "an earlier kbsync made the tables",
    "incomplete-index": "somebody dropped some of the tables",
    "superseded": "another process writes under the same prefix",
    "prefix-taken": "the prefix is another host's",
}
"""Halts that tests/postgres causes, and their meaning."""

CODES = {
    0: "everything is mirrored",
    1: "broken",
    2: "model",
    3: "refused",
    4: "down",
    70: "test_internal_error_is_reported_as_one",
    130: "tests/cli/test_once.py::test_signal_ends_the_pass_with_its_own_exit_code",
    143: "tests/cli/test_once.py::test_signal_ends_the_pass_with_its_own_exit_code",
}
"""Every exit code, with the mirror above or the test that shows it."""
