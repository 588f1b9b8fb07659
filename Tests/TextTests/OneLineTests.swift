// A text from elsewhere becomes one line: of bounded length, without what a terminal obeys and without the secret.

import Testing
import Text

@Suite struct OneLineTests {
    @Test func controlCharactersAndLineBreaksGo() {
        #expect(
            oneLine("a\u{1B}[2Jb\u{7}c\u{9B}d\r\ne\u{2028}f\u{85}g\u{0}h\u{7F}\t \n") == "a[2Jbcd e f gh")
        #expect(oneLine("\n \u{1B}") == "" && oneLine(" \u{E4} \u{301}x ") == "\u{E4} \u{301}x")
    }

    @Test func whatIsTooLongIsCut() {
        #expect(oneLine(String(repeating: "x", count: 1000)).utf8.count == 1000)
        #expect(oneLine("abcdef", longest: 5) == "ab..." && oneLine("abcde  ", longest: 5) == "abcde")
        // Not in the middle of a scalar.
        #expect(oneLine("a\u{20AC}\u{20AC}", longest: 6) == "a...")
        let cut = oneLine(String(repeating: "\u{E4} ", count: 400_000))
        #expect(cut.hasSuffix("...") && (990...1000).contains(cut.utf8.count))
    }

    @Test func aSecretIsHiddenAndAShortOneStays() {
        #expect(hiding("S3cretPw", in: "no\u{301} S3cretPw\u{301}") == "no\u{301} ***\u{301}")
        #expect(hiding("u", in: "user u") == "user u" && hiding("", in: "x") == "x")
    }
}
