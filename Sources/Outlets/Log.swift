// How a log line looks: one line an event, as text for people or JSON for machines, with what identifies it (lease,
// node, epoch) as metadata. Behind swift-log, so that levels and metadata are everyone's.

import Glibc
import Logging
import Text

package enum LogFormat: String, CaseIterable, Sendable {
    case text
    case json
}

/// A swift-log handler that formats and hands over to the sink.
package struct SinkLogHandler: LogHandler {
    let sink: LogSink
    let format: LogFormat
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]

    package init(sink: LogSink, format: LogFormat, logLevel: Logger.Level) {
        self.sink = sink
        self.format = format
        self.logLevel = logLevel
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let details = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        sink.append(
            Self.line(format, level: event.level, "\(event.message)", details: details.map { ($0.key, "\($0.value)") }))
    }

    /// The event as it is written. A message is cut where it would be too long: some of it is the server's, and the
    /// queue of lines is bounded by their number.
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
