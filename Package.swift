// swift-tools-version: 6.2
// The rooms of sidecar and which of them may know which: docs/contributing/rooms.md shows it as a picture. Lease (the
// protocol) knows only instants; the guard knows no network; only the executable knows everything.

import PackageDescription

let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "sidecar",
    products: [.executable(name: "sidecar", targets: ["Sidecar"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    ],
    targets: [
        .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .target(name: "CLinux"),
        .target(name: "Clock", swiftSettings: strict),
        .target(name: "Text", dependencies: ["Clock"], swiftSettings: strict),
        .target(name: "Orders", dependencies: ["Clock"], swiftSettings: strict),
        .target(name: "Lease", dependencies: ["Clock", "Orders"], swiftSettings: strict),
        .target(name: "Guard", dependencies: ["CLinux", "Clock", "Orders"], swiftSettings: strict),
        .target(name: "Helpers", dependencies: ["CLinux", "Clock", "Text"], swiftSettings: strict),
        .target(name: "Postgres", dependencies: ["CLibPQ", "CLinux", "Clock", "Text"], swiftSettings: strict),
        .target(name: "Metastore", dependencies: ["Clock", "Lease", "Postgres", "Text"], swiftSettings: strict),
        .target(
            name: "Outlets",
            dependencies: ["CLinux", "Clock", "Helpers", "Lease", "Metastore", "Orders", "Text", logging],
            swiftSettings: strict),
        .target(
            name: "Settings",
            dependencies: [
                "CLinux", "Clock", "Helpers", "Lease", "Metastore", "Orders", "Outlets", "Postgres", "Text", logging,
            ],
            swiftSettings: strict),
        .target(
            name: "Keeper",
            dependencies: [
                "CLinux", "Clock", "Guard", "Helpers", "Lease", "Metastore", "Orders", "Outlets", "Postgres",
                "Settings", "Text",
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "Sidecar",
            dependencies: [
                "CLinux", "Clock", "Guard", "Helpers", "Keeper", "Lease", "Metastore", "Outlets", "Postgres",
                "Settings",
                "Text", arguments, logging,
            ],
            swiftSettings: strict),

        .testTarget(name: "TextTests", dependencies: ["Text", "Clock"], swiftSettings: strict),
        .testTarget(name: "LeaseTests", dependencies: ["Lease", "Clock", "Orders"], swiftSettings: strict),
        .testTarget(
            name: "HelpersTests", dependencies: ["Helpers", "Clock", "Guard", "TestSupport", "Text"],
            swiftSettings: strict),
        .testTarget(
            name: "PostgresTests", dependencies: ["Postgres", "Clock", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "MetastoreTests", dependencies: ["Metastore", "Postgres", "Lease", "Clock", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "OutletsTests", dependencies: ["Outlets", "Clock", "Lease", "Text", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "SettingsTests", dependencies: ["Settings", "Clock", "Helpers", "Postgres", "Text"],
            swiftSettings: strict),
        .testTarget(
            name: "KeeperTests",
            dependencies: [
                "Keeper", "Clock", "Guard", "Lease", "Orders", "Postgres", "Settings", "TestSupport", "Text",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "SidecarTests",
            dependencies: [
                "Sidecar", "Clock", "Guard", "Lease", "Metastore", "Outlets", "Postgres", "Settings", "Text", arguments,
            ],
            swiftSettings: strict),

        // The built binary against faults of every kind, and what it takes to bring them about and to judge.
        .target(
            name: "TestSupport", dependencies: ["CLibPQ", "CLinux", "Clock"], path: "Tests/Support/TestSupport",
            swiftSettings: strict),
        .executableTarget(name: "recorder", path: "Tests/Support/Recorder"),
        .executableTarget(name: "crowd", path: "Tests/Support/Crowd"),
        .executableTarget(name: "tracer", path: "Tests/Support/Tracer"),
        .executableTarget(name: "slowfile", path: "Tests/Support/SlowFile"),
        .executableTarget(name: "survivor", dependencies: ["CLibPQ"], path: "Tests/Support/Survivor"),
        .testTarget(
            name: "TestSupportTests", dependencies: ["TestSupport", "Clock"], path: "Tests/Support/TestSupportTests",
            swiftSettings: strict),
        .testTarget(
            name: "EndToEnd", dependencies: ["TestSupport", "Clock"], path: "Tests/EndToEnd", swiftSettings: strict),

        // Random faults, several at once, against the built binary: `make chaos`.
        .executableTarget(
            name: "chaos",
            dependencies: ["TestSupport", "Clock", arguments], path: "Tests/Chaos", swiftSettings: strict),

        // What the guard's tests need: a process whose main forks a guard, commands of every shape a tree can take.
        .executableTarget(
            name: "GuardHost", dependencies: ["CLinux", "Clock", "Guard", "Orders"], path: "Tests/Support/GuardHost",
            swiftSettings: strict),
        .executableTarget(name: "TreeShapes", path: "Tests/Support/TreeShapes"),
        .executableTarget(name: "StartHolder", path: "Tests/Support/StartHolder"),
        .testTarget(
            name: "GuardTests", dependencies: ["CLinux", "Clock", "Guard", "Orders", "TestSupport"],
            swiftSettings: strict),
    ]
)
