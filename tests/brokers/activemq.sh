#!/usr/bin/env bash
# ActiveMQ Classic for the tests, without root.
#   activemq.sh fetch            downloads it once into the user's cache folder
#   activemq.sh start DIR PORT   runs it with its data in DIR, STOMP on 127.0.0.1:PORT
# Standard input is held by the owner: see hold.sh. The port answers CONNECT when the broker is ready.
# JOURNAL_SYNC=periodic in the environment: it does not wait for the disk.
set -euo pipefail

version=6.3.1
here=$(cd "$(dirname "$0")" && pwd)
# A changed list of jars makes a new folder.
home=${XDG_CACHE_HOME:-$HOME/.cache}/stompbox/activemq-$version-$(cksum <"$here/activemq-pom.xml" | cut -d' ' -f1)
# shellcheck source=hold.sh
. "$here/hold.sh"

fetch() {
    if [ -d "$home/lib" ]; then
        echo "ActiveMQ $version is there"
        return
    fi
    for tool in java mvn; do
        command -v "$tool" >/dev/null || missing "ActiveMQ needs Java 17 and Maven ($tool is missing)" "default-jre-headless maven"
    done
    mkdir -p "$home"
    local partial
    partial=$(mktemp -d "$home/partial.XXXXXX")
    echo "downloading ActiveMQ $version by Maven"
    mvn -q -B -f "$here/activemq-pom.xml" -Dactivemq.version="$version" \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$partial"
    # Another run may have been faster; its copy is as good.
    mv -T "$partial" "$home/lib" 2>/dev/null || rm -rf "$partial"
}

# With BROKER_TLS_PORT in the environment: STOMP inside TLS as well, on 127.0.0.1 at that port, for clients
# with a certificate. BROKER_TLS_DIR holds ca.pem, which clients are held to, cert.pem and key.pem.
secure() {
    local conf=$1 word=only-for-tests
    openssl pkcs12 -export -in "$BROKER_TLS_DIR/cert.pem" -inkey "$BROKER_TLS_DIR/key.pem" \
        -passout "pass:$word" -out "$conf/broker.p12"
    rm -f "$conf/trust.p12"
    keytool -importcert -noprompt -alias ca -file "$BROKER_TLS_DIR/ca.pem" -storetype PKCS12 \
        -keystore "$conf/trust.p12" -storepass "$word" 2>/dev/null
    local stores="keyStore=\"file:$conf/broker.p12\" trustStore=\"file:$conf/trust.p12\""
    stores+=" keyStorePassword=\"$word\" trustStorePassword=\"$word\""
    local uri="stomp+ssl://127.0.0.1:$BROKER_TLS_PORT?transport.needClientAuth=true"
    sed -i -e "s|<!--ssl-context-->|<sslContext><sslContext $stores/></sslContext>|" \
        -e "s|<!--ssl-connector-->|<transportConnector name=\"stomp+ssl\" uri=\"$uri\"/>|" "$conf/activemq.xml"
}

start() {
    local dir=$1 port=$2
    mkdir -p "$dir/conf" "$dir/data"
    cp "$here/activemq.xml" "$dir/conf/activemq.xml"
    [ -z "${BROKER_TLS_PORT:-}" ] || secure "$dir/conf"
    hold "$dir" java -Xms64m -Xmx512m -Dstomp.port="$port" -Djournal.sync="${JOURNAL_SYNC:-always}" \
        -Dactivemq.home="$dir" -Dactivemq.base="$dir" -Dactivemq.conf="$dir/conf" -Dactivemq.data="$dir/data" \
        -Djava.io.tmpdir="$dir/data" -cp "$dir/conf:$home/lib/*" \
        org.apache.activemq.console.Main start "xbean:file:$dir/conf/activemq.xml"
}

case "${1:-}" in
    fetch) fetch ;;
    start)
        [ -d "$home/lib" ] || fetch >&2
        start "$2" "$3"
        ;;
    *) usage ;;
esac
