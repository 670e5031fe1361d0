# What it costs: ./dev bench, ./dev budget. Read by ../dev.
# shellcheck shell=bash

# The options are the runner's own; those of Java and of the broker come behind them, so that they win.
bench() {
    need_python
    # These need neither a build nor a broker.
    case " $* " in *" --list "* | *" --help "* | *" -h "*) python3 -B bench/runner "$@"; return ;; esac
    need_toolchain
    if [ "${1:-}" = wire ]; then shift; cargo bench --locked -q -p kafka-fast --bench wire -- "$@"; return; fi
    build
    [ "${1:-}" != boundary ] || need_jmh
    start_broker
    if [ "${1:-}" = boundary ]; then shift; bench_boundary "$@"; else run_bench "$@"; fi
}

run_bench() {
    compile bench/java/*.java || return
    "${DIES_WITH_US[@]}" python3 -B bench/runner "$@" --java "$JAVA" --classpath "$JAR:$CLASSES:$KAFKA_HOME/*" --port "$BROKER_PORT" --broker-pid "$BROKER_PID"
}

# JMH's processor writes the code that measures; it is compiled with what it found.
bench_boundary() {
    local classes=java/build/boundary
    compile bench/java/*.java
    rm -rf "$classes" && mkdir -p "$classes"
    "$JAVAC" -nowarn -d "$classes" -cp "$JAR:$JMH_HOME/*" -processor org.openjdk.jmh.generators.BenchmarkProcessor bench/java/boundary/*.java
    "${DIES_WITH_US[@]}" python3 -B bench/runner/boundary.py "$@" --java "$JAVA" --classpath "$JAR:$CLASSES:$KAFKA_HOME/*" --jmh "$JAR:$classes:$JMH_HOME/*" \
        --port "$BROKER_PORT" --broker-pid "$BROKER_PID"
}

BUDGETS=rust/jni/budgets.txt

# Budgets that do not depend on the machine; CONTRIBUTING.md says how to read them. What callgrind wrote stays in the
# target folder.
count_budgets() { # check or write
    local target="${CARGO_TARGET_DIR:-target}"
    # With the library, whose parts it shares.
    cargo build --release --locked -q -p kafka-fast-jni --lib --example budget || return 1
    "$target/release/examples/budget" "$1" "$BUDGETS" "$target/budget"
}

budget() {
    local what=check
    case "${1:-}" in
        "") ;;
        --write) what=write ;;
        *) die "budget: unknown option $1" ;;
    esac
    need_toolchain
    need_valgrind
    count_budgets "$what"
}
