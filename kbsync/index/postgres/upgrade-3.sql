-- From layout 2 to 3: the words of a name belong to the document, no longer to each of its passages.
-- kbsync runs this itself if its role owns the tables. Otherwise an administrator runs it in one transaction:
--   psql -1 -v ON_ERROR_STOP=1 -d kb -f upgrade-3.sql
-- Each mirror then removes the names from its own passages; searches still find them meanwhile.
LOCK TABLE kbsync.base, kbsync.owner, kbsync.document IN ACCESS EXCLUSIVE MODE;
-- From here on, a running kbsync of layout 2 can't write any more.
UPDATE kbsync.owner SET generation = generation + 1;
ALTER TABLE kbsync.document ADD COLUMN terms integer[] NOT NULL DEFAULT '{}';
ALTER TABLE kbsync.document ALTER COLUMN terms DROP DEFAULT;
UPDATE kbsync.document SET tokeniser = 0;
CREATE INDEX document_tokeniser ON kbsync.document (owner, tokeniser);
CREATE INDEX document_terms ON kbsync.document USING gin (terms) WITH (gin_pending_list_limit = 64);
UPDATE kbsync.base SET version = 3;
