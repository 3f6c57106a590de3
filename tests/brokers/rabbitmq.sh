#!/usr/bin/env bash
# RabbitMQ with its STOMP plugin for the tests: the system's package, run as whoever starts it.
#   rabbitmq.sh fetch            finds it, or says how to install it
#   rabbitmq.sh start DIR PORT DIST EPMD
#                                runs a node of its own with its data in DIR, STOMP on 127.0.0.1:PORT; Erlang's
#                                distribution and its port mapper, which a node cannot do without, listen on
#                                127.0.0.1:DIST and EPMD
# Standard input is held by the owner: see hold.sh. The port answers CONNECT when the broker is ready.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=hold.sh
. "$here/hold.sh"
# Debian's command on the path wants to be root or rabbitmq; the program behind it does not.
server=/usr/lib/rabbitmq/bin/rabbitmq-server
[ -x "$server" ] || server=$(command -v rabbitmq-server || true)

fetch() {
    if [ -z "$server" ] || ! command -v epmd >/dev/null; then
        missing "RabbitMQ is missing" rabbitmq-server
    fi
    echo "RabbitMQ is there"
}

configure() {
    local dir=$1 port=$2
    cat >"$dir/rabbitmq.conf" <<END
listeners.tcp = none
stomp.listeners.tcp.1 = 127.0.0.1:$port
load_definitions = $here/rabbitmq.json
loopback_users = none
disk_free_limit.absolute = 50MB
END
    # STOMP inside TLS as well, for clients with a certificate: see activemq.sh.
    [ -z "${BROKER_TLS_PORT:-}" ] || cat >>"$dir/rabbitmq.conf" <<END
stomp.listeners.ssl.1 = 127.0.0.1:$BROKER_TLS_PORT
ssl_options.cacertfile = $BROKER_TLS_DIR/ca.pem
ssl_options.certfile = $BROKER_TLS_DIR/cert.pem
ssl_options.keyfile = $BROKER_TLS_DIR/key.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
END
    echo '[rabbitmq_stomp].' >"$dir/enabled_plugins"
}

# Everything that a node would share with others of this machine is its own.
run() {
    local dir=$1 port=$2
    export HOME=$dir RABBITMQ_NODENAME=stompbox-$port@localhost RABBITMQ_DIST_PORT=$3
    export ERL_EPMD_PORT=$4 ERL_EPMD_ADDRESS=127.0.0.1
    export RABBITMQ_CONF_ENV_FILE=$dir/none RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf
    export RABBITMQ_ADVANCED_CONFIG_FILE=$dir/none RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins
    export RABBITMQ_MNESIA_BASE=$dir/mnesia RABBITMQ_LOG_BASE=$dir RABBITMQ_LOGS=- RABBITMQ_PID_FILE=$dir/pid
    export RABBITMQ_GENERATED_CONFIG_DIR=$dir/generated RABBITMQ_PLUGINS_EXPAND_DIR=$dir/plugins
    # The port mapper is started by this script, which ends it too; Erlang's own would stay for ever.
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 2:2"
    # The script becomes the node, so that signals reach it.
    export detached=yes
    cd "$dir"
    exec "$server"
}

start() {
    local dir=$1
    mkdir -p "$dir"
    configure "$dir" "$2"
    epmd -port "$4" -address 127.0.0.1 </dev/null >>"$dir/epmd.log" 2>&1 &
    helpers=("$!")
    hold "$dir" run "$@"
}

case "${1:-}" in
    fetch) fetch ;;
    start)
        fetch >&2
        start "${@:2}"
        ;;
    *) usage ;;
esac
