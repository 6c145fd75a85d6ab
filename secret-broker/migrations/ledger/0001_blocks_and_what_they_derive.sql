-- The blocks are the ledger. Everything else in this file's tables is derived from them and can be rebuilt.
CREATE TABLE blocks (
    height        INTEGER NOT NULL PRIMARY KEY, -- from 0, without gaps
    previous_hash BLOB    NOT NULL,             -- hash of the block before; zeros at height 0
    timestamp_ms  INTEGER NOT NULL,             -- never before that of the block before
    body          TEXT    NOT NULL,             -- canonical JSON: the genesis, or transactions in their order
    body_hash     BLOB    NOT NULL,             -- SHA-256 of the body
    hash          BLOB    NOT NULL              -- SHA-256 over height, previous hash, timestamp and body hash
) STRICT;

-- Against mistakes, not against attackers: those are found by the hashes.
CREATE TRIGGER blocks_never_change BEFORE UPDATE ON blocks
BEGIN
    SELECT RAISE(ABORT, 'a block never changes');
END;
CREATE TRIGGER blocks_never_go BEFORE DELETE ON blocks
BEGIN
    SELECT RAISE(ABORT, 'a block is never removed');
END;

-- Derived: where a transaction is, so that one submitted twice is committed once.
CREATE TABLE transactions (
    tx_id    TEXT    NOT NULL PRIMARY KEY,
    height   INTEGER NOT NULL,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Derived: the contract's state after the last block, history included.
CREATE TABLE state (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
