# Bytes no broker would send: ./dev fuzz. Read by ../dev.
# shellcheck shell=bash

# With overflows checked. What failed stays in the target folder.
changed_inputs() {
    local target="${CARGO_TARGET_DIR:-target}"
    cargo build --profile fuzz --locked -q -p kafka-fast-fuzz || return
    "$target/fuzz/fuzz" --out "$target/hostile" "$@"
}

# The same targets, led by what they do with their inputs: wants nightly and cargo-fuzz.
has_libfuzzer() { cargo fuzz --version >/dev/null 2>&1 && cargo +nightly --version >/dev/null 2>&1; }

libfuzzer() { # seconds
    local home=rust/fuzz/libfuzzer target names each folder
    folder="$(realpath "${CARGO_TARGET_DIR:-target}")/hostile"
    changed_inputs --write-seeds "$folder/seeds"
    mapfile -t names < <(changed_inputs --list)
    each=$(($1 / ${#names[@]}))
    for target in "${names[@]}"; do
        mkdir -p "$folder/corpus/$target"
        say "libFuzzer: $target"
        KAFKA_FAST_FUZZ="$target" cargo +nightly fuzz run --fuzz-dir "$home" --target-dir "$folder/target" target "$folder/corpus/$target" "$folder/seeds/$target" \
            -- -max_total_time="$((each > 0 ? each : 1))" -timeout=1 -rss_limit_mb=2048 -artifact_prefix="$folder/$target-" -verbosity=0 -print_final_stats=1
    done
}

fuzz() {
    local seconds=60 rest=()
    while [ $# -gt 0 ]; do
        [ $# -gt 1 ] || die "fuzz: $1 is unknown, or wants a value"
        case "$1" in
            --seconds) seconds=$2 ;;
            --executions | --seed | --target | --replay) rest+=("$1" "$2") ;;
            *) die "fuzz: unknown option $1" ;;
        esac
        shift 2
    done
    need_cargo
    case " ${rest[*]} " in
        *" --executions "* | *" --replay "*) changed_inputs "${rest[@]}"; return ;;
    esac
    # libFuzzer has half of the time.
    if has_libfuzzer; then seconds=$(((seconds + 1) / 2)); else say "cargo-fuzz or nightly was not found: changed inputs only"; fi
    changed_inputs --seconds "$seconds" "${rest[@]}"
    if has_libfuzzer; then libfuzzer "$seconds"; fi
}
