// Names derived from a lease's name: the advisory lock's key and the label that a child's sessions carry (R4, R8).
// Both must come out the same in every version of the program, so nothing here may use a seeded or changing hash.

import Lease

/// What is derived from the name of a lease.
public enum LeaseKey {
    /// The 64-bit key of the advisory lock: FNV-1a over `sidecar:` and the name.
    public static func lock(_ lease: String) -> Int64 { Int64(bitPattern: hash("sidecar:" + lease)) }

    /// The two halves of the key as pg_locks shows them (classid, objid).
    static func halves(_ lease: String) -> (high: UInt32, low: UInt32) {
        let bits = UInt64(bitPattern: lock(lease))
        return (UInt32(truncatingIfNeeded: bits >> 32), UInt32(truncatingIfNeeded: bits))
    }

    /// Tells leases of the same name in different databases of one server apart, within the 63 bytes of a label.
    static func tag(lease: String, database: String) -> String {
        hexadecimal(UInt32(truncatingIfNeeded: hash(lease + "\u{0}" + database)))
    }

    static func short(_ instance: InstanceID) -> String { String(instance.rawValue.prefix(8)) }

    /// `application_name` of the child's database sessions: `sidecar:EPOCH:INSTANCE:TAG:LEASE`.
    /// PostgreSQL cuts it at 63 bytes. So the compared parts come first, and the name, which is for
    /// people, comes last.
    public static func label(identity: Identity, epoch: Epoch, database: String) -> String {
        let tag = tag(lease: identity.lease, database: database)
        let label = "sidecar:\(epoch):\(short(identity.instance)):\(tag):\(identity.lease)"
        return String(decoding: Array(label.utf8.prefix(63)), as: UTF8.self)
    }

    /// Letters, digits and `. _ - /`, at most 63 of them: the name appears in labels and file names.
    public static func isValidName(_ name: String) -> Bool {
        (1...63).contains(name.utf8.count)
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
                    UInt8(ascii: "/"):
                    true
                default: false
                }
            }
    }

    private static func hash(_ text: String) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return hash
    }

    private static func hexadecimal(_ value: UInt32) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}
