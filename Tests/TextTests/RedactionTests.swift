// Passwords are taken out of texts that may quote what somebody typed.

import Testing
import Text

@Suite("What is hidden of others' texts") struct RedactionTests {
    @Test(
        "Passwords with blanks, quotes and several '@' are hidden whole",
        arguments: [
            "'postgresql://u:my hunter2@h/db'", "postgresql://u:a@b hunter2 c@h/db", #"host=h password=my\ hunter2"#,
            "host=h password=my'hunter2", "host=h password='my' hunter2", "password=a&hunter2", "password=\n hunter2",
            "a://b password='x@y hunter2'", "postgresql://u:Mypassword=hunter2@h", "password=a://b@hunter2",
            "postgresql://h@x?password=hunter2", "postgresql://u:x@h postgresql://u:hunter2@h",
        ])
    func secrets(text: String) {
        let shown = Redaction.withoutSecrets(text)
        #expect(!shown.contains("hunter2") && shown.contains("***"), "\(shown)")
    }

    @Test("What is no secret stays, and where there is one its place is seen") func shownStill() {
        #expect(Redaction.withoutSecrets("a password of me@h, 10 s") == "a password of me@h, 10 s")
        #expect(
            Redaction.withoutSecrets("postgresql://u:p@h/d?x=1&password=y") == "postgresql://***@h/d?x=1&password=***")
        #expect(Redaction.withoutSecrets("postgresql://h/d") == "postgresql://h/d")
        #expect(Redaction.withoutSecrets("x password=") == "x password=***")
    }

    @Test(
        "Secrets in quoted text are hidden",
        arguments: [
            "Unexpected argument 'postgres://u:hunter2@h/db'", "bad 'host=h password=hunter2'",
            "postgres://hunter2@h x",
            "postgresql://h/d?user=u&password=hunter2&sslmode=require", "'postgres://u:hunt@er2:hunter2@h/d'",
            "password='hunter2'", "password = hunter2", "PASSWORD=hunter2", "a?password=x&password=hunter2",
            "postgres://u:hunter2@\u{301}h", "postgres://\u{301}u:hunter2@h", "passwd='x y\\' hunter2'",
        ])
    func redaction(text: String) { #expect(!Redaction.withoutSecrets(text).contains("hunter2")) }

    @Test("Options' values that may hold a password are numbers, and nothing else is changed") func values() {
        #expect(
            Redaction.message("The value 'u:x@h' is invalid for '-o <output>'", about: ["lease", "--output=u:x@h"])
                == "The value number 2 is invalid for '-o <output>'")
        #expect(Redaction.message("a = 'b'\nc '='", about: ["="]) == "a = 'b' c '='")
        #expect(
            Redaction.message("2 unexpected arguments: 'a@b', 'xa@b'", about: ["a@b", "xa@b"])
                == "2 unexpected arguments: number 1, number 2")
    }
}
