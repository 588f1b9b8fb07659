import ArgumentParser
import Logging
struct S: ParsableCommand { @Option var x: String?; func run() { Logger(label: "x").info("hi") } }
S.main()
