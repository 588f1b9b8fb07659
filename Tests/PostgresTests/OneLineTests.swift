// What a server, libpq or a table says, before somebody sees it: one line, of bounded length, without what a terminal obeys
// and without the password.

import Testing

@testable import Postgres

@Suite struct OneLineTests {
    private let nasty = "a\u{1B}[2Jb\u{7}c\u{9B}d\r\ne\u{2028}f\u{85}g\u{0}h\u{7F}\t \n"
    private let cleaned = "a[2Jbcd e f gh"

    @Test func controlCharactersAndLineBreaksGo() {
        #expect(oneLine(nasty) == cleaned)
        #expect(oneLine("\n \u{1B}") == "" && oneLine(" \u{E4} \u{301}x ") == "\u{E4} \u{301}x")
        #expect(
            ServerError(sqlState: "X\u{1B}", message: nasty, detail: nasty, hint: nasty).description
                == "\(cleaned) (SQLSTATE X); detail: \(cleaned); hint: \(cleaned)")
        let message = ConnectMessage(
            "connection to server at \"h\", port 1 failed: FATAL:  XX000: \u{1B}]0;t\u{7}\u{9B}1m\n")
        #expect(message.reason == "]0;t1m (SQLSTATE XX000)")
    }

    @Test func whatIsTooLongIsCut() {
        #expect(oneLine(String(repeating: "x", count: 1000)).utf8.count == 1000)
        #expect(oneLine("abcdef", longest: 5) == "ab..." && oneLine("abcde  ", longest: 5) == "abcde")
        // Not in the middle of a scalar.
        #expect(oneLine("a\u{20AC}\u{20AC}", longest: 6) == "a...")
        let long = String(repeating: "\u{E4} ", count: 400_000)
        let cut = oneLine(long)
        #expect(cut.hasSuffix("...") && (990...1000).contains(cut.utf8.count))
        let error = ServerError(sqlState: "XX000", message: long, detail: long, hint: "the hint")
        #expect(error.description.utf8.count < 2100)
        #expect(error.description.contains("(SQLSTATE XX000)") && error.description.hasSuffix("hint: the hint"))
        let one = ConnectMessage("connection to server at \"h\", port 1 failed: FATAL:  28P01: \(long)")
        #expect(one.reason.utf8.count < 1100 && one.reason.hasSuffix("... (SQLSTATE 28P01)") && one.isAuthentication)
        let lines = (0..<10_000).map { "line \($0)\n" }.joined()
        #expect(ConnectMessage(lines).reason.utf8.count <= 2000)
    }

    @Test func thePasswordThatAServerRepeatsIsHidden() {
        let said = "FATAL:  28P01: login failed for u with password \"S3cretPw\"\n"
        #expect(
            ConnectMessage(said, hiding: "S3cretPw").reason
                == "login failed for u with password \"***\" (SQLSTATE 28P01)")
        #expect(ConnectMessage("no\u{301} S3cretPw\u{301}", hiding: "S3cretPw").reason == "no\u{301} ***\u{301}")
        // One that is a part of the code changes nothing about it; a short one stays, and so does everything around it.
        #expect(ConnectMessage(said, hiding: "28P01").sqlState == "28P01")
        #expect(ConnectMessage(said, hiding: "u").reason.hasPrefix("login failed for u with password"))
        #expect(ConnectMessage(said, hiding: "").reason.hasPrefix("login failed for u with password"))
    }
}
