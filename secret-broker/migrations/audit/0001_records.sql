-- What was decided. A record is written once; what names it is the hash of its bytes.

CREATE TABLE records (
    number INTEGER PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    record TEXT    NOT NULL, -- JSON, the very bytes that are hashed
    hash   BLOB    NOT NULL, -- SHA-256
    seal   BLOB    NOT NULL  -- HMAC-SHA-256 of the hash, by a key of the organisation's ring
) STRICT;

CREATE INDEX records_by_time ON records (at_ms);
CREATE INDEX records_by_who ON records (record ->> 'who', number);
CREATE INDEX records_by_object ON records (record ->> 'object', number);

-- The last record that went when its time was over: the first one that is left names its hash.
CREATE TABLE base (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL,
    hash   BLOB    NOT NULL,
    seal   BLOB    NOT NULL
) STRICT;

-- Against mistakes. Who can write the file can drop them, and is found out by the seals.
CREATE TRIGGER records_never_change BEFORE UPDATE ON records
BEGIN SELECT raise(ABORT, 'audit records never change'); END;

CREATE TRIGGER records_go_by_age BEFORE DELETE ON records
WHEN old.number > coalesce((SELECT number FROM base), 0)
BEGIN SELECT raise(ABORT, 'audit records go by age only'); END;
