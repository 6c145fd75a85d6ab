-- The state is derived again from the blocks, so that a dataset's rows are few bytes and lie in few pages: places are packed, and
-- the text of a line of history, which is long and never changes, is in a table that only grows.
DROP TABLE state;
CREATE TABLE state (
    place BLOB NOT NULL PRIMARY KEY, -- what the key is made into, one to one
    value ANY  NOT NULL              -- a text; of a line of history the id of its row in `lines`
) STRICT, WITHOUT ROWID;
CREATE TABLE lines (
    id    INTEGER NOT NULL PRIMARY KEY, -- in the order of writing
    value TEXT    NOT NULL
) STRICT;
DELETE FROM transactions;
UPDATE derived SET height = 0;
