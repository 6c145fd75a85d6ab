-- An undecided operation waits until a time, Unix milliseconds: when it was accepted or, after tries that came to nothing, later.
ALTER TABLE operations ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN due_ms INTEGER NOT NULL DEFAULT 0;

UPDATE operations SET due_ms = created_at * 1000;

CREATE INDEX due_operations ON operations (tries > 0, due_ms, sequence) WHERE status IN ('pending', 'running');
CREATE INDEX undecided_operations ON operations (submitter, sequence) WHERE status IN ('pending', 'running');
DROP INDEX unfinished_operations;
