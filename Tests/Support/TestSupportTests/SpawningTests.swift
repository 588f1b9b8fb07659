// A start must be tried again while the machine has no room for a process, and only then.

import Glibc
import Testing

@testable import TestSupport

@Suite struct SpawningTests {
    @Test func aStartWaitsForRoom() {
        var answers = [EAGAIN, EAGAIN, 0, EPERM]
        #expect(spawnPatiently { answers.removeFirst() } == 0)
        #expect(answers == [EPERM])
    }

    @Test func anyOtherErrorIsToldAtOnce() {
        var answers = [ENOENT, 0]
        #expect(spawnPatiently { answers.removeFirst() } == ENOENT)
        #expect(answers == [0])
    }
}
