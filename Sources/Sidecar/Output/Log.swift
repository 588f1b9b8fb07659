// How a log line looks: one line an event, as text for people or JSON for machines, with what identifies it (lease, node,
// epoch) as metadata. Behind swift-log, so that levels and metadata are everyone's.

import Clock
import FoundationEssentials
import Glibc
import Logging

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
        let all = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        switch format {
        case .text:
            let details = all.map { " \($0.key)=\(Self.quoted("\($0.value)"))" }.joined()
            sink.append(
                "\(Timestamp.now()) \(event.level.rawValue.uppercased()) \(Self.oneLine("\(event.message)"))\(details)")
        case .json:
            var fields = [("time", Timestamp.now()), ("level", event.level.rawValue), ("message", "\(event.message)")]
            fields += all.map { ($0.key, "\($0.value)") }
            sink.append("{" + fields.map { "\(JSON.string($0.0)):\(JSON.string($0.1))" }.joined(separator: ",") + "}")
        }
    }

    private static func quoted(_ value: String) -> String {
        let plain = !value.isEmpty && value.utf8.allSatisfy { $0 > 32 && $0 != 34 && $0 != 61 && $0 < 127 }
        return plain ? value : JSON.string(value)
    }

    private static func oneLine(_ text: String) -> String {
        text.contains(where: \.isNewline) ? text.split(whereSeparator: \.isNewline).joined(separator: " ") : text
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
                if scalar.value < 32 {
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
