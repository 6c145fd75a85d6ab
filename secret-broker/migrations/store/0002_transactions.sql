-- The transaction that an operation will be, where that has another id than the operation.
ALTER TABLE operations ADD COLUMN transaction_id TEXT;
