# What is tested: ./dev test, and what of it adds up results. Read by ../dev.
# shellcheck shell=bash

PASSED=0
FAILED=0

# Failures are said again at the end: what a log shows of a long run is its end.
fail() { # what, and on stdin what is known of it
    work
    # All of it is read: who writes must not meet a closed pipe.
    { echo "FAILED: $1"; sed -n 1,80p; } >>"$WORK/failures"
}

# What cargo test, JUnit and unittest say of tests that failed, out of all they printed.
failures_in() { # file
    awk '/^failures:$/ {on = 1} /^test result:/ {on = 0} on || /^[0-9]+\) [a-z]/ {print; left = 4; next} /^(ERROR|FAIL): |panicked at/ {print; left = 4; next} left-- > 0' "$1"
}

# Adds to the sums, and says them.
add() { # what passed failed
    echo "$1: $2 passed, $3 failed"
    PASSED=$((PASSED + $2))
    FAILED=$((FAILED + $3))
}

# Runs a command that tests nothing itself but must not fail.
attempt() {
    "$@" && return
    FAILED=$((FAILED + 1))
    echo "FAILED: $*" >&2
    fail "$*" </dev/null
    return 1
}

sum() { awk '{for (i = 1; i <= NF; i++) n += $i} END {print n + 0}'; }

# Runs a command, shows what it prints and adds up the results that its lines tell (those of cargo test and of JUnit).
counted() {
    local what=$1 out status=0 passed failed
    shift
    work
    out="$WORK/counted"
    "$@" 2>&1 </dev/null | tee "$out" || status=$?
    passed=$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p; s/^OK (\([0-9]*\) tests\{0,1\})$/\1/p
        s/^Tests run: \([0-9]*\), *Failures: \([0-9]*\)$/\1 -\2/p' "$out" | sum)
    failed=$(sed -n 's/^test result: .* \([0-9]*\) failed.*/\1/p; s/^Tests run: [0-9]*, *Failures: \([0-9]*\)$/\1/p' "$out" | sum)
    # It did not compile, or it crashed.
    if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
    add "$what" "$passed" "$failed"
    [ "$failed" -eq 0 ] || failures_in "$out" | fail "$what"
}

# Of the runner, and whether kafka-fast still uses much less CPU than kafka-clients.
bench_tests() {
    say "bench"
    attempt need_python || return 0
    counted "the bench's judging" python3 -B bench/runner/test_runner.py
    if run_bench --quick </dev/null; then
        add "CPU beside kafka-clients" 1 0
    else
        add "CPU beside kafka-clients" 0 1
        fail "CPU beside kafka-clients" </dev/null
    fi
}

# All Java tests, or those named, by JUnit's own runner; Debian's Gradle cannot start its workers on every JDK.
junit() {
    local home=$1 major=$2 classes=("${@:3}") access=() again=()
    # All of them have run by Gradle before, and what takes long and does not depend on the JDK need not run again.
    [ ${#classes[@]} -gt 0 ] || again=(-Dkafkafast.test.again=true)
    [ ${#classes[@]} -gt 0 ] || mapfile -t classes < <(cd java/src/test/java && find . -name '*Test.java' | sed 's|^\./||; s|/|.|g; s|\.java$||' | sort)
    [ "$major" -ge 24 ] && access=(--enable-native-access=ALL-UNNAMED)
    "$home/bin/java" "${access[@]}" "${again[@]}" -Xmx512m -Djava.util.logging.config.file=java/src/test/resources/logging.properties "-Dkafkafast.test.jar=$JAR" -cp "$JAR:java/build/classes/java/test:java/build/resources/test:java/build/test-libs/*" \
        org.junit.runner.JUnitCore "${classes[@]}"
}

# Gradle prints no sum; its reports have one.
gradle_tests() {
    local status=0 reports=java/build/test-results/test passed failed
    rm -rf "$reports" && mkdir -p "$reports"
    run_gradle test </dev/null || status=$?
    local suites='s/.*<testsuite .* tests="\([0-9]*\)" skipped="\([0-9]*\)" failures="\([0-9]*\)" errors="\([0-9]*\)".*'
    passed=$(find "$reports" -name '*.xml' -exec sed -n "$suites/\\1 -\\2 -\\3 -\\4/p" {} + 2>/dev/null | sum)
    failed=$(find "$reports" -name '*.xml' -exec sed -n "$suites/\\3 \\4/p" {} + 2>/dev/null | sum)
    if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
    add "Java, by Gradle on JDK $(jdk_major "$GRADLE_JAVA_HOME")" "$passed" "$failed"
    [ "$failed" -eq 0 ] || { find "$reports" -name '*.xml' -exec grep -h -B1 -A6 '<failure\|<error' {} + || true; } | fail "Java, by Gradle"
}

java_tests() {
    say "Java tests"
    attempt build || return 0
    attempt run_gradle testLibs || return 0
    gradle_tests
    local major home
    while read -r major home; do
        [ "$home" = "$GRADLE_JAVA_HOME" ] || counted "Java, on JDK $major" junit "$home" "$major"
    done < <(jdks)
}

budgets() {
    say "Budgets"
    if [ "$(uname -m)" != x86_64 ]; then
        echo "the budgets are those of x86_64: not checked"
    elif ! (need_valgrind); then
        echo "valgrind was not found: the budgets were not checked"
    else
        counted "Budgets" count_budgets check
    fi
}

# The workspaces beside ours, which nothing here builds, still know what the library needs.
locks() {
    local manifest
    for manifest in bench/rust rust/interop rust/fuzz/libfuzzer; do
        attempt cargo metadata --locked --format-version 1 --manifest-path "$manifest/Cargo.toml" >/dev/null || true
    done
}

# Where tests find brokers to start, or what is there already.
test_environment() {
    need_kafka
    need_old_kafkas
    start_redis
    export KAFKA_FAST_REQUIRE_BROKER=1 KAFKA_FAST_JAVA="$JAVA" KAFKA_FAST_REDIS="127.0.0.1:$REDIS_PORT"
    export KAFKA_FAST_KAFKA_HOME="$KAFKA_HOME" KAFKA_FAST_KAFKA_HOME_2_4="$CACHE/kafka-2.4.1" KAFKA_FAST_KAFKA_HOME_3_9="$CACHE/kafka-3.9.1"
}

test_all() {
    if [ "${1:-}" = --kafka ]; then shift; test_one_kafka "$@"; return; fi
    [ $# -eq 0 ] || die "test: unknown option $1"
    need_toolchain
    say "format and lints"
    attempt cargo fmt --all --check || true
    attempt cargo clippy --workspace --all-targets --locked -q -- -D warnings || true
    attempt env RUSTDOCFLAGS="-D warnings" cargo doc -p kafka-fast --no-deps --locked -q || true
    locks
    test_environment
    start_broker
    export KAFKA_FAST_BROKER="127.0.0.1:$BROKER_PORT"
    say "Rust tests"
    counted "Rust" cargo test --workspace --locked -q --no-fail-fast
    java_tests
    budgets
    bench_tests
    local major found
    found=$(jdks | cut -d' ' -f1)
    for major in 11 17 21 25; do
        grep -qx "$major" <<<"$found" || echo "JDK $major was not found: not tested on it"
    done
    results
}

results() {
    [ "$FAILED" -eq 0 ] || cat "$WORK/failures"
    echo "$PASSED passed, $FAILED failed"
    [ "$FAILED" -eq 0 ]
}
