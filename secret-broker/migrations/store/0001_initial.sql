-- Keys, people and accepted work of one broker. Times are Unix seconds.

CREATE TABLE data_keys (
    dataset_id  TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    kek_version INTEGER NOT NULL,
    wrapped     BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (dataset_id, version)
) STRICT;

CREATE TABLE subjects (
    pseudonym  TEXT PRIMARY KEY,
    issuer     TEXT NOT NULL,
    sub        TEXT NOT NULL,
    username   TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (issuer, sub)
) STRICT;

CREATE TABLE bindings (
    notebook_uid  TEXT PRIMARY KEY,
    notebook_name TEXT NOT NULL,
    executor_uid  TEXT NOT NULL UNIQUE,
    executor_name TEXT NOT NULL,
    namespace     TEXT NOT NULL,
    pseudonym     TEXT NOT NULL REFERENCES subjects (pseudonym),
    home_claim    TEXT NOT NULL,
    home_sub_path TEXT NOT NULL,
    home_mount    TEXT NOT NULL,
    bound_at      INTEGER NOT NULL,
    UNIQUE (pseudonym, namespace)
) STRICT;

-- An accepted write. `command` is what the ledger will be asked; it goes once that is decided.
CREATE TABLE operations (
    sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    kind        TEXT    NOT NULL,
    submitter   TEXT    NOT NULL,
    status      TEXT    NOT NULL CHECK (status IN ('pending', 'running', 'succeeded', 'failed')),
    command     TEXT,
    result      TEXT,
    problem     TEXT,
    created_at  INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;

CREATE INDEX unfinished_operations ON operations (sequence) WHERE status IN ('pending', 'running');

-- The fingerprint is keyed: a request may hold a credential.
CREATE TABLE idempotency_keys (
    submitter    TEXT NOT NULL,
    key          TEXT NOT NULL,
    fingerprint  BLOB NOT NULL,
    operation_id TEXT NOT NULL REFERENCES operations (id),
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (submitter, key)
) STRICT;

-- Directory names of a dataset, as the node last saw them; for leaseholders only.
CREATE TABLE skeletons (
    dataset_id  TEXT PRIMARY KEY,
    directories TEXT NOT NULL,
    reported_at INTEGER NOT NULL
) STRICT;
