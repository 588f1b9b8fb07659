// The schema `sidecar` and its versioned migrations. A migration runs in one transaction, guarded by an advisory lock that
// is tried and never waited for, so that any number of sidecars may start on an empty database at once.

import Postgres

/// The tables of the lease and how they came to be.
public enum Schema {
    /// One step from version - 1 to version.
    public struct Migration: Sendable {
        public let version: Int
        /// The oldest version of the program that can still work with the result.
        public let compatibleFrom: Int
        public let sql: String
    }

    /// The version this program writes.
    public static var current: Int { migrations.count }

    /// All steps, oldest first; the first one creates the schema.
    public static let migrations: [Migration] = [
        Migration(version: 1, compatibleFrom: 1, sql: version1)
    ]

    /// The advisory lock of a migration ("sidecar" in ASCII, and 1).
    static let lockKey: Int64 = 0x0173_6964_6563_6172

    /// The SQL that brings a database from `version` (0: nothing there) to `current`, as one transaction when sent as
    /// one script; nil when nothing is to be done.
    public static func upgrade(from version: Int) -> String? {
        guard version < current else { return nil }
        var parts = [guardAgainstOthers]
        for migration in migrations where migration.version > version {
            parts.append(migration.sql)
            parts.append(
                """
                INSERT INTO sidecar.schema_version (version, compatible_from)
                    VALUES (\(migration.version), \(migration.compatibleFrom));
                """)
        }
        return parts.joined(separator: "\n\n")
    }

    /// For SQL that is run by hand: says what to do where the schema exists.
    public static let refuseExisting = """
        DO $$ BEGIN
            IF to_regclass('sidecar.schema_version') IS NOT NULL THEN
                RAISE EXCEPTION 'the schema "sidecar" is already there: `sidecar migrate` upgrades it';
            END IF;
        END $$;
        """

    private static let guardAgainstOthers = """
        DO $$ BEGIN
            IF NOT pg_catalog.pg_try_advisory_xact_lock(\(lockKey)) THEN
                RAISE EXCEPTION 'another sidecar is migrating the schema' USING ERRCODE = 'lock_not_available';
            END IF;
        END $$;
        """

    /// A schema that somebody else has put there could be changed or dropped by them under every sidecar. A superuser is a
    /// member of every role, so membership says nothing of it.
    private static let refuseStrangersSchema = """
        DO $$ DECLARE stranger name; BEGIN
            SELECT o.rolname INTO stranger
                FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_roles AS o ON o.oid = n.nspowner
                WHERE n.nspname = 'sidecar' AND NOT o.rolsuper
                    AND o.rolname NOT IN (current_user, 'pg_database_owner')
                    AND n.nspowner <> (SELECT d.datdba FROM pg_catalog.pg_database AS d
                        WHERE d.datname = pg_catalog.current_database())
                    AND ((SELECT me.rolsuper FROM pg_catalog.pg_roles AS me WHERE me.rolname = current_user)
                        OR NOT pg_catalog.pg_has_role(n.nspowner, 'MEMBER'));
            IF stranger IS NOT NULL THEN
                RAISE EXCEPTION 'the schema "sidecar" is there already and belongs to role "%", which is neither this role ("%") '
                    'nor one that it is a member of, nor the owner of the database: drop it, or ALTER SCHEMA sidecar OWNER TO '
                    'the role that shall own it', stranger, current_user
                    USING ERRCODE = 'object_not_in_prerequisite_state';
            END IF;
        END $$;
        """

    private static let version1 = """
        \(refuseStrangersSchema)

        CREATE SCHEMA IF NOT EXISTS sidecar;

        CREATE TABLE sidecar.schema_version (
            version         integer PRIMARY KEY,
            compatible_from integer NOT NULL,
            applied_at      timestamptz NOT NULL DEFAULT now()
        );

        -- One row a lease. Decisions use epoch, beat, holder, ttl_ms, released, suspended, backend_*, server;
        -- everything with a wall clock is for people.
        CREATE TABLE sidecar.lease (
            name           text PRIMARY KEY,
            epoch          bigint NOT NULL CHECK (epoch BETWEEN 0 AND 9000000000000000),
            beat           bigint NOT NULL CHECK (beat BETWEEN 0 AND 9000000000000000),
            holder         uuid,
            node           text,
            version        text,
            ttl_ms         bigint NOT NULL CHECK (ttl_ms BETWEEN 500 AND 3600000),
            renew_ms       bigint NOT NULL CHECK (renew_ms BETWEEN 20 AND 1800000),
            released       boolean NOT NULL,
            suspended      boolean NOT NULL DEFAULT false,
            backend_pid    integer,
            backend_start  timestamptz,
            server         timestamptz NOT NULL CHECK (isfinite(server)),
            request        text,
            request_epoch  bigint,
            request_target text,
            requested_by   text,
            requested_at   timestamptz,
            claimed_at     timestamptz,
            renewed_at     timestamptz NOT NULL CHECK (isfinite(renewed_at))
        ) WITH (fillfactor = 50);

        CREATE TABLE sidecar.member (
            lease       text NOT NULL,
            instance    uuid NOT NULL,
            node        text NOT NULL,
            version     text NOT NULL,
            priority    integer NOT NULL DEFAULT 0,
            leads       boolean NOT NULL,
            healthy     boolean NOT NULL,
            ttl_ms      bigint NOT NULL,
            backend_pid integer,
            started_at  timestamptz NOT NULL,
            last_seen   timestamptz NOT NULL,
            PRIMARY KEY (lease, instance)
        ) WITH (fillfactor = 50);

        CREATE TABLE sidecar.history (
            id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            lease      text NOT NULL,
            epoch      bigint NOT NULL,
            instance   uuid NOT NULL,
            node       text NOT NULL,
            version    text NOT NULL,
            started_at timestamptz NOT NULL,
            ended_at   timestamptz,
            reason     text
        );
        CREATE INDEX history_lease ON sidecar.history (lease, epoch);
        """
}
