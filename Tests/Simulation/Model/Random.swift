// The only source of chance in a simulated run: everything that happens follows from one 64-bit seed.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
struct Random {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 0xD1B5_4A32_D192_ED03 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// A number in 0..<bound.
    mutating func below(_ bound: Int) -> Int { Int(next() >> 33) % bound }

    /// A time in low...high.
    mutating func time(_ low: Time, _ high: Time) -> Time {
        high <= low ? low : low + Time(next() >> 1) % (high - low + 1)
    }

    /// True with that probability.
    mutating func chance(_ probability: Double) -> Bool { Double(next() >> 11) < probability * 9_007_199_254_740_992 }

    mutating func pick<Element>(_ choices: [Element]) -> Element { choices[below(choices.count)] }
}
