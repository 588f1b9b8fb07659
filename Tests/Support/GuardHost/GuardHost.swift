// A keeper reduced to its hands: forks a guard as its first statement, then obeys lines on standard input and prints every
// answer as a line on standard output. It lets the tests drive a real guard with real trees, and stands in for the keeper
// when that has to be killed, stopped, or has to clear up after a dead guard.

import CLinux
import Clock
import Glibc
import Guard
import Orders

@main
struct GuardHost {
    let guardian: GuardProcess
    var isDeaf = false

    static func main() {
        guard let guardian = GuardProcess.fork() else {
            perror("GuardProcess.fork")
            exit(1)
        }
        say("guard \(guardian.pid)")
        var host = GuardHost(guardian: guardian)
        host.run()
    }

    static func say(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        _ = write(STDOUT_FILENO, bytes, bytes.count)
    }

    /// One line of standard input, and not a byte more: what was read ahead would never wake poll(2).
    static func line() -> String? {
        var bytes: [UInt8] = []
        var byte: UInt8 = 0
        while read(STDIN_FILENO, &byte, 1) == 1 {
            if byte == UInt8(ascii: "\n") { return String(decoding: bytes, as: UTF8.self) }
            bytes.append(byte)
        }
        return nil
    }

    mutating func run() {
        while true {
            var set = [
                pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
                pollfd(fd: isDeaf ? -1 : guardian.channel, events: Int16(POLLIN), revents: 0),
            ]
            poll(&set, 2, -1)
            if set[1].revents != 0 { readAnswers() }
            if set[0].revents != 0 {
                guard let line = GuardHost.line() else { return }
                obey(line.split(separator: " ").map(String.init))
                GuardHost.say("done")
            }
        }
    }

    private mutating func readAnswers() {
        while true {
            switch guardian.receive() {
            case .nothing: return
            case .answer(let answer): GuardHost.say(GuardHost.line(answer))
            case .nonsense: GuardHost.say("nonsense")
            case .closed:
                GuardHost.say("closed")
                isDeaf = true
                return
            }
        }
    }

    private mutating func obey(_ words: [String]) {
        let numbers = words.dropFirst().prefix(2).compactMap { Int64($0) }
        let generation = StartID(UInt64(numbers.first ?? 0))
        let second = numbers.last ?? 0
        let deadline = BootClock.now() + .milliseconds(second)
        switch words.first {
        case "start":
            let index = CommandLine.arguments.firstIndex(of: "--").map { $0 + 1 } ?? 0
            send(.start(generation, deadline: deadline, commandIndex: index, environment: Array(words.dropFirst(3))))
        case "extend": send(.extend(generation, deadline: deadline, token: 0))
        case "signal": send(.signal(generation, number: Int32(second)))
        case "kill": send(.kill(generation))
        case "ping": send(.ping(token: UInt64(second)))
        case "raw": sendRaw(words.dropFirst().compactMap { UInt8($0, radix: 16) })
        case "shut":
            guardian.close()
            isDeaf = true
        case "kill-guard": guardian.kill()
        case "deaf": isDeaf = true
        case "hear": isDeaf = false
        case "settle": GuardHost.say("settled")
        case "flood": flood()
        case "sweep": sweep(excluding: nil)
        case "sweep-by-scan": sweep(excluding: nil, childrenFiles: false)
        case "sweep-below": sweepBelowGuard()
        case "sweep-but-guard": sweep(excluding: guardian.hasEnded ? guardian.pid : nil)
        case "sweep-others": sweep(excluding: guardian.pid)
        case "scrub": scrubArguments()
        case "spawn": spawn(Array(words.dropFirst()))
        default: GuardHost.say("what?")
        }
    }

    private func send(_ order: Order) { if !guardian.send(order) { GuardHost.say("undelivered") } }

    private func sendRaw(_ bytes: [UInt8]) { _ = Glibc.send(guardian.channel, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

    /// More pings than the channel holds answers: the guard reads them all and cannot answer any more.
    private func flood() {
        for token in 0..<5000 {
            while !guardian.send(.ping(token: UInt64(token))) { usleep(100) }
        }
    }

    private func sweep(excluding excluded: pid_t?, childrenFiles: Bool = true) {
        var tree = Tree(childrenFiles: childrenFiles)
        while true {
            switch tree.sweep(excluding: excluded, reaped: { GuardHost.say("reaped \($0) \($1)") }) {
            case .unfinished: continue
            case .alive: usleep(1000)
            case .empty: return GuardHost.say("swept")
            }
        }
    }

    /// What the keeper does with a guard that it has killed and that does not die.
    private func sweepBelowGuard() {
        var tree = Tree()
        while true {
            switch tree.sweep(below: guardian.condemned) {
            case .unfinished: continue
            case .alive: usleep(1000)
            case .empty: return GuardHost.say("swept")
            }
        }
    }

    /// What the keeper does with hooks: not part of the guard's tree.
    private func spawn(_ command: [String]) {
        var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
        var pid: pid_t = 0
        let result = posix_spawnp(&pid, command[0], nil, nil, &arguments, clinux_environment())
        GuardHost.say(result == 0 ? "spawned \(pid)" : "not spawned \(result)")
    }

    static func line(_ answer: Answer) -> String {
        switch answer {
        case .ready: "ready"
        case .strained(let strain): "strained \(strain.lateness.nanoseconds / 1000) \(strain.tasks)"
        case .pong(let token): "pong \(token)"
        case .started(let generation, let pid): "started \(generation.rawValue) \(pid)"
        case .notStarted(let generation, let reason): "notStarted \(generation.rawValue) \(reason)"
        case .extended(let generation, let deadline, _): "extended \(generation.rawValue) \(deadline.nanoseconds)"
        case .exited(let generation, let exit): "exited \(generation.rawValue) \(exit.waitStatus)"
        case .killing(let generation, let cause): "killing \(generation.rawValue) \(cause)"
        case .empty(let generation): "empty \(generation.rawValue)"
        case .leftBehind(let generation, let count, let processes):
            "leftBehind \(generation.rawValue) \(count) \(processes.map(\.name).joined(separator: ","))"
        case .surviving(let generation, let processes):
            "surviving \(generation.rawValue) \(processes.map { "\($0.pid)" }.joined(separator: ","))"
        }
    }
}
