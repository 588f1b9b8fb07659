// The fuzzers' entry: `fuzz TARGET [libFuzzer's options and corpora]`. A target takes bytes that libFuzzer makes up, feeds
// them to what parses in sidecar, and demands properties of what comes out; `fuzz` alone lists the targets. scripts/fuzz
// builds and runs them.

import Glibc

/// What every target is: bytes in, and an end with a message when a property does not hold.
typealias Target = @Sendable (UnsafeRawBufferPointer) -> Void

/// The targets by name, each with the longest input that makes sense for it.
let targets: [String: (run: Target, longest: Int)] = [
    "airflow": (fuzzAirflow, 512), "database": (fuzzDatabase, 512), "durations": (fuzzDurations, 128),
    "guard": (fuzzGuard, 512), "machine": (fuzzMachine, 1024), "ready": (fuzzReady, 2048),
    "record": (fuzzRecord, 512), "stat": (fuzzStat, 512), "view": (fuzzView, 512), "wire": (fuzzWire, 1024),
]

@main struct Fuzz {
    static func main() {
        var arguments = CommandLine.arguments
        // When it merges corpora, libFuzzer starts this program again, and knows only its own options.
        let name = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? arguments.dropFirst().first
        guard let name, let target = targets[name] else {
            print(targets.keys.sorted().joined(separator: "\n"))
            exit(name == nil ? 0 : 64)
        }
        if getenv("FUZZ_TARGET") == nil { arguments.remove(at: 1) }
        setenv("FUZZ_TARGET", name, 1)
        chosen = target.run
        // libpq merges these into every setting, and what is looked for must not depend on who runs it.
        for name in [
            "PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGSERVICEFILE", "PGDATABASE", "PGUSER", "PGPASSWORD",
            "PGPASSFILE",
            "PGOPTIONS", "PGSSLMODE", "PGTARGETSESSIONATTRS",
        ] {
            unsetenv(name)
        }
        setenv("HOME", "/nonexistent", 1)
        setenv("PGSYSCONFDIR", "/nonexistent", 1)
        arguments.insert("-max_len=\(target.longest)", at: 1)
        var pointers = arguments.map { strdup($0) } + [nil]
        var count = Int32(arguments.count)
        let result = pointers.withUnsafeMutableBufferPointer { buffer in
            var base = buffer.baseAddress
            return runDriver(&count, &base, testOneInput)
        }
        exit(result)
    }
}

/// The target of this process. Written once, before libFuzzer starts; nothing here has a second thread.
nonisolated(unsafe) private var chosen: Target = { _ in }

/// libFuzzer's own entry (FuzzerInterface.h), which this program's `main` calls instead of having libFuzzer's.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ run: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// Also the name that libFuzzer's archive wants to find when it is linked.
@_cdecl("LLVMFuzzerTestOneInput")
func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    chosen(UnsafeRawBufferPointer(start: bytes, count: count))
    return 0
}

/// Ends the run, and so makes libFuzzer keep the input, when `condition` does not hold.
func demand(_ condition: Bool, _ what: @autoclosure () -> String) {
    if !condition { fatalError("does not hold: \(what())") }
}

/// Whether a text has a part in it, byte by byte: for `String.contains`, an accent after the part would make it another one.
func holds(_ text: String, _ part: String) -> Bool { text.utf8.contains(part.utf8) }

/// What people are told must be one line that no terminal can be led astray with.
func demandOneLine(_ text: String, longest: Int = 1000) {
    demand(!text.isEmpty && text.count <= longest, "a message of sensible length, but it has \(text.count): \(text)")
    demand(
        !text.unicodeScalars.contains { $0.value < 32 || $0.properties.generalCategory == .control }
            && !text.contains(where: \.isNewline), "one line without control characters: \(text.debugDescription)")
}
