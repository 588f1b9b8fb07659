// Takes an input apart into what a target needs: choices, numbers with a liking for extremes, texts. Every input means
// something: what is missing at its end reads as zero and empty.

import Clock

/// The bytes of one input, taken from the front.
struct Bytes {
    private var rest: Slice<UnsafeRawBufferPointer>

    init(_ bytes: UnsafeRawBufferPointer) { rest = bytes[...] }

    var isEmpty: Bool { rest.isEmpty }

    mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }

    mutating func bool() -> Bool { byte() & 1 == 1 }

    mutating func choice(of count: Int) -> Int { Int(byte()) % count }

    mutating func pick<Value>(_ values: [Value]) -> Value { values[choice(of: values.count)] }

    /// Small, extreme, or anything.
    mutating func number() -> Int64 {
        switch choice(of: 12) {
        case 0: .min
        case 1: .max
        case 2: .min + Int64(byte())
        case 3: .max - Int64(byte())
        case 4: -Int64(byte())
        case 5...8: Int64(byte())
        case 9: Int64(Int32.max) + Int64(Int8(bitPattern: byte()))
        default: (0..<8).reduce(0) { sum, _ in sum << 8 | Int64(byte()) }
        }
    }

    /// As many bytes as the next one says; all that are left when it says 255.
    mutating func bytes() -> [UInt8] {
        let count = byte()
        let taken = rest.prefix(count == 255 ? rest.count : Int(count))
        rest = rest.dropFirst(taken.count)
        return Array(taken)
    }

    /// Text without NUL, which no argument, variable or value of a database can hold.
    mutating func text() -> String { String(decoding: bytes().filter { $0 != 0 }, as: UTF8.self) }

    /// All that is left as text.
    mutating func remainingText() -> String {
        defer { rest = rest.suffix(0) }
        return String(decoding: rest.filter { $0 != 0 }, as: UTF8.self)
    }
}
