-- Roles and groups that a person's issuer told when their notebook was last bound; what is written is JSON.
CREATE TABLE standings (
    pseudonym TEXT PRIMARY KEY REFERENCES subjects (pseudonym) ON DELETE CASCADE,
    standing  TEXT    NOT NULL,
    told_at   INTEGER NOT NULL
) STRICT;
