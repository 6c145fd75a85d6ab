-- The blocks are the ledger. Everything else in these tables is derived from them and can be rebuilt.
CREATE TABLE leasehold.blocks (
    height        bigint NOT NULL PRIMARY KEY, -- from 0, without gaps
    previous_hash bytea  NOT NULL,             -- hash of the block before; zeros at height 0
    timestamp_ms  bigint NOT NULL,             -- never before that of the block before
    body          text   NOT NULL,             -- canonical JSON: the genesis, a key's change, or transactions in their order
    body_hash     bytea  NOT NULL,             -- SHA-256 of the body
    hash          bytea  NOT NULL,             -- SHA-256 over height, previous hash and signature, timestamp and body hash
    signer        bytea,                       -- public half of the Ed25519 key that signed; null in what an early version wrote
    signature     bytea                        -- over ledger id, height, timestamp and hash
);

-- Against mistakes, not against attackers: those are found by the hashes and signatures.
CREATE FUNCTION leasehold.a_block_stays() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 'a block never changes and is never removed'; END$$;
CREATE TRIGGER blocks_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON leasehold.blocks
    FOR EACH STATEMENT EXECUTE FUNCTION leasehold.a_block_stays();
ALTER TABLE leasehold.blocks ENABLE ALWAYS TRIGGER blocks_stay;

-- Derived: where a transaction is, so that one submitted twice is committed once.
CREATE TABLE leasehold.transactions (
    tx_id    text COLLATE "C" NOT NULL PRIMARY KEY,
    height   bigint           NOT NULL,
    position bigint           NOT NULL
);

-- Derived: the contract's state after the last block, history included. Keys are in the order of their bytes.
CREATE TABLE leasehold.state (
    key   text COLLATE "C" NOT NULL PRIMARY KEY,
    value text             NOT NULL
);
