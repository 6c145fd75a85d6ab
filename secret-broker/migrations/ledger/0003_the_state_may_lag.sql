-- Up to which block the tables `state` and `transactions` were derived. What the blocks after it lead to is in the broker's memory,
-- and is derived again from them when the ledger is opened.
CREATE TABLE derived (
    height INTEGER NOT NULL
) STRICT;
INSERT INTO derived (height) SELECT coalesce(max(height), 0) FROM blocks;
