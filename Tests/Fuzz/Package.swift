// swift-tools-version: 6.2
// The fuzz targets, a package of its own so that nobody who builds or tests sidecar compiles them: they need the rooms
// built with libFuzzer's instrumentation, from the same sources (the link `Sources`). See `Fuzz.swift`.

import PackageDescription

let swift: [SwiftSetting] = [
    .treatAllWarnings(as: .error), .unsafeFlags(["-sanitize=fuzzer,address", "-enable-testing"]),
]
let linker: [LinkerSetting] = [.unsafeFlags(["-sanitize=fuzzer,address"])]

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
        .target(name: "Lease", dependencies: ["Clock"], path: "Sources/Lease", swiftSettings: swift),
        .target(
            name: "Postgres", dependencies: ["CLibPQ", "CLinux", "Clock"], path: "Sources/Postgres",
            swiftSettings: swift),
        .target(
            name: "Metastore", dependencies: ["Postgres", "Lease", "Clock"], path: "Sources/Metastore",
            swiftSettings: swift),
        .target(name: "Guard", dependencies: ["CLinux", "Clock"], path: "Sources/Guard", swiftSettings: swift),
        // Here a library, without its entry: libFuzzer has one of its own.
        .target(
            name: "Sidecar",
            dependencies: [
                "CLinux", "Clock", "Lease", "Postgres", "Metastore", "Guard",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Sources/Sidecar", exclude: ["main.swift"], swiftSettings: swift),
        .executableTarget(
            name: "fuzz",
            dependencies: ["CLibPQ", "Clock", "Lease", "Postgres", "Metastore", "Guard", "Sidecar"],
            path: "Targets", swiftSettings: swift + [.unsafeFlags(["-parse-as-library"])], linkerSettings: linker),
    ]
)
