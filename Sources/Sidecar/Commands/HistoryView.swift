// Shows the history of a lease: as a table for people, as JSON for scripts.

import Clock
import Metastore
import Text

/// The last leaderships of a lease, newest first, ready to be shown.
struct HistoryView {
    let lease: String
    let entries: [HistoryEntry]

    func table(wide: Bool) -> String {
        guard !entries.isEmpty else { return "lease '\(lease)' had no leader in that time" }
        var table = [
            ["EPOCH", "NODE", "STARTED", "ENDED", "LASTED", "GAP"] + (wide ? ["PREVIOUS", "VERSION", "INSTANCE"] : [])
                + ["REASON"]
        ]
        for entry in entries {
            var row = [
                entry.epoch.map { "\($0)" } ?? "", entry.node ?? "", entry.startedAt ?? "", entry.endedAt ?? "-",
                LeaseView.age(entry.lasted), LeaseView.age(entry.gap),
            ]
            if wide { row += [entry.previous ?? "-", entry.version ?? "", entry.instance?.rawValue ?? ""] }
            table.append(row + [reason(entry)])
        }
        return TextTable.render(table)
    }

    /// What is not known is not guessed: a crashed leader's end is written by the next leader.
    private func reason(_ entry: HistoryEntry) -> String {
        if entry.endedAt != nil { return entry.reason ?? "" }
        if entry.isCurrent == true { return "leads now" }
        guard let silent = entry.silent else { return "its end is not known" }
        return "nobody leads: not renewed for \(LeaseView.age(silent))"
    }

    var json: String {
        let rows = entries.map { entry in
            JSONObject([
                ("epoch", .number(entry.epoch?.rawValue)), ("node", .text(entry.node)),
                ("instance", .text(entry.instance?.rawValue)), ("version", .text(entry.version)),
                ("started_at", .text(entry.startedAt)), ("ended_at", .text(entry.endedAt)),
                ("lasted_ms", .number(entry.lasted?.milliseconds)), ("gap_ms", .number(entry.gap?.milliseconds)),
                ("previous_node", .text(entry.previous)), ("leads_now", .truth(entry.isCurrent ?? false)),
                ("not_renewed_ms", .number(entry.silent?.milliseconds)), ("reason", .text(entry.reason)),
            ])
        }
        return JSONObject([("lease", .text(lease)), ("history", .list(rows))]).text
    }
}
