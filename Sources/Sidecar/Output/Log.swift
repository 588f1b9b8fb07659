// How a log line looks: one line an event, as text for people or JSON for machines, with what identifies it (lease, node,
// epoch) as metadata. Behind swift-log, so that levels and metadata are everyone's.

import Clock
import FoundationEssentials
import Glibc
import Logging
import Postgres

/// A swift-log handler that formats and hands over to the sink.
struct SinkLogHandler: LogHandler {
    let sink: LogSink
    let format: LogFormat
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let details = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        sink.append(
            Self.line(format, level: event.level, "\(event.message)", details: details.map { ($0.key, "\($0.value)") }))
    }

    /// The event as it is written. A message is cut where it would be too long: some of it is the server's, and the queue
    /// of lines is bounded by their number.
    static func line(
        _ format: LogFormat, level: Logger.Level, _ message: String, details: [(key: String, value: String)]
    ) -> String {
        let message = oneLine(message, longest: 4000)
        switch format {
        case .text:
            let details = details.map { " \($0.key)=\(quoted($0.value))" }.joined()
            return "\(Timestamp.now()) \(level.rawValue.uppercased()) \(message)\(details)"
        case .json:
            let fields = [("time", Timestamp.now()), ("level", level.rawValue), ("message", message)] + details
            return "{" + fields.map { "\(JSON.string($0.0)):\(JSON.string($0.1))" }.joined(separator: ",") + "}"
        }
    }

    private static func quoted(_ value: String) -> String {
        let plain = !value.isEmpty && value.utf8.allSatisfy { $0 > 32 && $0 != 34 && $0 != 61 && $0 < 127 }
        return plain ? value : JSON.string(value)
    }
}

/// The little JSON that is written by hand, where an encoder would need a type for a handful of strings.
enum JSON {
    static func string(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\r": quoted += "\\r"
            case "\t": quoted += "\\t"
            default:
                // Those beyond ASCII, too: a terminal obeys U+009B, and some readers end a line at U+2028.
                if scalar.breaksLine {
                    let digits = String(scalar.value, radix: 16)
                    quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                } else {
                    quoted.unicodeScalars.append(scalar)
                }
            }
        }
        return quoted + "\""
    }
}

/// Wall-clock time for people: `2026-11-24T13:50:00.123Z`.
enum Timestamp {
    static func now() -> String {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        var seconds = time.tv_sec
        var parts = tm()
        gmtime_r(&seconds, &parts)
        var buffer = [CChar](repeating: 0, count: 32)
        strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%S", &parts)
        let text = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let fraction = String(time.tv_nsec / 1_000_000)
        return "\(text).\(String(repeating: "0", count: 3 - fraction.count))\(fraction)Z"
    }
}
