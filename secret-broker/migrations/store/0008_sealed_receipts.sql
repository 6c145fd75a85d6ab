-- Each receipt is sealed by the ring, over the seal of the one before; those of before have none.
ALTER TABLE key_receipts ADD COLUMN seal BLOB;
