# What must be there: packages, toolchains, the jars of Kafka; and the build. Read by ../dev.
# shellcheck shell=bash

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Installs Debian packages when we may, else says what to install.
need_packages() {
    local missing=() package
    for package in "$@"; do
        # Not `dpkg -s`: that also knows those that were removed.
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    as_root true 2>/dev/null || die "please install: apt-get install ${missing[*]}"
    command -v apt-get >/dev/null || die "please install: ${missing[*]}"
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# What Debian asks before it starts a daemon, and where the file that was there before us lies meanwhile.
POLICY=/usr/sbin/policy-rc.d
POLICY_BEFORE="$POLICY.before-kafka-fast"

# redis-server, without the daemon that Debian's package starts, at once and with the machine: who had none is to have none after us.
need_redis() {
    if command -v redis-server >/dev/null; then return; fi
    mkdir -p "$CACHE"
    # One at a time, and restored however this ends.
    (
        flock 9
        if command -v redis-server >/dev/null; then exit; fi
        command -v apt-get >/dev/null && as_root true 2>/dev/null || die "please install: apt-get install redis-server (6.2 or newer; no daemon of it need run)"
        trap allow_daemons EXIT
        forbid_redis_daemon
        need_packages redis-server
        as_root update-rc.d redis-server disable >/dev/null 2>&1 || say "redis-server is installed, and will start with this machine"
    ) 9>"$CACHE/redis.lock"
}

forbid_redis_daemon() {
    # Ours is there already when one of us was killed with -9.
    if [ -e "$POLICY" ] && ! grep -q kafka-fast "$POLICY"; then as_root mv "$POLICY" "$POLICY_BEFORE"; fi
    as_root tee "$POLICY" >/dev/null <<POLICY_RC
#!/bin/sh
# There while the ./dev of kafka-fast installs redis-server, whose daemon nobody asked for. All others start as before.
case "\$*" in *redis*) exit 101 ;; esac
[ ! -x $POLICY_BEFORE ] || exec $POLICY_BEFORE "\$@"
exit 0
POLICY_RC
    as_root chmod 755 "$POLICY"
}

allow_daemons() {
    if [ -e "$POLICY_BEFORE" ]; then as_root mv -f "$POLICY_BEFORE" "$POLICY"; else as_root rm -f "$POLICY"; fi
}

# The major version of the JDK in a folder.
jdk_major() { sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$1/release" 2>/dev/null; }

# Every JDK of 11 or newer, one a line: "major home", the oldest first, one a version.
jdks() {
    local home major javac
    javac=$(readlink -f "$(command -v javac)" 2>/dev/null) || true
    for home in ${JAVA_HOME:+"$JAVA_HOME"} ${javac:+"${javac%/bin/javac}"} /usr/lib/jvm/* "$HOME"/.sdkman/candidates/java/*; do
        [ -x "$home/bin/javac" ] && [ -f "$home/release" ] || continue
        major=$(jdk_major "$home")
        if [ -n "$major" ] && [ "$major" -ge 11 ]; then echo "$major $(readlink -f "$home")"; fi
    done | sort -n -u -k1,1
}

need_python() { command -v python3 >/dev/null || need_packages python3; }
need_valgrind() { command -v valgrind >/dev/null || need_packages valgrind; }

need_cargo() {
    command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
    command -v cargo >/dev/null || die "no cargo: install a Rust toolchain first (rustup.rs)"
    command -v cc >/dev/null || need_packages gcc libc6-dev
}

need_toolchain() {
    need_cargo
    [ -n "$(jdks)" ] || die "no JDK of 11 or newer: apt-get install openjdk-17-jdk-headless"
    command -v gradle >/dev/null || need_packages gradle
    GRADLE_JAVA_HOME=$(jdks | awk '$1 <= 17 {home = $2} END {print home}')
    if [ -z "$GRADLE_JAVA_HOME" ]; then
        # Debian's Gradle 4.4.1 runs on nothing newer than 17; a newer Gradle runs on any.
        ! compgen -G '/usr/share/gradle/lib/gradle-launcher-4.*.jar' >/dev/null || need_packages openjdk-17-jdk-headless
        GRADLE_JAVA_HOME=$(jdks | awk 'NR == 1 {print $2}')
    fi
    JAVA="$GRADLE_JAVA_HOME/bin/java"
    JAVAC="$GRADLE_JAVA_HOME/bin/javac"
}

run_gradle() { JAVA_HOME="$GRADLE_JAVA_HOME" gradle --no-daemon -q "$@"; }

# Jars that Gradle fetches, into a cache outside the tree; complete or not there at all, also when two of us fetch at once.
fetch() { # what, folder, task, the property that names its folder
    [ -d "$2" ] && return
    say "fetching $1"
    mkdir -p "$CACHE"
    FETCHING=$(mktemp -d "$CACHE/fetch.XXXXXX")
    run_gradle "-P$4=$FETCHING" "$3"
    mv -T "$FETCHING" "$2" 2>/dev/null || rm -rf "$FETCHING"
    FETCHING=""
}

need_kafka() { fetch "Apache Kafka $KAFKA_VERSION" "$KAFKA_HOME" fetchKafka kafkaDir; }
need_old_kafkas() {
    fetch "Apache Kafka 2.4.1" "$CACHE/kafka-2.4.1" fetchKafka24 kafkaDir
    fetch "Apache Kafka 3.9.1" "$CACHE/kafka-3.9.1" fetchKafka39 kafkaDir
}
need_jmh() { fetch "JMH $JMH_VERSION" "$JMH_HOME" fetchJmh jmhDir; }

build() {
    say "building $JAR"
    cargo build --release --locked -q -p kafka-fast-jni && run_gradle jar
}

# Programs beside the jar: the examples, the bench.
compile() { mkdir -p "$CLASSES"; "$JAVAC" -nowarn -d "$CLASSES" -cp "$JAR:$KAFKA_HOME/*" "$@"; }
