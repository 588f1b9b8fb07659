// Which version the schema has, and from which version on a program can work with it.

import Postgres

struct ReadSchemaVersion: OneRowStatement {
    enum Column: String, ColumnName {
        case version
        case compatibleFrom = "compatible_from"
    }

    struct Answer {
        let version: Int
        let compatibleFrom: Int
    }

    var sql: SQL {
        """
        SELECT coalesce(max(v.version), 0) AS \(Column.version), coalesce((
            SELECT l.compatible_from FROM sidecar.schema_version AS l ORDER BY l.version DESC LIMIT 1
        ), 0) AS \(Column.compatibleFrom) FROM sidecar.schema_version AS v
        """
    }

    func read(_ row: Row<Column>) throws(UnreadableReply) -> Answer {
        guard let version = row.int64(.version), let compatibleFrom = row.int64(.compatibleFrom) else {
            throw UnreadableReply(what: "the schema's version")
        }
        return Answer(version: Int(version), compatibleFrom: Int(compatibleFrom))
    }
}
