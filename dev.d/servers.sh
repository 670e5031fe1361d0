# Real servers: a broker and a Redis of our own, gone when ../dev ends. Read by it.
# shellcheck shell=bash

# A port of the loopback that nobody listens on, below those that outgoing connections are given.
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

# Before a command: it dies with us even when we are killed with -9.
DIES_WITH_US=()
command -v setpriv >/dev/null && DIES_WITH_US=(setpriv --pdeathsig TERM)

# Whether a server says in its log that it is ready, while it lives and within so many tenths of a second. Its own word, not only
# the port: somebody else may have taken that meanwhile.
says_in_time() { # pid words log tenths
    for _ in $(seq "$4"); do
        kill -0 "$1" 2>/dev/null || return 1
        if grep -q "$2" "$3"; then return 0; fi
        sleep 0.1
    done
    return 1
}

# Starts a broker of our own; BROKER_PORT is where it listens. It is stopped when this script ends, however it ends.
start_broker() {
    need_kafka
    work
    BROKER_DIR="$WORK/broker"
    mkdir "$BROKER_DIR"
    # Somebody else may take a port between our choice and our use of it.
    for _ in 1 2 3 4; do
        if try_start_broker; then return; fi
        grep -q 'Address already in use' "$BROKER_DIR/broker.log" || break
        stop_broker
        rm -rf "$BROKER_DIR/data"
    done
    tail -40 "$BROKER_DIR/broker.log" >&2
    die "the broker did not start"
}

try_start_broker() {
    BROKER_PORT=$(free_port)
    local controller
    controller=$(free_port)
    cat > "$BROKER_DIR/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$BROKER_PORT,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$BROKER_PORT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$BROKER_DIR/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
num.partitions=${BROKER_PARTITIONS:-1}
CONF
    local log=(-Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info)
    "$JAVA" "${log[@]}" -Xmx256m -cp "$KAFKA_HOME/*" kafka.tools.StorageTool format --cluster-id="$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d =)" \
        -c "$BROKER_DIR/server.properties" >"$BROKER_DIR/format.log" 2>&1 || { cat "$BROKER_DIR/format.log" >&2; die "the broker's storage could not be formatted"; }
    "${DIES_WITH_US[@]}" "$JAVA" "${log[@]}" -Xms512m -Xmx1g -cp "$KAFKA_HOME/*" kafka.Kafka "$BROKER_DIR/server.properties" >"$BROKER_DIR/broker.log" 2>&1 </dev/null &
    BROKER_PID=$!
    says_in_time "$BROKER_PID" 'Kafka Server started' "$BROKER_DIR/broker.log" 600
}

# Starts a Redis of our own, without a disk; REDIS_PORT is where it listens. It is stopped as the broker is.
start_redis() {
    need_redis
    work
    REDIS_DIR="$WORK/redis"
    mkdir "$REDIS_DIR"
    for _ in 1 2 3 4; do
        if try_start_redis; then return; fi
        grep -q 'Address already in use' "$REDIS_DIR/redis.log" || break
        stop_redis
    done
    tail -40 "$REDIS_DIR/redis.log" >&2
    die "Redis did not start"
}

try_start_redis() {
    REDIS_PORT=$(free_port)
    "${DIES_WITH_US[@]}" redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --dir "$REDIS_DIR" --save "" --appendonly no >"$REDIS_DIR/redis.log" 2>&1 </dev/null &
    REDIS_PID=$!
    says_in_time "$REDIS_PID" 'Ready to accept connections' "$REDIS_DIR/redis.log" 100
}
