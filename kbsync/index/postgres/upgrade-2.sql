-- From layout 1 to 2: deleting a document deletes everything that belongs to it, and a path has one document.
-- kbsync runs this itself if its role owns the tables. Otherwise an administrator runs it in one transaction:
--   psql -1 -v ON_ERROR_STOP=1 -d kb -f upgrade-2.sql
LOCK TABLE kbsync.base, kbsync.owner, kbsync.document, kbsync.passage, kbsync.words, kbsync.vector
  IN ACCESS EXCLUSIVE MODE;
-- From here on, a running kbsync of layout 1 can't write any more.
UPDATE kbsync.owner SET generation = generation + 1;

ALTER TABLE kbsync.document
  ADD COLUMN passages integer, ADD COLUMN words bigint, ADD COLUMN state uuid, ADD COLUMN is_current boolean;
-- Two states of one mirror stored some files twice. Keep the newest document.
DELETE FROM kbsync.document d USING (
  SELECT id, row_number() OVER (PARTITION BY owner, path ORDER BY created DESC, id DESC) AS place
  FROM kbsync.document) AS ranked
WHERE ranked.id = d.id AND place > 1;
DELETE FROM kbsync.passage p
  WHERE NOT EXISTS (SELECT FROM kbsync.document d WHERE d.content = p.content);
DELETE FROM kbsync.words w WHERE NOT EXISTS (SELECT FROM kbsync.passage p WHERE p.id = w.passage);
DELETE FROM kbsync.vector v WHERE NOT EXISTS (SELECT FROM kbsync.passage p WHERE p.id = v.passage);
-- A document without passages has lost them, because every document has at least one.
UPDATE kbsync.document d SET (passages, words) = (
    SELECT greatest(count(*), 1), coalesce(sum(length), 0)
    FROM kbsync.passage p LEFT JOIN kbsync.words w ON w.passage = p.id WHERE p.content = d.content),
  state = (SELECT token FROM kbsync.owner o WHERE o.id = d.owner), is_current = true;
ALTER TABLE kbsync.document
  ALTER COLUMN passages SET NOT NULL, ALTER COLUMN words SET NOT NULL,
  ALTER COLUMN state SET NOT NULL, ALTER COLUMN is_current SET NOT NULL;
UPDATE kbsync.owner o SET (documents, passages, words) = (
  SELECT count(*), coalesce(sum(d.passages), 0), coalesce(sum(d.words), 0)
  FROM kbsync.document d WHERE d.owner = o.id);

CREATE UNIQUE INDEX document_path ON kbsync.document (owner, sha256(path)) WHERE is_current;
ALTER INDEX kbsync.document_path ALTER COLUMN 2 SET STATISTICS 0;
-- Check the constraints, which may still be pending after the statements above.
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE kbsync.passage ADD FOREIGN KEY (content)
  REFERENCES kbsync.document (content) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE kbsync.words ADD FOREIGN KEY (passage) REFERENCES kbsync.passage ON DELETE CASCADE;
ALTER TABLE kbsync.vector ADD FOREIGN KEY (passage) REFERENCES kbsync.passage ON DELETE CASCADE;
UPDATE kbsync.base SET version = 2;
