"""The commented config that `kbsync init` writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kbsync.config.model import folder_name
from kbsync.errors import UsageError

SHIPPED_SCHEMA = Path(__file__).with_name("schema.json")
"""The JSON schema as it is installed, so that editors complete a config without any network."""

_TEMPLATE = """\
# yaml-language-server: $schema={schema}
# kbsync: which folders are mirrored, and into which knowledge bases.
# Commented lines show the defaults. Times are 500ms, 2s, 15m, 1h. Paths are relative to this file's
# directory, ~ is your home. ${{NAME}} is taken from the environment.

{state_dir:<37} # local file system, outside of every mirrored folder
# log_level: info                     # debug, info, warning, error; SIGHUP takes a new one
# http: {{listen: 127.0.0.1:9753}}      # health, metrics, a page; absent: no listener
# notify: {{command: [/usr/local/bin/tell], on: [halted, recovered, quarantined]}}   # JSON on stdin

mirrors:
  - name: "{name}"
    folder: {folder}

    # Which files, in gitignore syntax. Without include: every format the target takes.
    # .kbsyncignore files in the folder count too.
    # include: ["**/*.md", "**/*.pdf"]
    # exclude: ["drafts/"]

    # settle: 2s                      # a file is taken when it has been quiet this long ...
    # settle_longest: 60s             # ... and at the latest after this, if a stable read can be had
    # rescan: 15m                     # full reconcile; repairs whatever events missed
    # deep_rescan: 24h                # full reconcile that also hashes every file
    # observer: auto                  # auto | native | polling (network and bind mounts)

    # More deletions than both, within the window, wait for `kbsync approve`.
    # deletions: {{hold_fraction: 0.2, hold_count: 5, hold_window: 1h}}

    # adopt: content                  # content | name: what proves a document ours when the state was lost

{target}"""

_LOCAL = """\
    # The knowledge base: here an embedded one, under the state directory.
    target:
      type: local
      # path: /srv/kb                 # another place for it; not inside a mirrored folder
      # max_bytes: 100000000          # larger files are refused
      # embedding: {type: builtin}    # or {type: onnx, path: /srv/models/mine}
"""

_SERVICE = """\
    # The knowledge base, at a service. The key itself does not belong in here.
    target:
"""


def commented_config(
    folder: Path,
    schema: str = SHIPPED_SCHEMA.as_uri(),
    target: Sequence[str] | None = None,
    state_dir: Path | None = None,
) -> str:
    """A config that mirrors `folder`, with every default shown. `schema`: the address editors look at.

    `target`: the lines of its target's block (see `target_block`); None: the embedded knowledge base.
    `state_dir`: where the state lies, absolute; None: in the usual place. Raises UsageError for a path that
    is not UTF-8, which no YAML file can hold.
    """
    absolute = os.path.abspath(folder)  # noqa: PTH100 (Path.absolute keeps `..`)
    block = _LOCAL if target is None else _SERVICE + "".join(f"{line}\n" for line in target)
    state = "# state_dir: /var/lib/kbsync" if state_dir is None else f"state_dir: {quoted(str(state_dir))}"
    return _TEMPLATE.format(
        schema=schema, state_dir=state, name=folder_name(folder), folder=quoted(absolute), target=block
    )


def quoted(text: str) -> str:
    """`text` as a YAML text that gives it back, references kept from being filled in."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the name of {os.fsencode(text)!r} is not UTF-8, so no config can hold it; use --folder instead"
        ) from None
    return '"' + "".join(map(_escaped, text.replace("${", "$${"))) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08X}"
