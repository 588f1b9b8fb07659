// Suggestions after a typing error.

import Testing

@testable import Text

@Suite("Spelling") struct SpellingTests {
    @Test(
        "A name that is nearly right is found, another is not",
        arguments: [
            ("runn", "run"), ("rn", "run"), ("leese", "lease"), ("laese", "lease"), ("chekc", "check"),
            ("mig", "migrate"),
            ("start", nil), ("x", nil), ("", nil), ("airflow", nil), (String(repeating: "run", count: 100), nil),
        ] as [(String, String?)])
    func nearest(word: String, found: String?) {
        #expect(Spelling.nearest(word, among: ["run", "lease", "probe", "check", "migrate", "version"]) == found)
    }
}
