-- Data keys that the ledger was seen to let go, and that are destroyed once it has said so for long enough. A row stays for a while after
-- that: it tells how many went lately.
CREATE TABLE doomed_keys (
    dataset_id     TEXT    PRIMARY KEY,
    reason         TEXT    NOT NULL CHECK (reason IN ('retired', 'superseded')),
    -- Those before this version; all of them where there is none.
    before_version INTEGER,
    ledger_height  INTEGER NOT NULL,
    -- None until the block was looked at, and on a channel.
    block_hash     BLOB,
    transaction_id TEXT,
    seen_at        INTEGER NOT NULL,
    held_at        INTEGER,
    released_at    INTEGER,
    destroyed_at   INTEGER
) STRICT;
