// Whatever a log message holds, it is one line.

import Testing
import Text

@testable import Outlets

@Suite("Log") struct LogTests {
    private func isOneLine(_ text: String) -> Bool { !text.unicodeScalars.contains { $0.breaksLine } }

    @Test("A log line is one line of bounded length", arguments: [LogFormat.text, .json])
    func logLines(format: LogFormat) {
        let nasty = "a\u{1B}[2J\u{9B}b\r\nc\u{2028}d\u{85}\u{7F}"
        let line = SinkLogHandler.line(format, level: .info, nasty, details: [("node", nasty)])
        #expect(isOneLine(line), "\(line.debugDescription)")
        #expect(line.contains("a[2Jb c d") && line.contains("\\u009b"))
        let long = SinkLogHandler.line(format, level: .info, String(repeating: "x", count: 1_200_000), details: [])
        #expect(long.utf8.count < 4200)
    }
}
