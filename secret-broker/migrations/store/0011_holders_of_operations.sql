-- Which broker works on an operation, and until when that counts, Unix milliseconds; a file has one broker.
ALTER TABLE operations ADD COLUMN holder TEXT;
ALTER TABLE operations ADD COLUMN held_until_ms INTEGER NOT NULL DEFAULT 0;

-- `key` is a word of SQL elsewhere.
ALTER TABLE idempotency_keys RENAME COLUMN key TO idempotency_key;

-- Counts changes of what brokers have in memory; a file's broker made them itself.
CREATE TABLE marks (
    name   TEXT    PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT;

INSERT INTO marks (name, number) VALUES ('bindings', 0);
