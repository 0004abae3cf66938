"""Forgets a mirror, for the commands `forget` and `remove` and for the web page.

It finds the mirror's documents, opens their knowledge bases and, if requested, deletes the documents. It
first deletes the documents of former mirrors with this name. If that fails, the mirror itself is unchanged.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.config import places
from kbsync.config.model import MAX_NAME_LENGTH, MirrorConfig
from kbsync.dataclass import dataclass
from kbsync.engine.clock import wait_until_open
from kbsync.engine.forget import Belongings, Report, belongings, delete_left, forget, leads_to, note_listed
from kbsync.errors import Halted, KbsyncError, UnmadeError, UsageError
from kbsync.installation import BASES, Installation
from kbsync.permissions import exists
from kbsync.state.db import forget_set_aside
from kbsync.state.forgotten import ForgottenBase
from kbsync.state.mirrors import BindingRecord, MirrorRecord
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

if TYPE_CHECKING:
    from kbsync.contract.target import Target

WithSecrets = Callable[[], Installation]
"""Returns the installation, including the API keys of its targets. Raises `UsageError`."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """A mirror as recorded in the state.

    `record`: None if the mirror has been forgotten. `leftovers`: the documents that it left behind.
    """

    name: str
    record: MirrorRecord | None
    binding: BindingRecord | None
    owned: Belongings
    leftovers: Sequence[ForgottenBase]

    @property
    def documents(self) -> int:
        """Return how many documents this mirror has in the knowledge base, including those that an earlier
        mirror of the same name left behind.
        """
        return self.owned.documents + sum(base.documents for base in self.leftovers)


class UnreachableBase(UsageError):
    """Raised if the knowledge base can't be opened, because no mirror in the config uses it."""


def read_holdings(tx: Tx, installation: Installation, name: str) -> Holdings | None:
    """Return the state's data about the mirror, or None if the state has no mirror with this name."""
    locate = partial(_locate, installation, name)
    record, leftovers = tx.mirrors.named(name), tx.forgotten.bases(name)
    leftovers = [dataclasses.replace(leftover, base=locate(leftover.base)) for leftover in leftovers]
    if record is None:
        leftovers = leftovers or _find_unknown_base(installation, name)
        return Holdings(name, None, None, Belongings(), leftovers) if leftovers else None
    binding = None if record.binding is None else tx.mirrors.binding(record.binding)
    # Count only documents that a row proves to be ours (promise 6).
    owned = belongings(tx, record)
    elsewhere = [(locate(base), documents) for base, documents in owned.elsewhere]
    owned = dataclasses.replace(owned, elsewhere=elsewhere)
    return Holdings(name, record, None if binding is None else locate(binding), owned, leftovers)


def _locate(installation: Installation, name: str, base: BindingRecord) -> BindingRecord:
    """Return the base at its current location.

    If the state directory was moved, a built-in base is no longer where the state recorded it. If the
    directory was copied, the base at the recorded location belongs to the original state (promise 6).
    """
    from kbsync.index.sqlite.schema import FILE
    from kbsync.index.sqlite.store import SqliteStore

    if base.folder is None:
        return base
    configured = [installation.embedded_base(m) for m in installation.config.mirrors if m.name == name]
    for folder in filter(None, (*configured, installation.state_dir / BASES / name)):
        if folder == base.folder:
            break
        try:
            with closing(SqliteStore(folder, writer=None)) as store:
                is_here = store.check()[0] == base.base
        except UnmadeError:
            is_here = False
        except KbsyncError:
            is_here = True  # the base here is damaged, and nothing may be deleted elsewhere
        if is_here:
            return dataclasses.replace(base, address=(folder / FILE).absolute().as_uri())
    return base


def _find_unknown_base(installation: Installation, name: str) -> list[ForgottenBase]:
    """Return the built-in knowledge base for a name that isn't in the state, for example because the state
    was lost.
    """
    from kbsync.index.sqlite.store import SqliteStore
    from kbsync.targets.registry import DEFAULT_TARGET

    folder = installation.state_dir / BASES / name
    others = (mirror for mirror in installation.config.mirrors if mirror.name != name)
    used = [base for mirror in others if (base := installation.embedded_base(mirror)) is not None]
    # Accept only a single folder, which can't point elsewhere. File systems refuse names that are too long.
    is_folder_name = Path(name).name == name and len(os.fsencode(name)) <= MAX_NAME_LENGTH
    if not is_folder_name or any(places.is_inside(base, folder) for base in used):
        return []
    try:
        with closing(SqliteStore(folder, writer=None)) as store:
            uuid, documents = store.check()
            binding = BindingRecord(0, DEFAULT_TARGET, store.address, uuid, "")
    except UnmadeError:
        return []
    return [ForgottenBase(0, name, binding, documents)] if documents else []


