// The schema `sidecar` and its versioned migrations. A migration runs in one transaction, guarded
// by an advisory lock that is tried and never waited for, so that any number of sidecars may start
// on an empty database at once.
//
// What a table refers to (types, functions in its defaults, operators in its checks) is looked up
// once, when the table is created. So the script sets the search_path itself and also writes names
// in full. Otherwise an owner with another search_path would let another role's functions run with
// this role's rights forever.

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

    /// The SQL that brings a database from `version` (0: nothing there) to `current`, as one
    /// transaction when sent as one script; nil when nothing is to be done.
    public static func upgrade(from version: Int) -> String? {
        guard version < current else { return nil }
        var parts = ["SET LOCAL search_path = pg_catalog;", guardAgainstOthers]
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

    /// The SQL for an empty database, to be run by hand.
    public static var byHand: String {
        (["BEGIN;", "SET LOCAL search_path = pg_catalog;", refuseExisting] + [upgrade(from: 0) ?? "", "COMMIT;"])
            .joined(separator: "\n\n")
    }

    /// For SQL that is run by hand: says what to do where the schema exists.
    private static let refuseExisting = """
        DO $$ BEGIN
            IF pg_catalog.to_regclass('sidecar.schema_version') IS NOT NULL THEN
                RAISE EXCEPTION 'the schema "sidecar" already exists: `sidecar migrate` upgrades it';
            END IF;
        END $$;
        """

    private static let guardAgainstOthers = """
        DO $$ BEGIN
            IF NOT pg_catalog.pg_try_advisory_xact_lock(\(lockKey)) THEN
                RAISE EXCEPTION 'another sidecar is creating or upgrading the schema' USING ERRCODE = 'lock_not_available';
            END IF;
        END $$;
        """
}
