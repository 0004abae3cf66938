"""The mistakes: each a change of a line or two that breaks a promise, with the tests that have to notice it.

`tests` are where to look, widest last; pytest stops at the first that fails.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """`right` stands once in `file` and is replaced by `wrong`; `breaks` is what a person would see."""

    breaks: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MISTAKES = {
    # 1. Unreadable is never deleted.
    "unknown-is-gone": Mistake(
        "a file that cannot be looked at loses its document",
        "kbsync/core/planner.py",
        "    if wish.presence is Presence.UNKNOWN:\n        return parting_cause(wish) != DESELECTED\n",
        "",
        ("tests/core", "tests/engine/test_watching.py"),
    ),
    "unreadable-read-as-missing": Mistake(
        "a file whose permissions were taken away is taken for deleted",
        "kbsync/source/read.py",
        "                case errno.ENOENT | errno.ENOTDIR:\n                    return Vanished()",
        "                case errno.ENOENT | errno.ENOTDIR | errno.EACCES:\n                    return Vanished()",
        ("tests/source/test_read.py",),
    ),
    "looked-for-in-another-root": Mistake(
        "a file is gone when another folder lay at the root while it was looked for",
        "kbsync/engine/deletions.py",
        "look_exactly, root, list(paths), before)",
        "look_exactly, root, list(paths))",
        ("tests/engine/test_once.py",),
    ),
    "old-spelling-is-a-file": Mistake(
        "where names are folded, a file renamed from a.md to A.md is sent again",
        "kbsync/engine/reconcile.py",
        "entry.path in aliases or look_at",
        "look_at",
        ("tests/engine/test_equal_names.py",),
    ),
    "lost-mount-is-another-folder": Mistake(
        "a file system that is not mounted any more does not halt the mirror",
        "kbsync/engine/attach.py",
        "    return difference, bool(difference) and stored.is_mount and not now.is_mount",
        "    return difference, False",
        ("tests/engine/test_explain.py",),
    ),
    "kept-goes-after-all": Mistake(
        "with `deletions: never` the document of a deleted file is deleted",
        "kbsync/core/planner.py",
        "return _keep_without_file(uploads) if wish.keeps else _part_all(uploads, cause, abilities)",
        "return _parted(uploads, cause, abilities)",
        ("tests/core/test_planner.py",),
    ),
    "kept-goes-unasked": Mistake(
        "what `deletions: never` kept goes without a question once the setting is taken out",
        "kbsync/engine/attach.py",
        "        if not binding.abilities.keeps and tx.mirrors.tally(mirror).get(Status.KEPT):\n",
        "        if False:\n",
        ("tests/engine/test_deletions_never.py",),
    ),
    # 2. Never absent while replaced.
    "accepted-is-ready": Mistake(
        "the old document goes when the new one was taken and is not searchable yet",
        "kbsync/engine/journal.py",
        "lifecycle.accept(upload, outcome.remote_id, outcome.ready, self.timing)",
        "lifecycle.accept(upload, outcome.remote_id, True, self.timing)",
        ("tests/remote/test_life.py", "tests/targets/zhipu"),
    ),
    "old-version-before-successor": Mistake(
        "a document whose file changed is deleted before its successor is sent",
        "kbsync/core/planner.py",
        "abilities), Action(Step.SEND, replaced))",
        "abilities), Action(Step.RETIRE if server else Step.SEND, replaced))",
        ("tests/core", "tests/engine/test_once.py"),
    ),
    "late-takes-the-place": Mistake(
        "where each text is kept once, an upload that comes late takes the place of what was sent instead",
        "kbsync/engine/journal.py",
        "is_same = upload.predecessor == old.id and upload.digest == old.digest",
        "is_same = upload.digest == old.digest",
        ("tests/engine/test_texts_once.py",),
    ),
    # 3. Exactly once.
    "doubt-is-failure": Mistake(
        "an upload whose answer was lost is sent again without a look",
        "kbsync/core/lifecycle.py",
        "        state=UploadState.UNSURE,\n        reason=reason,",
        "        state=UploadState.INTENDED,\n        reason=reason,",
        ("tests/core", "tests/remote/test_life.py", "tests/crash"),
    ),
    "one-list-is-absence": Mistake(
        "a lost upload is sent again after the first list without it, however late lists are",
        "kbsync/core/lifecycle.py",
        "checked.elapsed >= timing.horizon:\n        if timing.limits.list_lag == 0:",
        "looked.absences >= 1:\n        if timing.limits.list_lag == 0:",
        ("tests/core", "tests/engine/test_targets_without_marks.py"),
    ),
    "no-recovery": Mistake(
        "what was being sent when the program died stays so for ever",
        "kbsync/engine/journal.py",
        "    rows = [upload for upload in sending if upload.id not in busy]",
        "    rows = [upload for upload in sending if upload.id in busy]",
        ("tests/promises/test_each_promise.py", "tests/crash/test_changed_back.py"),
    ),
    "two-programs-one-state": Mistake(
        "a second kbsync works on a state that another one holds",
        "kbsync/state/lock.py",
        "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        ("tests/state", "tests/cli/test_once.py"),
    ),
    "told-before-it-is-on-disk": Mistake(
        "the answer of a write is given before it is on disk",
        "kbsync/state/store.py",
        '            self._call_hook("before")\n        self._call_hook("after")\n',
        '            self._call_hook("before")\n            self._call_hook("after")\n',
        ("tests/state", "tests/crash"),
    ),
    # 4. The daemon never wakes itself.
    "hears-its-own-reads": Mistake(
        "the daemon's own reads are events",
        "kbsync/source/observer.py",
        "    DirMovedEvent,\n]",
        "    DirMovedEvent,\n    __import__('watchdog.events').events.FileOpenedEvent,\n]",
        ("tests/source", "tests/promises/test_each_promise.py"),
    ),
    # 5. Mass deletion asks.
    "all-of-few-go": Mistake(
        "the last documents of a small mirror are deleted unasked",
        "kbsync/engine/deletions.py",
        "    if batch >= min(serving, before or serving):\n        return True\n",
        "",
        ("tests/core", "tests/engine"),
    ),
    "approval-of-what-came-back": Mistake(
        "an approved deletion runs though the file is back",
        "kbsync/engine/deletions.py",
        "        if wish.presence is Presence.GONE and not is_lacking:",
        "        if False:",
        ("tests/engine/test_once.py", "tests/cli/test_retry.py"),
    ),
    "held-by-halves": Mistake(
        "of deletions that are held the documents are deleted all the same",
        "kbsync/engine/deletions.py",
        "            tx.holds.hold_batch(self._mirror, now)\n            return batch",
        "            tx.holds.let_batch_go(self._mirror)\n            return batch",
        ("tests/engine/test_fairness.py", "tests/cli/test_retry.py"),
    ),
    "lost-mount-seen-once": Mistake(
        "a mount that is missing halts the first pass only, and the second deletes what it hid",
        "kbsync/engine/attach.py",
        "        difference, is_lost = difference_from(tx.mirrors.get(mirror).root, now)\n",
        "        difference, is_lost = difference_from(tx.mirrors.get(mirror).root, now)\n"
        "        tx.mirrors.set_root(mirror, now)\n",
        ("tests/engine/test_once_decided.py",),
    ),
    "hold-is-joined": Mistake(
        "files that are missed later join deletions that a person was asked about, and go with them",
        "kbsync/state/approvals.py",
        "        hold = self.open(mirror, now)\n",
        "        hold = next((each.id for each in self.current(mirror)), 0) or self.open(mirror, now)\n",
        ("tests/engine/test_once_decided.py",),
    ),
    "file-that-is-back-loses-its-document": Mistake(
        "a file that came back before its deletion was tried loses its document for a while",
        "kbsync/engine/deletions.py",
        "        elif number in kept:\n",
        "        elif number in kept and not kept:\n",
        ("tests/engine/test_once_decided.py",),
    ),
    # 6. Others' documents are untouched.
    "a-name-proves-it": Mistake(
        "a document of somebody else with a name like ours is taken over and replaced",
        "kbsync/core/planner.py",
        "    if known_digest == digest or not known_digest.startswith(TAG):\n        return known_digest == digest",
        "    if known_digest == digest or not known_digest.startswith(TAG):\n        return True",
        ("tests/core", "tests/engine/test_verify.py"),
    ),
    "second-state-unseen": Mistake(
        "documents that another state of the same mirror left at a service are nowhere named",
        "kbsync/engine/listing.py",
        "        return listed.upload_id is not None\n",
        "        return False\n",
        ("tests/engine/test_verify.py",),
    ),
    "repair-takes-strays": Mistake(
        "verify --repair deletes documents that nothing proves to be ours",
        "kbsync/engine/verify.py",
        "        if one.claim is None or not one.is_ours:",
        "        if one.claim is None:",
        ("tests/engine/test_verify.py", "tests/engine/test_audit.py", "tests/remote"),
    ),
    # 7. Same bytes, no work.
    "another-time-another-version": Mistake(
        "touch uploads",
        "kbsync/core/planner.py",
        "    return upload.digest == wish.digest and upload.recipe == wish.recipe",
        "    return False",
        ("tests/core", "tests/engine/test_once.py"),
    ),
    "rename-is-new": Mistake(
        "a renamed file is uploaded anew",
        "kbsync/engine/reconcile.py",
        "        renamed_from = former_ones[0].path if former_ones else None",
        "        renamed_from = None",
        ("tests/engine/test_once.py",),
    ),
    # 8. A half-written file is never sent.
    "read-without-second-look": Mistake(
        "a file that changed while it was read is sent",
        "kbsync/source/read.py",
        '            return before if is_same else Unstable("changed while it was read")',
        "            return before",
        ("tests/source",),
    ),
    "forced-without-proof": Mistake(
        "a file that never gets quiet is sent as it is at that moment",
        "kbsync/source/read.py",
        "            if sample and copy.prefix == sample.digest and (sample.size or not copy.size):",
        "            if True:",
        ("tests/source/test_read.py", "tests/engine/test_settling.py"),
    ),
    # 9. Failures are seen and bounded.
    "tries-without-end": Mistake(
        "a document that cannot be indexed is sent for ever",
        "kbsync/engine/journal.py",
        "        if not why.is_final and (why.halt or upload.repairs < tries):",
        "        if True:",
        ("tests/engine/test_fairness.py", "tests/engine/test_once.py", "tests/remote/test_life.py"),
    ),
    "nobody-to-blame": Mistake(
        "a service that refuses everything quarantines every document",
        "kbsync/engine/halts.py",
        "                if len(self.blamed) >= BLAME_LIMIT:",
        "                if False:",
        ("tests/engine/test_halts.py", "tests/engine/test_adversities.py"),
    ),
    "wish-for-rest-ignored": Mistake(
        "a service that asks for a pause is asked again at once",
        "kbsync/targets/http/limits.py",
        "            self._account.be_quiet(wish or self._pause)",
        "            self._account.be_quiet(self._pause)",
        ("tests/targets/http", "tests/remote"),
    ),
    # 10. An answer is not success.
    "200-is-success": Mistake(
        "an answer without a code counts as done",
        "kbsync/targets/zhipu/errors.py",
        "        Unsure,\n        status=SUCCESS,\n        reported=False,\n",
        "        None,\n        status=SUCCESS,\n        reported=False,\n",
        ("tests/targets/zhipu",),
    ),
    "one-version-vouches-for-the-next": Mistake(
        "a change counts as searchable while the version before it is still served",
        "kbsync/targets/gptbots/target.py",
        "        self._trusted.difference_update(ids)\n",
        "",
        ("tests/targets/gptbots/test_lookups.py",),
    ),
    "missing-call-is-missing-document": Mistake(
        "a document whose indexing cannot be asked for again is taken for gone",
        "kbsync/targets/zhipu/target.py",
        'is_gone(error) and (error.code != "404" or await self._document(remote_id) is None)',
        "is_gone(error)",
        ("tests/targets/zhipu/test_lacking.py",),
    ),
    "foreign-by-address-ours-by-name": Mistake(
        "a document of others that is called like a file of ours is taken over",
        "kbsync/targets/gptbots/shapes.py",
        'reading = None if url else Naming(prefix, "plain")',
        'reading = Naming(prefix, "plain")',
        ("tests/targets/gptbots/test_life.py",),
    ),
    # 11. Gone is gone.
    "deleted-text-stays-in-pages": Mistake(
        "deleted text can be read in the file of the index",
        "kbsync/state/db.py",
        '    connection.pragma("secure_delete", True)\n',
        "",
        ("tests/index/test_gone.py", "tests/index/test_index.py", "tests/engine/test_local_life.py"),
    ),
    "vectors-stay": Mistake(
        "the vector of a deleted text stays in the index",
        "kbsync/index/sqlite/vectors.py",
        "        _write(connection, width, {slot: bytes(width)}, version)\n",
        "",
        ("tests/index/test_index.py", "tests/index/test_gone.py"),
    ),
    # The built-in index.
    "kept-vectors-not-renewed": Mistake(
        "what is put while searches go on is not found by its meaning until a restart",
        "kbsync/index/sqlite/vectors.py",
        "if self._versions.get(segment) != version]",
        "if segment not in self._versions]",
        ("tests/index/test_local_target.py",),
    ),
    "old-name-kept": Mistake(
        "a long note is found by the tag it had, and not by its new one",
        "kbsync/index/sqlite/writer.py",
        "(run.named, run.tokeniser) == (document.named, TOKENISER):\n                keepable",
        "run.tokeniser == TOKENISER:\n                keepable",
        ("tests/index/test_local_target.py",),
    ),
    "old-lines-kept": Mistake(
        "a hit names the line where its passage was before others were put in above",
        "kbsync/index/sqlite/writer.py",
        "runs.append(replace(reused, lines=lines, pages=pages))",
        "runs.append(kept)",
        ("tests/index/test_local_target.py",),
    ),
    "passage-of-another-document": Mistake(
        "a hit has the place of one document and the text of another",
        "kbsync/index/search.py",
        "if e.chunk in current and current[e.chunk].document == e.document]",
        "if e.chunk in current]",
        ("tests/index/test_search.py",),
    ),
    "vector-of-the-text-alone": Mistake(
        "equal texts under different titles are found by the meaning of one of the titles",
        "kbsync/index/chunk.py",
        "key = hashlib.sha256(embed_text.encode())",
        "key = hashlib.sha256(body.encode())",
        ("tests/index/test_local_target.py",),
    ),
    # Held by tests of the whole program.
    "shut-folder-is-gone": Mistake(
        "what lies in a folder that cannot be listed loses its documents",
        "kbsync/source/scan.py",
        'raise _Blocked(f"cannot be listed: {error_words_at(error)}") from error\n        except RulesUnknown',
        "raise _RacedAway from None\n        except RulesUnknown",
        ("tests/promises/test_unreadable.py",),
    ),
    "sent-without-intent": Mistake(
        "nothing on disk says what was being sent when the program died",
        "kbsync/engine/journal.py",
        "            tx.uploads.save(sending)\n            claimed.append(sending)",
        "            claimed.append(sending)",
        ("tests/crash/test_kill_zhipu.py", "tests/crash/test_enumeration.py"),
    ),
    "lost-answer-is-no-answer": Mistake(
        "an upload whose answer was lost is sent again, at the program's outside",
        "kbsync/engine/journal.py",
        "changed = lifecycle.doubt(upload, outcome.reason, self.timing, spent=spent)\n        self._take_step",
        "changed = lifecycle.put_off(upload, outcome.reason, None, self.timing)\n        self._take_step",
        ("tests/promises/test_at_a_service.py",),
    ),
    "not-synced": Mistake(
        "what was recorded is lost with the power",
        "kbsync/state/db.py",
        'connection.pragma("synchronous", "full")',
        'connection.pragma("synchronous", "off")',
        ("tests/state", "tests/promises/test_power_loss.py"),
    ),
    "bursts-apart": Mistake(
        "a folder is emptied unasked, a few files at a time",
        "kbsync/engine/deletions.py",
        "        executed = tx.holds.logged_since(self._mirror, now - binding.settings.deletions.window)",
        "        executed = 0",
        ("tests/promises/test_mass_deletion.py",),
    ),
    "root-not-looked-at": Mistake(
        "deletions are sent while the folder is away",
        "kbsync/engine/worker.py",
        "        if due.deletes and await self._trusted_identity() is not None:",
        "        if due.deletes:",
        ("tests/promises/test_mass_deletion.py",),
    ),
    "settle-ignored": Mistake(
        "a file is sent while it is being written",
        "kbsync/core/quiet.py",
        "    return settle * EMPTY_FACTOR if stamp.size == 0 else settle",
        "    return 0.0",
        ("tests/promises/test_half_written.py",),
    ),
    "digest-unchecked": Mistake(
        "what is sent is not what was looked at",
        "kbsync/source/read.py",
        "        if expected_digest not in (None, copy.digest):",
        "        if False:",
        ("tests/promises/test_at_a_service.py", "tests/source"),
    ),
    "kept-rename-uploads": Mistake(
        "a rename uploads although renames are to be kept",
        "kbsync/core/planner.py",
        '    if server.label == wish.path or (not can_rename and abilities.rename_policy == "keep"):',
        "    if server.label == wish.path:",
        ("tests/promises/test_at_a_service.py",),
    ),
    "never-embedded-again": Mistake(
        "a document that failed to index is sent again instead of being embedded again",
        "kbsync/engine/polling.py",
        "        if not isinstance(self._target, Reembeds):\n            return Remedy.NOT_OFFERED",
        "        if True:\n            return Remedy.NOT_OFFERED",
        ("tests/promises/test_at_a_service.py",),
    ),
    "pauses-do-not-grow": Mistake(
        "a service that is down is asked every second",
        "kbsync/core/backoff.py",
        "first * 2.0 ** max(0, min(tries - 1, 30))",
        "first",
        ("tests/core", "tests/promises/test_bounded_failures.py"),
    ),
    "unknown-status-is-ready": Mistake(
        "a status that nobody knows counts as searchable",
        "kbsync/targets/zhipu/upload.py",
        "_STATES.get(stat, DocState.UNKNOWN)",
        "_STATES.get(stat, DocState.READY)",
        ("tests/promises/test_at_a_service.py", "tests/targets/zhipu", "tests/conformance/test_zhipu.py"),
    ),
    "no-tombstone": Mistake(
        "a document that a service still lists after its deletion stays",
        "kbsync/core/lifecycle.py",
        "    if timing.limits.list_lag == 0:\n        return replace(upload, state=UploadState.GONE, next_look_at=None)",
        "    if True:\n        return replace(upload, state=UploadState.GONE, next_look_at=None)",
        ("tests/promises/test_at_a_service.py", "tests/remote", "tests/targets/zhipu"),
    ),
    # The contract: exit codes, secrets, the listener, the config.
    "failed-before-person": Mistake(
        "a pass that waits for a person exits with 1",
        "kbsync/cli/exit_codes.py",
        "ORDER = (Code.USAGE, Code.PERSON, Code.PASSING, Code.FAILED)",
        "ORDER = (Code.USAGE, Code.FAILED, Code.PERSON, Code.PASSING)",
        ("tests/cli/test_once.py", "tests/cli/test_failures.py", "tests/cli/test_output.py"),
    ),
    "secret-in-words": Mistake(
        "a secret that is formatted into a message shows",
        "kbsync/config/secrets.py",
        '    def __format__(self, spec: str) -> str:\n        return "***"',
        "    def __format__(self, spec: str) -> str:\n        return self._text",
        ("tests/config/test_secrets.py",),
    ),
    "key-follows-redirects": Mistake(
        "a redirect to another host gets the key",
        "kbsync/targets/http/client.py",
        "            if not connection.is_same_origin(onward.url, request.url):\n                break\n",
        "",
        ("tests/targets/http",),
    ),
    "any-host-may-ask": Mistake(
        "a page of a stranger reaches the listener by DNS rebinding",
        "kbsync/server/auth.py",
        "        if is_loopback(host_of(host)):",
        "        if True:",
        ("tests/server/test_auth.py",),
    ),
    "parser-reads-anything": Mistake(
        "a document can make its parser read any file",
        "kbsync/index/fence/sandbox.py",
        '        if confine(_code(), [os.environ["HOME"]]):',
        "        if False:",
        ("tests/security/test_fence.py", "tests/index/test_parser.py"),
    ),
    "unknown-key-passes": Mistake(
        "a key of the config that nobody knows is ignored",
        "kbsync/config/reader.py",
        "            self._draft.refuse((*loc, key), unknown_key((*loc, key), known))",
        "            pass",
        ("tests/config/test_loader.py", "tests/config"),
    ),
    "filter-after-the-fact": Mistake(
        "search --path shows documents of other folders",
        "kbsync/index/sqlite/store.py",
        "            if self.admitted is not None and row[1] not in self.admitted:\n",
        "            if False:\n",
        ("tests/index/test_search.py", "tests/cli/test_search.py"),
    ),
    "meaning-ignored": Mistake(
        "search finds words and no meaning",
        "kbsync/index/search.py",
        "            score = LEXICAL * item.words + (1 - LEXICAL) * max(0.0, item.meaning)\n",
        "            score = LEXICAL * each.words\n",
        ("tests/index/test_search.py", "tests/index/test_local_target.py"),
    ),
    "upgrade-deletes": Mistake(
        "what a newer program does not select any more is deleted",
        "kbsync/engine/reconcile.py",
        "    return before == now or not before or person_part(before) != person_part(now)",
        "    return True",
        ("tests/engine/test_once.py",),
    ),
    # An index in PostgreSQL.
    "own-row-not-locked": Mistake(
        "of two writers of one mirror the one that wakes dies of a unique violation",
        "kbsync/index/postgres/store.py",
        " FOR UPDATE OF o\n",
        "\n",
        ("tests/postgres/test_stopped.py",),
    ),
    "sleeper-stays": Mistake(
        "a writer that is stopped between two statements keeps every other one out",
        "kbsync/index/postgres/connections.py",
        '    "idle_in_transaction_session_timeout": f"{ASLEEP}s",\n',
        "",
        ("tests/postgres/test_stopped.py",),
    ),
    "sleeper-in-a-copy-stays": Mistake(
        "a writer that is stopped in the middle of a COPY keeps every other one out",
        "kbsync/index/postgres/store.py",
        """                    connection.execute(_END_THE_SLEEPER, (f"{ASLEEP + 5}s", rows[0].id, ASLEEP))\n""",
        "",
        ("tests/postgres/test_stopped.py",),
    ),
    "generation-not-compared": Mistake(
        "a writer that wakes after its place was taken stores what it had begun",
        "kbsync/index/postgres/store.py",
        "AND generation = %s AND uuid",
        "AND %s > 0 AND uuid",
        ("tests/postgres/test_stopped.py", "tests/postgres/test_failures.py"),
    ),
    "search-of-several-commits": Mistake(
        "a document that is replaced while somebody searches is not found, or is shown with another's text",
        "kbsync/index/postgres/store.py",
        'SNAPSHOT = "ISOLATION LEVEL REPEATABLE READ READ ONLY"',
        'SNAPSHOT = "READ ONLY"',
        ("tests/postgres/test_store.py",),
    ),
    "lost-passages-unseen": Mistake(
        "documents whose passages somebody took out of the database count as there, and are never found again",
        "kbsync/index/postgres/store.py",
        '"true" if version < 2 else WHOLE',
        '"true"',
        ("tests/postgres/test_integrity.py",),
    ),
    "prefixes-that-begin-each-other": Mistake(
        "two machines make two documents of one name",
        "kbsync/index/postgres/store.py",
        "                self._refuse_overlap(connection, rows[0] if rows else None)\n",
        "",
        ("tests/postgres/test_owners.py",),
    ),
    # Assistants.
    "assistant-any-origin": Mistake(
        "a page of any site asks an assistant's server through the browser of whoever opens it",
        "kbsync/server/auth.py",
        "        if origin is not None and named != host and not is_loopback(host_of(named)):\n",
        "        if False:\n",
        ("tests/mcp/test_http.py",),
    ),
    "assistant-token-taken-away": Mistake(
        "once the token is out of the config, other machines that say they are this one ask kbsync mcp",
        "kbsync/server/auth.py",
        "        if token is not None or self._needs_token:\n",
        "        if token is not None:\n",
        ("tests/mcp/test_http.py",),
    ),
    "assistant-open-to-all": Mistake(
        "kbsync mcp serves other machines without a token",
        "kbsync/cli/commands/mcp/http.py",
        "        if token() is None and endpoint.is_reached_by_others:\n",
        "        if False:\n",
        ("tests/mcp/test_http.py",),
    ),
    "assistant-lacks-unsaid": Mistake(
        "an assistant is not told that nobody follows the folder",
        "kbsync/freshness.py",
        "        if not is_watched:\n",
        "        if False:\n",
        ("tests/mcp/test_tools.py",),
    ),
    "assistant-takes-over-at-once": Mistake(
        "a service that is restarted finds its place taken by an assistant",
        "kbsync/cli/commands/mcp/serving.py",
        "free = 0 if has_run else free + 1",
        "free = FREE_FOR",
        ("tests/mcp/test_program.py",),
    ),
    "assistant-follows-a-daemon-at-once": Mistake(
        "an assistant that was started beside a daemon takes its lock during a restart",
        "kbsync/cli/commands/mcp/serving.py",
        "failures = free = 0",
        "failures = 0",
        ("tests/mcp/test_program.py",),
    ),
    "assistant-takes-a-comparison-for-granted": Mistake(
        "after a restart an assistant is told that an answer is as of now, though the folder was not compared",
        "kbsync/freshness.py",
        "self.is_worked_on and self.is_compared and",
        "self.is_worked_on and",
        ("tests/mcp/test_tools.py",),
    ),
    "edit-of-equal-length-unnoticed": Mistake(
        "an assistant reads other bytes than those that were mirrored",
        "kbsync/source/read.py",
        "        if spool.digest != expected_digest:\n",
        "        if False:\n",
        ("tests/mcp/test_services.py",),
    ),
    "assistant-waits-for-known-changes-only": Mistake(
        "a search that waits right after an edit answers without it",
        "kbsync/cli/commands/mcp/library.py",
        "                if is_seen or not seconds:\n",
        "                if True:\n",
        ("tests/mcp/test_tools.py",),
    ),
    "repair-of-another-base": Mistake(
        "a repair asked of a damaged knowledge base sends the documents of its successor twice",
        "kbsync/engine/inbox.py",
        'if message.args.get("base", self._journal.binding.base) != self._journal.binding.base:',
        "if False:",
        ("tests/engine/test_verify.py", "tests/cli/test_verify.py"),
    ),
}
