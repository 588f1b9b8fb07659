// What the guard reads from /proc: stat files with hostile names in them, every process there is, and where its own
// control group lies.

import Glibc
import Testing

@testable import Guard

@Suite struct ProcessFilesTests {
    static func parse(_ text: String) -> ProcessStat? {
        Array(text.utf8).withUnsafeBytes { ProcessStat(parsing: $0) }
    }

    @Test(arguments: ["cat", "a b", ") R 1 1 1", "((x)", "", "\n", ") Z 1 (", "ä\u{1}"])
    func `a name never confuses the fields behind it`(_ name: String) {
        let stat = Self.parse("42 (\(name)) S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 123456 1 2 3\n")
        #expect(stat?.pid == 42 && stat?.parent == 7 && stat?.group == 8 && stat?.session == 9)
        #expect(stat?.startTime == 123_456 && stat?.isDead == false)
    }

    @Test func `a zombie with more than one thread is alive`() {
        func zombie(threads: Int) -> ProcessStat? {
            Self.parse("42 (x) Z 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 \(threads) 0 123456 1 2 3\n")
        }
        #expect(zombie(threads: 1)?.isDead == true)
        #expect(zombie(threads: 2)?.isDead == false)
    }

    @Test(arguments: ["-9223372036854775808", "9223372036854775808", "99999999999999999999999"])
    func `a number too large is none`(_ number: String) {
        #expect(Self.parse("42 (x) S \(number) 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 123456 1\n") == nil)
    }

    @Test func `cut or foreign text is no process`() {
        let whole = "42 (x) S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 123456"
        for length in 0..<(whole.count - 6) { #expect(Self.parse(String(whole.prefix(length))) == nil) }
        #expect(Self.parse(")") == nil)
        #expect(Self.parse("") == nil)
    }

    @Test func `sees this process and its parent, in ascending order`() {
        var files = ProcessFiles()
        let isUsable = files.isUsable
        #expect(isUsable)
        var pids: [pid_t] = []
        var own: ProcessStat?
        files.rewind()
        while let pid = files.next() {
            pids.append(pid)
            if pid == getpid() { own = files.stat(of: pid) }
        }
        #expect(pids == pids.sorted() && Set(pids).count == pids.count)
        #expect(pids.contains(1))
        #expect(
            own?.parent == getppid() && own?.group == getpgrp() && own?.session == getsid(0) && own?.isDead == false)
        let (first, none) = (files.stat(of: 1), files.stat(of: 99_999_999))
        #expect(first?.pid == 1 && none == nil)
    }

    @Test(arguments: [
        ("0::/", "31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "/sys/fs/cgroup"),
        ("5:cpu:/x\n0::/a/b", "38 31 0:35 / /cg rw,relatime shared:4 - cgroup2 c rw", "/cg/a/b"),
        ("0::/a/b/c", "38 31 0:35 /a/b /cg rw - cgroup2 c rw", "/cg/c"),
        ("0::/a", "1 2 0:3 / /other rw - cgroup cgroup rw,cpu\n38 31 0:35 / /cg rw - cgroup2 c rw", "/cg/a"),
    ])
    func `finds its own control group`(_ cgroups: String, _ mounts: String, _ expected: String) {
        #expect(Cgroup.directory(cgroups: cgroups, mounts: mounts) == expected)
    }

    @Test(arguments: [
        ("", "38 31 0:35 / /cg rw - cgroup2 c rw"), ("0::/a", ""), ("0::/a", "38 31 0:35 /b /cg rw - cgroup2 c rw"),
        ("0::/../x", "38 31 0:35 / /cg rw - cgroup2 c rw"), ("0::/ab", "38 31 0:35 /a /cg rw - cgroup2 c rw"),
        ("0::/a", "- - -"), ("5:cpu:/x", "38 31 0:35 / /cg rw - cgroup2 c rw"),
    ])
    func `goes without one where that is not certain`(_ cgroups: String, _ mounts: String) {
        #expect(Cgroup.directory(cgroups: cgroups, mounts: mounts) == nil)
    }

    @Test func `wipes the password's value and nothing else`() {
        let words = ["p", "--database-url", "one", "--database-urls=a", "--database-url=two", "--database-url=", "--"]
        let command = ["--database-url", "kept", "--database-url=kept"]
        var arguments: [UnsafeMutablePointer<CChar>?] = (words + command).map { strdup($0) } + [nil]
        arguments.withUnsafeMutableBufferPointer {
            guard let base = $0.baseAddress else { return }
            scrub(base, count: words.count + command.count)
        }
        let left = arguments.compactMap { $0.map { String(cString: $0) } }
        #expect(
            left == [
                "p", "--database-url", "***", "--database-urls=a", "--database-url=***", "--database-url=", "--",
            ] + command)
        for text in arguments { free(text) }
    }
}
