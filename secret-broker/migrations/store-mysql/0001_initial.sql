-- Keys, people and accepted work of an organisation's brokers. Times are Unix seconds. Texts compare by their bytes.

-- Whoever writes holds its one row until its transaction ends.
CREATE TABLE turns (
    number BIGINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;

INSERT INTO turns (number) VALUES (1);

CREATE TABLE data_keys (
    dataset_id  VARCHAR(128)  NOT NULL,
    version     BIGINT        NOT NULL,
    kek_version BIGINT        NOT NULL,
    wrapped     VARBINARY(4096) NOT NULL,
    created_at  BIGINT        NOT NULL,
    PRIMARY KEY (dataset_id, version),
    KEY data_keys_by_kek (kek_version, dataset_id, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

-- Texts that differ in spaces at their end alone would count as one; a hash of them does not.
CREATE TABLE subjects (
    pseudonym  VARCHAR(128) NOT NULL PRIMARY KEY,
    issuer     TEXT         NOT NULL,
    sub        TEXT         NOT NULL,
    username   TEXT,
    created_at BIGINT       NOT NULL,
    who        VARCHAR(64)  GENERATED ALWAYS AS (sha2(concat(issuer, char(0 USING utf8mb4), sub), 256)) STORED,
    UNIQUE KEY subjects_by_issuer (who)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE bindings (
    notebook_uid  VARCHAR(255) NOT NULL PRIMARY KEY,
    notebook_name VARCHAR(255) NOT NULL,
    executor_uid  VARCHAR(255) NOT NULL,
    executor_name VARCHAR(255) NOT NULL,
    namespace     VARCHAR(255) NOT NULL,
    pseudonym     VARCHAR(128) NOT NULL,
    home_claim    VARCHAR(255) NOT NULL,
    home_sub_path TEXT         NOT NULL,
    home_mount    TEXT         NOT NULL,
    bound_at      BIGINT       NOT NULL,
    UNIQUE KEY bindings_of_executor (executor_uid),
    UNIQUE KEY bindings_of_person (pseudonym, namespace),
    CONSTRAINT bindings_name_a_person FOREIGN KEY (pseudonym) REFERENCES subjects (pseudonym)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

-- Roles and groups that a person's issuer told when their notebook was last bound; what is written is JSON.
CREATE TABLE standings (
    pseudonym VARCHAR(128) NOT NULL PRIMARY KEY,
    standing  MEDIUMTEXT   NOT NULL,
    told_at   BIGINT       NOT NULL,
    CONSTRAINT standings_name_a_person FOREIGN KEY (pseudonym) REFERENCES subjects (pseudonym) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

-- An accepted write. `command` is what the ledger will be asked; it goes once that is decided. Undecided, it waits until `due_ms`, Unix
-- milliseconds; a broker that works on it is its holder until `held_until_ms`, or until it says so again.
CREATE TABLE operations (
    sequence          BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    id                VARCHAR(64)  NOT NULL,
    transaction_id    VARCHAR(128),
    kind              VARCHAR(64)  NOT NULL,
    submitter         VARCHAR(128) NOT NULL,
    status            VARCHAR(16)  NOT NULL CHECK (status IN ('pending', 'running', 'succeeded', 'failed')),
    command           MEDIUMTEXT,
    result            MEDIUMTEXT,
    problem           MEDIUMTEXT,
    expected_revision BIGINT,
    tries             BIGINT       NOT NULL DEFAULT 0,
    due_ms            BIGINT       NOT NULL DEFAULT 0,
    holder            VARCHAR(64),
    held_until_ms     BIGINT       NOT NULL DEFAULT 0,
    created_at        BIGINT       NOT NULL,
    finished_at       BIGINT,
    UNIQUE KEY operations_by_id (id),
    KEY due_operations (status, due_ms, sequence),
    KEY finished_operations (finished_at),
    KEY operations_of_a_person (submitter, sequence)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

-- The fingerprint is keyed: a request may hold a credential.
CREATE TABLE idempotency_keys (
    submitter       VARCHAR(128) NOT NULL,
    idempotency_key VARCHAR(255) NOT NULL,
    fingerprint     VARBINARY(64) NOT NULL,
    operation_id    VARCHAR(64)  NOT NULL,
    created_at      BIGINT       NOT NULL,
    PRIMARY KEY (submitter, idempotency_key),
    CONSTRAINT idempotency_keys_name_an_operation FOREIGN KEY (operation_id) REFERENCES operations (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

-- Directory names of a dataset, as the node last saw them; for leaseholders only.
CREATE TABLE skeletons (
    dataset_id  VARCHAR(128) NOT NULL PRIMARY KEY,
    directories MEDIUMTEXT   NOT NULL,
    reported_at BIGINT       NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

-- Versions of the key-encryption key that are on their way out of the ring: nothing may be wrapped by one any longer.
CREATE TABLE retired_keks (
    version    BIGINT NOT NULL PRIMARY KEY,
    retired_at BIGINT NOT NULL
) ENGINE = InnoDB;

-- Versions of the key-encryption key that were accepted: an envelope that only that key makes, sealed by the ring.
CREATE TABLE known_keks (
    version     BIGINT          NOT NULL PRIMARY KEY,
    check_value VARBINARY(4096) NOT NULL,
    seal        VARBINARY(4096) NOT NULL,
    known_at    BIGINT          NOT NULL
) ENGINE = InnoDB;

-- What was destroyed, why, and what allowed it. The bytes themselves are gone: their hash tells which they were. Each is sealed by the
-- ring, over the seal of the one before.
CREATE TABLE key_receipts (
    sequence       BIGINT        NOT NULL AUTO_INCREMENT PRIMARY KEY,
    dataset_id     VARCHAR(128)  NOT NULL,
    version        BIGINT        NOT NULL,
    kek_version    BIGINT        NOT NULL,
    wrapped_sha256 VARBINARY(64) NOT NULL,
    reason         VARCHAR(16)   NOT NULL CHECK (reason IN ('retired', 'superseded', 'unused')),
    ledger_height  BIGINT,
    transaction_id VARCHAR(128),
    destroyed_at   BIGINT        NOT NULL,
    seal           VARBINARY(64),
    KEY key_receipts_of_dataset (dataset_id, sequence)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

-- Data keys that the ledger was seen to let go, and that are destroyed once it has said so for long enough: those before a version, or all.
CREATE TABLE doomed_keys (
    dataset_id     VARCHAR(128) NOT NULL PRIMARY KEY,
    reason         VARCHAR(16)  NOT NULL CHECK (reason IN ('retired', 'superseded')),
    before_version BIGINT,
    ledger_height  BIGINT       NOT NULL,
    block_hash     VARBINARY(64),
    transaction_id VARCHAR(128),
    seen_at        BIGINT       NOT NULL,
    held_at        BIGINT,
    released_at    BIGINT,
    destroyed_at   BIGINT
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

-- Counts changes of what brokers have in memory, so that each sees that another has changed it.
CREATE TABLE marks (
    name   VARCHAR(64) NOT NULL PRIMARY KEY,
    number BIGINT      NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

INSERT INTO marks (name, number) VALUES ('bindings', 0);
