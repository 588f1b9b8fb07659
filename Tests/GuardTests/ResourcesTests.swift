// What the guard reads of its control group, of either version, and how it measures that its own timers are late.

import Clock
import Foundation
import Orders
import Testing

@testable import Guard

@Suite struct ResourcesTests {
    /// A folder like a mounted hierarchy, with files.
    private static func folder(_ files: [String: String]) throws -> String {
        let path = NSTemporaryDirectory() + "resources-\(UUID().uuidString)"
        for (name, text) in files {
            let file = path + "/" + name
            try FileManager.default.createDirectory(
                atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
            try text.write(toFile: file, atomically: false, encoding: .utf8)
        }
        return path
    }

    @Test func `version 2: the tightest limit of the group and those above it counts`() throws {
        let root = try Self.folder([
            "cpu.stat": "", "pod/cpu.stat": "", "pod/cpu.max": "20000 100000\n",
            "pod/one/cpu.max": "max 100000\n", "pod/one/pids.current": "42\n",
            "pod/one/cpu.stat": "usage_usec 5\nnr_periods 10\nnr_throttled 4\nthrottled_usec 9\n",
            "pod/one/memory.stat": "anon 1000000\nfile 77\n",
        ])
        defer { try? FileManager.default.removeItem(atPath: root) }
        let resources = Resources(
            cgroups: "0::/pod/one\n", mounts: "30 20 0:26 / \(root) rw,relatime - cgroup2 cgroup2 rw\n")
        #expect(resources.limit?.processors == 200)
        #expect(resources.throttling == Resources.Throttling(periods: 10, throttled: 4))
        #expect(
            resources.strain(lateness: .milliseconds(3))
                == Strain(lateness: .milliseconds(3), tasks: 42, memory: 1_000_000, processors: 200))
    }

    @Test func `version 1: each controller has a group of its own`() throws {
        let root = try Self.folder([
            "cpu/box/cpu.stat": "nr_periods 3\nnr_throttled 1\nthrottled_time 0\n",
            "cpu/box/cpu.cfs_quota_us": "10000\n", "cpu/box/cpu.cfs_period_us": "100000\n",
            "pids/box/pids.current": "7\n", "memory/box/memory.stat": "rss 5\ntotal_rss 9\n",
        ])
        defer { try? FileManager.default.removeItem(atPath: root) }
        let mounts = ["cpu", "pids", "memory"].map {
            "30 20 0:26 / \(root)/\($0) rw,relatime - cgroup cgroup rw,\($0)\n"
        }
        let resources = Resources(
            cgroups: "9:pids:/box\n8:memory:/box\n1:cpu,cpuacct:/box\n0::/\n", mounts: mounts.joined())
        #expect(resources.strain(lateness: .zero) == Strain(tasks: 7, memory: 9, processors: 100))
    }

    @Test func `version 1: a group that is not the container's own says nothing about it`() throws {
        let root = try Self.folder(["memory/all/memory.stat": "total_rss 9000000000\n", "cpu/box/cpu.stat": ""])
        defer { try? FileManager.default.removeItem(atPath: root) }
        let mounts = ["cpu", "memory"].map { "30 20 0:26 / \(root)/\($0) rw - cgroup cgroup rw,\($0)\n" }
        let resources = Resources(cgroups: "8:memory:/all\n1:cpu:/box\n", mounts: mounts.joined())
        #expect(resources.strain(lateness: .zero).memory == 0)
    }

    @Test func `without a group nothing is known and nothing is limited`() {
        let resources = Resources(cgroups: "1:cpu:/\n0::/\n", mounts: "")
        #expect(resources.limit == nil)
        let strain = resources.strain(lateness: .zero)
        #expect(strain.tasks == 0 && strain.memory == 0)
    }

    @Test func `a timer that fires late is reported twice, since a report may be lost`() {
        var beat = Beat()
        var now = Instant(nanoseconds: 1_000_000_000)
        beat.tick(now: now, isNeeded: true)
        now = now + Beat.interval + .milliseconds(250)
        beat.tick(now: now, isNeeded: true)
        #expect(beat.report() == .milliseconds(250))
        #expect(beat.report() == .milliseconds(250))
        #expect(beat.report() == .zero)
    }

    @Test func `without a child there is no timer, and nothing to be late for`() {
        var beat = Beat()
        let now = Instant(nanoseconds: 1_000_000_000)
        beat.tick(now: now, isNeeded: false)
        #expect(beat.pause(at: now) == -1)
        beat.tick(now: now + .seconds(5), isNeeded: true)
        #expect(beat.report() == .zero)
        #expect(beat.pause(at: now + .seconds(5)) > 0)
    }
}
