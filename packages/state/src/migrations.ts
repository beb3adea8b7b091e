/**
 * The database's tables, as the steps that make them. A step that was ever released is never changed: a new version
 * adds one. All steps that are missing run in one transaction, so a database has one version or the next.
 *
 * Times are milliseconds since 1970, digests are SHA-256.
 */
const NAME_CHECK = (column: string): string => `CHECK (length(${column}) BETWEEN 1 AND 63)`;
const DIGEST_CHECK = (column: string): string => `CHECK (length(${column}) = 32)`;

export const MIGRATIONS: readonly string[] = [
  `
  -- The one cluster that this home belongs to; one row or none.
  CREATE TABLE cluster (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    -- In every certificate; the name is what people call it.
    id TEXT NOT NULL ${NAME_CHECK('id')},
    name TEXT NOT NULL ${NAME_CHECK('name')},
    -- Of the authority's public key.
    authority BLOB NOT NULL ${DIGEST_CHECK('authority')},
    -- The node on whose machine the coordinator runs.
    node TEXT NOT NULL ${NAME_CHECK('node')},
    -- Grows with each revocation: of two lists of revoked certificates the one with the higher epoch counts.
    revocation_epoch INTEGER NOT NULL CHECK (revocation_epoch >= 0),
    created_at_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE nodes (
    name TEXT PRIMARY KEY ${NAME_CHECK('name')},
    -- host:port where its agent was last heard of, the likeliest first; empty before it first started.
    addresses TEXT NOT NULL DEFAULT '[]'
      CHECK (json_valid(addresses) AND json_type(addresses) = 'array' AND length(addresses) <= 4096),
    -- Of the node's public key: the same name with another key is another machine.
    key_digest BLOB NOT NULL UNIQUE ${DIGEST_CHECK('key_digest')},
    joined_at_ms INTEGER NOT NULL,
    draining INTEGER NOT NULL DEFAULT 0 CHECK (draining IN (0, 1))
  ) STRICT, WITHOUT ROWID;

  -- Outlives its node: who was removed must stay shut out.
  CREATE TABLE certificates (
    serial TEXT PRIMARY KEY CHECK (length(serial) BETWEEN 2 AND 40),
    node TEXT NOT NULL ${NAME_CHECK('node')},
    not_after_ms INTEGER NOT NULL,
    revoked_epoch INTEGER CHECK (revoked_epoch > 0)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX certificates_of_node ON certificates (node);
  CREATE INDEX certificates_revoked ON certificates (revoked_epoch) WHERE revoked_epoch IS NOT NULL;

  CREATE TABLE tokens (
    id TEXT PRIMARY KEY CHECK (length(id) = 16),
    secret_digest BLOB NOT NULL ${DIGEST_CHECK('secret_digest')},
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL CHECK (expires_at_ms > created_at_ms),
    used_at_ms INTEGER,
    -- Whose it became: only that name with that key may repeat the join.
    used_by TEXT ${NAME_CHECK('used_by')},
    used_key_digest BLOB ${DIGEST_CHECK('used_key_digest')},
    CHECK ((used_at_ms IS NULL) = (used_by IS NULL)),
    CHECK ((used_at_ms IS NULL) = (used_key_digest IS NULL))
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE models (
    name TEXT PRIMARY KEY ${NAME_CHECK('name')},
    digest BLOB NOT NULL ${DIGEST_CHECK('digest')},
    path TEXT NOT NULL CHECK (length(path) BETWEEN 1 AND 4096),
    size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
    architecture TEXT NOT NULL CHECK (length(architecture) BETWEEN 1 AND 63),
    imported_at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE deployments (
    name TEXT PRIMARY KEY ${NAME_CHECK('name')},
    model TEXT NOT NULL REFERENCES models (name),
    epoch INTEGER NOT NULL CHECK (epoch > 0),
    -- What is asked for; what is, the agents say.
    wanted TEXT NOT NULL CHECK (wanted IN ('up', 'down')),
    placement TEXT NOT NULL CHECK (json_valid(placement) AND length(placement) <= 1048576)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX deployments_of_model ON deployments (model);

  -- Append-only and chained: each entry's digest covers the one before it (events.ts).
  CREATE TABLE events (
    number INTEGER PRIMARY KEY CHECK (number > 0),
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 63),
    data TEXT NOT NULL CHECK (json_valid(data)),
    digest BLOB NOT NULL ${DIGEST_CHECK('digest')}
  ) STRICT;
  -- Where the chain ends, so that a chain which lost its end is seen.
  CREATE TABLE events_end (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    number INTEGER NOT NULL CHECK (number >= 0),
    digest BLOB NOT NULL ${DIGEST_CHECK('digest')}
  ) STRICT;
  INSERT INTO events_end (only_row, number, digest) VALUES (1, 0, zeroblob(32));
  CREATE TRIGGER events_unchanged BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
  CREATE TRIGGER events_kept BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
  `,
  `
  -- What the operator decided for the whole cluster, by name (policies.ts).
  CREATE TABLE policies (
    name TEXT PRIMARY KEY ${NAME_CHECK('name')},
    value TEXT NOT NULL ${NAME_CHECK('value')}
  ) STRICT, WITHOUT ROWID;

  -- Deployments of which an engine tried to get out: none is started again before somebody says so.
  CREATE TABLE quarantined (
    deployment TEXT PRIMARY KEY ${NAME_CHECK('deployment')},
    at_ms INTEGER NOT NULL,
    node TEXT NOT NULL ${NAME_CHECK('node')},
    kind TEXT NOT NULL ${NAME_CHECK('kind')},
    operation TEXT NOT NULL ${NAME_CHECK('operation')}
  ) STRICT, WITHOUT ROWID;
  `,
];
