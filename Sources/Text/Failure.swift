// Errors that end a command with an exit code.

/// An error people can act on, with the exit code that tells scripts what kind it is (sysexits.h).
package struct Failure: Error, Equatable {
    package static let usage: Int32 = 64
    package static let unavailable: Int32 = 69
    package static let software: Int32 = 70
    package static let operatingSystem: Int32 = 71
    package static let noPermission: Int32 = 77
    package static let configuration: Int32 = 78

    package let code: Int32
    package let message: String

    package init(code: Int32, message: String) {
        self.code = code
        self.message = message
    }

    package static func configuration(_ message: String) -> Failure { Failure(code: configuration, message: message) }
    package static func usage(_ message: String) -> Failure { Failure(code: usage, message: message) }
    package static func unavailable(_ message: String) -> Failure { Failure(code: unavailable, message: message) }
}
