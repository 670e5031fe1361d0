# Beside ./dev test: older brokers, librdkafka, chaos. Read by ../dev; results are added up in tests.sh.
# shellcheck shell=bash

# The suites that need a real broker, each with brokers of one version. They start their own: an old one comes with a ZooKeeper.
test_one_kafka() {
    local version=${1:-} suites=(cluster_real commits_real producer_real consumer_real) tests=()
    case " $KAFKA_VERSION ${OLD_KAFKAS[*]} " in *" $version "*) ;; *) die "test --kafka: one of $KAFKA_VERSION ${OLD_KAFKAS[*]}" ;; esac
    need_toolchain
    test_environment
    unset KAFKA_FAST_BROKER
    export KAFKA_FAST_KAFKA_VERSION="$version"
    mapfile -t tests < <(printf -- '--test\n%s\n' "${suites[@]}")
    say "Rust tests against Kafka $version"
    counted "Rust, Kafka $version" cargo test --locked -q --no-fail-fast -p kafka-fast "${tests[@]}"
    say "Java tests against Kafka $version"
    if attempt build && attempt run_gradle testLibs; then
        counted "Java, Kafka $version" junit "$GRADLE_JAVA_HOME" "$(jdk_major "$GRADLE_JAVA_HOME")" kafkafast.StrangersTest kafkafast.TransactionsTest
    fi
    results
}

interop() {
    need_toolchain
    test_environment
    say "librdkafka and kafka-fast"
    counted "librdkafka" cargo test --locked -q --no-fail-fast --manifest-path rust/interop/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}/interop"
    results
}

chaos() {
    local rounds=10 seconds=""
    while [ $# -gt 0 ]; do
        case "$1" in
            --rounds) rounds=$2; shift 2 ;;
            --seconds) seconds=$2; shift 2 ;;
            *) die "chaos: unknown option $1" ;;
        esac
    done
    need_toolchain
    start_broker
    start_redis
    export KAFKA_FAST_BROKER="127.0.0.1:$BROKER_PORT" KAFKA_FAST_REDIS="127.0.0.1:$REDIS_PORT"
    if [ -n "$seconds" ]; then chaos_for "$seconds"; else chaos_rounds "$rounds"; fi
    results
}

chaos_rounds() { # rounds
    KAFKA_FAST_CHAOS_ROUNDS="$1" counted "Chaos" cargo test --locked -q -p kafka-fast --test group_chaos -- --nocapture --test-threads=1
}

# Two rounds at a time, because the later rounds of a test choose other moments than its first. The first failure ends it.
chaos_for() { # seconds
    cargo test --locked -q -p kafka-fast --test group_chaos --no-run
    local until=$((SECONDS + $1)) rounds=0
    while [ "$SECONDS" -lt "$until" ] && [ "$FAILED" -eq 0 ]; do
        chaos_rounds 2
        rounds=$((rounds + 2))
    done
    echo "$rounds rounds in $((SECONDS - until + $1)) s"
}
