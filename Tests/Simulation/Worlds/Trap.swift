// Names the seeds that were under way when the program traps (an overflow, a failed precondition): a world that ends the
// program can be replayed like one that breaks a rule.

import Glibc

enum Trap {
    /// The seed of each job's world, zero for none. Seeds are written without a lock: the handler reads what is there.
    nonisolated(unsafe) private static let seeds = UnsafeMutablePointer<UInt64>.allocate(capacity: most)
    nonisolated(unsafe) private static let text = UnsafeMutablePointer<UInt8>.allocate(capacity: 20)
    private static let most = 256

    /// Call once, before the first world.
    static func install() {
        seeds.initialize(repeating: 0, count: most)
        text.initialize(repeating: 0, count: 20)
        for number in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS] {
            signal(number) { number in
                signal(number, SIG_DFL)
                Trap.tell()
                raise(number)
            }
        }
    }

    /// Says what a job is about to run.
    static func begin(_ seed: UInt64, job: Int) { seeds[job] = seed }

    /// Says that a job is done.
    static func end(job: Int) { seeds[job] = 0 }

    /// In a signal's handler: no allocation, no lock.
    private static func tell() {
        write("\ntrapped; one of these worlds did it, replay each (with the twin, if it was one): ")
        for job in 0..<most where seeds[job] != 0 {
            write(" --seed ")
            var rest = seeds[job]
            var at = 20
            repeat {
                at -= 1
                text[at] = UInt8(ascii: "0") + UInt8(rest % 10)
                rest /= 10
            } while rest > 0
            _ = Glibc.write(2, text + at, 20 - at)
        }
        write("\n")
    }

    private static func write(_ words: StaticString) { _ = Glibc.write(2, words.utf8Start, words.utf8CodeUnitCount) }
}
