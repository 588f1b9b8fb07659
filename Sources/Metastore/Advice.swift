// What to do about an error of PostgreSQL, in one line.

import Lease
import Postgres

/// What to do about what PostgreSQL refuses.
public enum Advice {
    /// The record's own row is not shown to this role.
    static let hidden = """
        the lease's record was created but cannot be read: a row filter (row-level security) hides it; give the role \
        a policy that \
        covers every row, or DISABLE ROW LEVEL SECURITY on the tables of schema "sidecar"
        """

    /// The last epoch that a clock can have written, with all the claims in its future (the year 5138).
    static let lastPlausibleEpoch: Int64 = 100_000_000_000_000

    /// Somebody has written the record's epoch by hand: no number of claims reaches such a value.
    /// - Parameter lease: a valid name. It holds nothing that would have to be quoted.
    static func implausible(_ epoch: Epoch, lease: String) -> String {
        """
        the record's epoch is \(epoch), too large to come from a clock: it was set by hand, \
        and claims fail at the end of its range: run \
        UPDATE sidecar.lease SET epoch = (SELECT greatest((extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
        max(h.epoch) + 1) FROM sidecar.history AS h WHERE h.lease = '\(lease)' AND h.epoch <= \(lastPlausibleEpoch)) \
        WHERE name = '\(lease)'
        """
    }

    /// Whether the same statement will be refused until a person changes something. Locks, limits,
    /// deadlocks and shutdowns are not of this kind.
    public static func isLasting(_ error: ServerError) -> Bool {
        let passing = ["08", "40", "53", "55P03", "57", "58", "XX"]
        return !error.sqlState.isEmpty && !passing.contains(where: error.sqlState.hasPrefix)
    }

    /// PostgreSQL's message, and what to do where the message does not say so.
    public static func text(_ error: ServerError, role: String?) -> String {
        let to = role.map { " to \"\($0)\"" } ?? ""
        let advice: String? =
            switch error.sqlState {
            case "42501" where error.message.contains("row-level security"):
                "give the role a policy that covers every row, "
                    + "or DISABLE ROW LEVEL SECURITY on the tables of schema \"sidecar\""
            case "42501" where error.message.contains("function"): "GRANT EXECUTE on that function\(to)"
            case "42501":
                "GRANT USAGE ON SCHEMA sidecar, and SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sidecar\(to)"
            case "55000" where error.message.contains("replica identity"):
                "ALTER TABLE that table REPLICA IDENTITY DEFAULT, or take schema \"sidecar\" out of the publication"
            case "22P05", "22021": "the database's encoding has no such character: give --node a name in ASCII"
            case "25006": "the role or the database has default_transaction_read_only on: turn it off for this role"
            case "21000": "\(UnreadableReply.severalRecords)"
            case "23514" where error.message.contains("lease_epoch_check"):
                "the record's epoch was set by hand and is at the end of its range, so no sidecar can claim: "
                    + "`sidecar check` prints the UPDATE that repairs it"
            case "42703", "42P01", "42883", "42804", "3F000", "23502", "23514", "23505", "23503":
                "schema \"sidecar\" is not as `sidecar migrate` made it: undo what was changed"
            case "55P03": "another session holds a lock on that table: find it in pg_locks"
            case "57014":
                "the statement took longer than its time limit, which grows with --ttl: "
                    + "raise --ttl, or find out what is slow"
            case let state where state.hasPrefix("P0"): "a trigger on the table refuses it: change or drop the trigger"
            default: nil
            }
        return advice.map { "\(error): \($0)" } ?? "\(error)"
    }
}
