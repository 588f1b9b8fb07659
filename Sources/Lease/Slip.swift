// News that cannot come in this state is a slip of our own. Tests and the simulation end at it, and say so. The product ignores
// it and goes on: a command depends on it, and the state that it is in is a safe one.

/// Call where news is ignored that nothing outside can bring about.
package func slip(_ what: @autoclosure () -> String) {
    #if DEBUG || SIMULATION
        // Not in a release build: see above.
        fatalError("a slip: \(what())")
    #endif
}
