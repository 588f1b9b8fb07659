// The wire carries every message unchanged, and takes no bytes for a message that are none: what is not exactly one is nil.

import Clock
import Orders
import Testing

@testable import Guard

@Suite struct WireTests {
    static let generation = StartID(0x0123_4567_89AB_CDEF)
    static let orders: [Order] = [
        .ping(token: .max), .start(generation, deadline: Instant(nanoseconds: -5), commandIndex: 3, environment: []),
        .start(
            generation, deadline: Instant(nanoseconds: .max), commandIndex: 0,
            environment: ["A=", "LONG=ä€😀 = x", "B=c"]),
        .extend(generation, deadline: Instant(nanoseconds: 1), token: .max), .signal(generation, number: 15),
        .kill(generation),
        .handicap(Handicap(nice: 10, oomScore: 500)),
    ]
    static let answers: [Answer] =
        [
            .ready, .strained(Strain(lateness: .milliseconds(37), tasks: 300, memory: 1 << 40, processors: 500)),
            .pong(token: 7), .started(generation, pid: 4711),
            .extended(generation, deadline: Instant(nanoseconds: 9), token: 5),
            .exited(generation, .code(255)), .exited(generation, .signal(9)), .empty(generation),
            .notStarted(generation, .cannotExecute(errno: 2)),
            .notStarted(generation, .cannotFork(errno: 11)), .notStarted(generation, .deadlinePassed),
            .notStarted(generation, .treeAlive), .notStarted(generation, .stale),
            .leftBehind(generation, count: 7, [SeenProcess(pid: 5, state: 83, name: "a b")]),
            .surviving(generation, []),
            .surviving(
                generation,
                [SeenProcess(pid: 5, state: 68, name: "ä"), SeenProcess(pid: 6, state: 63, name: "")]),
        ] + KillCause.allCases.map { .killing(generation, $0) }

    @Test(arguments: orders) func `an order arrives as it was sent`(_ order: Order) throws {
        let bytes = try #require(Wire.encode(order))
        #expect(Wire.decodeOrder(bytes) == order)
        #expect(Wire.decodeAnswer(bytes) == nil, "an order was taken for an answer")
    }

    @Test(arguments: answers) func `an answer arrives as it was sent`(_ answer: Answer) {
        let bytes = Wire.encode(answer)
        #expect(Wire.decodeAnswer(bytes) == answer)
        #expect(Wire.decodeOrder(bytes) == nil, "an answer was taken for an order")
    }

    /// What is read must mean the same when it is sent on, and a `Duration` is cut at some 146 years.
    @Test(arguments: [-1, .min, .max]) func `a lateness that nobody can have measured is no answer`(_ lateness: Int64) {
        var packet = Wire.encode(.strained(Strain(lateness: .nanoseconds(7))))
        let field = packet.firstIndex(of: 7) ?? 0
        packet.replaceSubrange(field..<field + 8, with: withUnsafeBytes(of: lateness.littleEndian) { Array($0) })
        #expect(Wire.decodeAnswer(packet) == nil)
    }

    @Test func `a cut or lengthened packet is no message`() throws {
        for bytes in try Self.orders.map({ try #require(Wire.encode($0)) }) + Self.answers.map({ Wire.encode($0) }) {
            for length in 0..<bytes.count {
                #expect(Wire.decodeOrder(bytes.prefix(length)) == nil)
                #expect(Wire.decodeAnswer(bytes.prefix(length)) == nil)
            }
            #expect(Wire.decodeOrder(bytes + [0]) == nil)
            #expect(Wire.decodeAnswer(bytes + [0]) == nil)
        }
    }

    @Test func `another version or another program's bytes are no message`() throws {
        let bytes = try #require(Wire.encode(.ping(token: 1)))
        for index in 0..<4 {
            var changed = bytes
            changed[index] ^= 0x55
            #expect(Wire.decodeOrder(changed) == nil)
        }
    }

    @Test func `any bytes at all are decoded without a trap, and what is decoded encodes back`() throws {
        var random = SystemRandomNumberGenerator()
        let seeds = try Self.orders.map { try #require(Wire.encode($0)) } + Self.answers.map { Wire.encode($0) }
        for round in 0..<20_000 {
            var bytes = seeds[round % seeds.count]
            if round % 3 == 0 {
                bytes = (0..<Int.random(in: 0...80)).map { _ in UInt8.random(in: 0...255, using: &random) }
            }
            for _ in 0..<Int.random(in: 1...4) where !bytes.isEmpty {
                bytes[Int.random(in: bytes.indices)] = [0, 1, 2, 127, 128, 255].randomElement() ?? 0
            }
            if let order = Wire.decodeOrder(bytes) { #expect(Wire.encode(order) == bytes) }
            if let answer = Wire.decodeAnswer(bytes), case .notStarted = answer { continue }
            if let answer = Wire.decodeAnswer(bytes) { #expect(Wire.encode(answer) == bytes) }
        }
    }

    @Test(arguments: ["", "NAME", "=value", "NUL=\0"]) func `what is no assignment is not sent`(_ text: String) {
        let order = Order.start(
            Self.generation, deadline: Instant(nanoseconds: 1), commandIndex: 1, environment: [text])
        #expect(Wire.encode(order) == nil)
    }

    @Test func `an order that does not fit into a packet is not sent`() {
        let long = "A=" + String(repeating: "x", count: Wire.limit)
        let order = Order.start(
            Self.generation, deadline: Instant(nanoseconds: 1), commandIndex: 1, environment: [long])
        #expect(Wire.encode(order) == nil)
        #expect(Wire.encode(.signal(Self.generation, number: 0)) == nil, "signal 0 is a question, not a signal")
    }
}
