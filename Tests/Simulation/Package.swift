// swift-tools-version: 6.2
// The simulation, a package of its own so that nobody who builds or tests sidecar compiles it: it needs the same sources (the
// link `Sources`) optimised, and with their insides open (@testable). See `Worlds/Simulate.swift`; and
// `Compare/CompareGuard.swift`, which holds the guard that it models against real ones.

import PackageDescription

// Nothing here shares memory with anything else: no need to look for overlapping accesses at run time.
let swift: [SwiftSetting] = [
    .treatAllWarnings(as: .error), .unsafeFlags(["-enable-testing", "-enforce-exclusivity=unchecked"]),
    .define("SIMULATION"),
]

let package = Package(
    name: "simulation",
    dependencies: [.package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2")],
    targets: [
        .target(name: "CLinux", path: "Sources/CLinux"),
        .target(name: "Clock", path: "Sources/Clock", swiftSettings: swift),
        .target(name: "Orders", dependencies: ["Clock"], path: "Sources/Orders", swiftSettings: swift),
        .target(
            name: "Lease", dependencies: ["Clock", "Orders"], path: "Sources/Lease", swiftSettings: swift),
        .target(
            name: "Guard", dependencies: ["CLinux", "Clock", "Orders"], path: "Sources/Guard", swiftSettings: swift),
        .target(name: "GuardModel", dependencies: ["Guard", "Orders", "Clock"], path: "Model", swiftSettings: swift),
        .executableTarget(
            name: "simulate",
            dependencies: [
                "GuardModel", "Lease", "Guard", "Orders", "Clock",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], path: "Worlds", swiftSettings: swift),
        .executableTarget(
            name: "search",
            dependencies: [
                "Lease", "Orders", "Clock", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], path: "Search", swiftSettings: swift),
        .target(name: "Tracer", path: "Tracer"),
        .executableTarget(name: "actor", path: "Actor"),
        .executableTarget(
            name: "compare-guard",
            dependencies: [
                "GuardModel", "Tracer", "Guard", "Orders", "CLinux", "Clock",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], path: "Compare", swiftSettings: swift),
    ]
)
