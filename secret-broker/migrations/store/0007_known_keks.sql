-- Versions of the key-encryption key that were accepted: an envelope that only that key makes, sealed by the ring.
CREATE TABLE known_keks (
    version     INTEGER PRIMARY KEY,
    check_value BLOB    NOT NULL,
    seal        BLOB    NOT NULL,
    known_at    INTEGER NOT NULL
) STRICT;
