// What the child finds in its environment: a sidecar inside the child inherits it and must not take it for a slip.

import Lease
import Settings
import Testing

@testable import Keeper

@Suite("The child's environment") struct ChildEnvironmentTests {
    @Test("A sidecar inside a sidecar's child knows all variables that the outer one adds") func nested() {
        let additions = ChildEnvironment.additions(
            identity: Identity(lease: "beat", node: "n1", instance: InstanceID("i")), epoch: Epoch(7), database: "d")
        let pairs = additions.map { $0.split(separator: "=", maxSplits: 1).map(String.init) }
        #expect(pairs.allSatisfy { $0.count == 2 } && additions.contains("SIDECAR_EPOCH=7"))
        let environment = Environment(Dictionary(uniqueKeysWithValues: pairs.map { ($0[0], $0[1]) }))
        #expect(UnknownVariables.warnings(environment) == [])
    }
}
