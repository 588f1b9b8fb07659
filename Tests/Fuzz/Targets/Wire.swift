// Target `wire`: the packets between keeper and guard. Any bytes are exactly one message or none; a message that was read
// means the same when it is sent on; every message that can be sent arrives.

import Clock
import Orders

@testable import Guard

func fuzzWire(_ input: UnsafeRawBufferPointer) {
    arrives(Array(input))
    var bytes = Bytes(input)
    let order = bytes.order()
    if let packet = Wire.encode(order) {
        demand(packet.count <= Wire.limit, "\(order) is short enough")
        demand(Wire.decodeOrder(packet).map(isSame(order)) == true, "\(order) arrives")
        let cut = packet.prefix(Int(bytes.byte()) % packet.count)
        demand(Wire.decodeOrder(cut) == nil, "a part of \(order) is no order")
        demand(Wire.decodeOrder(packet + [bytes.byte()]) == nil, "\(order) with a byte too much is none")
        demand(Wire.decodeAnswer(packet) == nil, "\(order) is no answer")
    }
    let answer = bytes.answer()
    let packet = Wire.encode(answer)
    demand(Wire.decodeAnswer(packet) == answer, "\(answer) arrives")
    demand(Wire.decodeOrder(packet) == nil, "\(answer) is no order")
}

/// What arbitrary bytes are read as.
private func arrives(_ packet: [UInt8]) {
    if let order = Wire.decodeOrder(packet) {
        demand(Wire.encode(order) == packet, "\(order) is sent on as it came")
        if case .signal(_, let number) = order { demand((1...64).contains(number), "a signal: \(number)") }
        if case .start(_, _, let index, let environment) = order {
            demand(index >= 0, "a command: \(index)")
            for entry in environment {
                demand(!entry.utf8.contains(0) && entry.utf8.dropFirst().contains(61), "NAME=value: \(entry)")
            }
        }
    }
    if let answer = Wire.decodeAnswer(packet) {
        demand(Wire.decodeAnswer(Wire.encode(answer)) == answer, "\(answer) means the same when sent on")
    }
}

/// Compares byte by byte where `==` takes different spellings of one character for the same.
private func isSame(_ order: Order) -> (Order) -> Bool {
    { other in
        guard case .start(_, _, _, let left) = order, case .start(_, _, _, let right) = other else {
            return order == other
        }
        return order == other && left.map { Array($0.utf8) } == right.map { Array($0.utf8) }
    }
}

extension Bytes {
    mutating func generation() -> StartID { StartID(UInt64(bitPattern: number())) }

    mutating func instant() -> Instant { Instant(nanoseconds: number()) }

    mutating func reason() -> NotStarted {
        let number = Int32(truncatingIfNeeded: number())
        return pick([.cannotExecute(errno: number), .cannotFork(errno: number), .deadlinePassed, .treeAlive, .stale])
    }

    mutating func order() -> Order {
        switch choice(of: 6) {
        case 0: return .ping(token: UInt64(bitPattern: number()))
        case 1:
            let (generation, deadline, index) = (generation(), instant(), Int(number()))
            return .start(
                generation, deadline: deadline, commandIndex: index,
                environment: (0..<choice(of: 4)).map { _ in text() })
        case 2: return .extend(generation(), deadline: instant(), token: UInt64(bitPattern: number()))
        case 3: return .signal(generation(), number: Int32(truncatingIfNeeded: number()))
        case 4:
            return .handicap(
                Handicap(nice: Int32(truncatingIfNeeded: number()), oomScore: Int32(truncatingIfNeeded: number())))
        default: return .kill(generation())
        }
    }

    private mutating func processes() -> [SeenProcess] {
        (0..<choice(of: 5)).map { _ in
            SeenProcess(pid: Int32(truncatingIfNeeded: number()), state: byte(), name: text())
        }
    }

    mutating func answer() -> Answer {
        let number = Int32(truncatingIfNeeded: number())
        switch choice(of: 11) {
        case 8: return .leftBehind(generation(), count: UInt32(truncatingIfNeeded: number), processes())
        case 9: return .surviving(generation(), processes())
        case 0: return .ready
        case 1: return .pong(token: UInt64(bitPattern: self.number()))
        case 2: return .started(generation(), pid: number)
        case 3: return .notStarted(generation(), reason())
        case 4: return .extended(generation(), deadline: instant(), token: UInt64(bitPattern: self.number()))
        case 5: return .exited(generation(), ChildExit(waitStatus: number))
        case 6: return .killing(generation(), pick(KillCause.allCases))
        case 7:
            // What a guard can have measured: not below zero, nor beyond what `Duration.nanoseconds` cuts.
            let lateness = Duration.nanoseconds((self.number() & .max) / 2)
            return .strained(
                Strain(lateness: lateness, tasks: number, memory: self.number(), processors: number))
        default: return .empty(generation())
        }
    }
}
