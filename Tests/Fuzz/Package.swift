// swift-tools-version: 6.2
// The fuzz targets, a package of its own so that nobody who builds or tests sidecar compiles them: they need the rooms
// built with libFuzzer's instrumentation, from the same sources (the link `Sources`). See `Fuzz.swift`.

import PackageDescription

let swift: [SwiftSetting] = [
    .treatAllWarnings(as: .error), .unsafeFlags(["-sanitize=fuzzer,address", "-enable-testing"]),
]
let linker: [LinkerSetting] = [.unsafeFlags(["-sanitize=fuzzer,address"])]

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "fuzz",
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    ],
    targets: [
        .systemLibrary(name: "CLibPQ", path: "Sources/CLibPQ", pkgConfig: "libpq"),
        .target(name: "CLinux", path: "Sources/CLinux"),
        .target(name: "Clock", path: "Sources/Clock", swiftSettings: swift),
        .target(name: "Text", dependencies: ["Clock"], path: "Sources/Text", swiftSettings: swift),
        .target(name: "Orders", dependencies: ["Clock"], path: "Sources/Orders", swiftSettings: swift),
        .target(
            name: "Lease", dependencies: ["Clock", "Orders"], path: "Sources/Lease", swiftSettings: swift),
        .target(
            name: "Guard", dependencies: ["CLinux", "Clock", "Orders"], path: "Sources/Guard", swiftSettings: swift),
        .target(
            name: "Helpers", dependencies: ["CLinux", "Clock", "Text"], path: "Sources/Helpers", swiftSettings: swift),
        .target(
            name: "Postgres", dependencies: ["CLibPQ", "CLinux", "Clock", "Text"], path: "Sources/Postgres",
            swiftSettings: swift),
        .target(
            name: "Metastore", dependencies: ["Clock", "Lease", "Postgres", "Text"], path: "Sources/Metastore",
            swiftSettings: swift),
        .target(
            name: "Outlets",
            dependencies: ["CLinux", "Clock", "Helpers", "Lease", "Metastore", "Orders", "Text", logging],
            path: "Sources/Outlets", swiftSettings: swift),
        .target(
            name: "Settings",
            dependencies: [
                "CLinux", "Clock", "Helpers", "Lease", "Metastore", "Orders", "Outlets", "Postgres", "Text", logging,
            ],
            path: "Sources/Settings", swiftSettings: swift),
        .target(
            name: "Keeper",
            dependencies: [
                "CLinux", "Clock", "Guard", "Helpers", "Lease", "Metastore", "Orders", "Outlets", "Postgres",
                "Settings", "Text",
                logging,
            ],
            path: "Sources/Keeper", swiftSettings: swift),
        // Here a library, without its entry: libFuzzer has one of its own.
        .target(
            name: "Sidecar",
            dependencies: [
                "CLinux", "Clock", "Guard", "Keeper", "Lease", "Metastore", "Outlets", "Postgres", "Settings", "Text",
                .product(name: "ArgumentParser", package: "swift-argument-parser"), logging,
            ],
            path: "Sources/Sidecar", exclude: ["main.swift"], swiftSettings: swift),
        .executableTarget(
            name: "fuzz",
            dependencies: [
                "CLibPQ", "Clock", "Guard", "Lease", "Metastore", "Orders", "Outlets", "Postgres", "Settings",
                "Sidecar", "Text",
            ],
            path: "Targets", swiftSettings: swift + [.unsafeFlags(["-parse-as-library"])], linkerSettings: linker),
    ]
)
