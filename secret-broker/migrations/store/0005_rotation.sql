-- Versions of the key-encryption key that are on their way out of the ring: nothing may be wrapped by one any longer.
CREATE TABLE retired_keks (
    version    INTEGER PRIMARY KEY,
    retired_at INTEGER NOT NULL
) STRICT;

-- What was destroyed, why, and what allowed it. The bytes themselves are gone: their hash tells which they were.
CREATE TABLE key_receipts (
    sequence       INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset_id     TEXT    NOT NULL,
    version        INTEGER NOT NULL,
    kek_version    INTEGER NOT NULL,
    wrapped_sha256 BLOB    NOT NULL,
    reason         TEXT    NOT NULL CHECK (reason IN ('retired', 'superseded', 'unused')),
    ledger_height  INTEGER,
    transaction_id TEXT,
    destroyed_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX key_receipts_of_dataset ON key_receipts (dataset_id, sequence);
CREATE INDEX data_keys_by_kek ON data_keys (kek_version, dataset_id, version);