async def forget_mirror(
    installation: Installation,
    store: StateStore,
    holdings: Holdings,
    deleting: WithSecrets | None,
    report: Report = lambda _deleted: None,
) -> int:
    """Drop the mirror's state, after deleting its documents if `deleting` is set. Return how many were
    deleted.

    `report` is called with the number of documents deleted so far. The caller holds the lock, and nothing
    else works on the mirror. Raises `UsageError`, `KbsyncError` or `TargetError` if a document can't be
    deleted. In that case, the mirror is still in the state, without the documents deleted before.
    """
    deleted, record, binding = 0, holdings.record, holdings.binding

    def report_more(count: int) -> None:
        report(deleted + count)

    if deleting is not None:
        for base in holdings.leftovers:
            async with open_base(installation, deleting, holdings.name, base.base) as target:
                listed = base if base.id else await note_listed(store, base, target)
                deleted += await delete_left(store, listed, target, report_more)
    if record is not None and deleting is not None and binding is not None:
        async with open_base(installation, deleting, holdings.name, binding) as target:
            deleted += await forget(store, record, target, report=report_more)
    elif record is not None:
        await forget(store, record)
    bases = [holdings.binding, *(leftover.base for leftover in holdings.leftovers)]
    folders = {base.folder for base in bases if base is not None and base.folder is not None}
    folders = folders if deleting is not None else set()

    def find_used_folders(tx: Tx) -> set[Path | None]:
        # These are the folders of the built-in knowledge bases that mirrors use or left documents in.
        numbers = [record.binding for record in tx.mirrors.all() if record.binding is not None]
        bindings = [*map(tx.mirrors.binding, numbers), *(base.base for base in tx.forgotten.bases())]
        return {binding.folder for binding in bindings if binding is not None}

    unused = folders - await store.read(find_used_folders)
    await asyncio.to_thread(_remove_files, installation.state_file, folders, unused)
    return deleted


def _remove_files(state_file: Path, folders: Collection[Path], unused: Collection[Path]) -> None:
    """Delete damaged files that were set aside, and unused knowledge bases without documents.

    The damaged files may also contain the mirror's paths or texts (promise 11).
    """
    from kbsync.index.sqlite.schema import FILE
    from kbsync.index.sqlite.writer import Writer

    forget_set_aside(state_file)
    for folder in folders:
        forget_set_aside(folder / FILE)
        if folder in unused and exists(folder / FILE):
            with suppress(KbsyncError, OSError), closing(Writer(folder)) as writer:
                writer.remove_if_empty()


@asynccontextmanager
async def open_base(
    installation: Installation, with_secrets: WithSecrets, name: str, base: BindingRecord
) -> AsyncIterator[Target]:
    """Yield a target for a base that the mirror `name` used.

    Raises `UsageError` if the config has no such target, or `Halted` if the base no longer exists.
    """
    missing: Halted | None = None
    for mirror in _mirrors_leading_to(installation, with_secrets, name, base):
        opening = asyncio.to_thread(installation.target, mirror)
        async with aclosing(await wait_until_open(opening, lambda target: target.aclose())) as target:
            try:
                actual = await target.base()
            except Halted as error:
                # Another mirror may lead to the base, even if this one's base is gone or refuses the key.
                missing = missing or error
                continue
            if leads_to(target, actual, base):
                yield target
                return
    if missing is not None:
        raise missing
    raise UnreachableBase(
        f"no mirror in the config uses {base.location}, so kbsync can't delete its documents there; put this "
        f"knowledge base back into the config of {name}"
    )


def _mirrors_leading_to(
    installation: Installation, with_secrets: WithSecrets, name: str, base: BindingRecord
) -> Iterator[MirrorConfig]:
    """Return the configs under which the mirror `name` may open the base."""
    from kbsync.index.sqlite.schema import FILE
    from kbsync.targets.registry import DEFAULT_TARGET, TARGETS

    if base.target == DEFAULT_TARGET:
        # Opening a missing base would create it.
        if base.folder is not None and exists(base.folder / FILE):
            yield MirrorConfig(name, installation.state_dir, target=TARGETS[DEFAULT_TARGET](path=base.folder))
        return
    # Keys are needed only from here on.
    mirrors = [mirror for mirror in with_secrets().config.mirrors if mirror.target.type == base.target]
    for mirror in sorted(mirrors, key=lambda mirror: mirror.name != name):
        # A mirror with a different name may use the same base.
        yield dataclasses.replace(mirror, name=name, prefix=base.prefix)
