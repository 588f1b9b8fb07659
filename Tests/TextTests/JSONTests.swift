// JSON written by hand reads as what was meant.

import Foundation
import Testing
import Text

@Suite("JSON") struct JSONTests {
    @Test("JSON strings hold whatever they are given") func jsonStrings() throws {
        let text = "a\"b\\c\n\t\u{1}é"
        let back = try JSONDecoder().decode([String].self, from: Data("[\(JSON.string(text))]".utf8))
        #expect(back == [text])
    }
}
