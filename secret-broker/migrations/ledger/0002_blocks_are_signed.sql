-- Null in both for the blocks that an earlier version wrote; the first signed block after them vouches for them all.
ALTER TABLE blocks ADD COLUMN signer BLOB;    -- public half of the Ed25519 key that signed
ALTER TABLE blocks ADD COLUMN signature BLOB; -- over ledger id, height, timestamp and hash
