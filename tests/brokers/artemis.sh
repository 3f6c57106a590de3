#!/usr/bin/env bash
# ActiveMQ Artemis for the tests, without root.
#   artemis.sh fetch             downloads it once into the user's cache folder
#   artemis.sh start DIR PORT PREFIXED IMPATIENT
#                                runs an instance as `artemis create` makes it, with its data in DIR and three
#                                STOMP acceptors on 127.0.0.1. PORT: as generated. PREFIXED: with
#                                anycastPrefix=/queue/ and multicastPrefix=/topic/. IMPATIENT: as generated,
#                                but it closes a silent connection after 2 s instead of 60.
# Standard input is held by the owner: see hold.sh. The port answers CONNECT when the broker is ready.
# JOURNAL_SYNC=periodic in the environment: it does not wait for the disk.
set -euo pipefail

version=2.44.0
here=$(cd "$(dirname "$0")" && pwd)
home=${XDG_CACHE_HOME:-$HOME/.cache}/stompbox/artemis-$version
# shellcheck source=hold.sh
. "$here/hold.sh"

fetch() {
    if [ -d "$home" ]; then
        echo "Artemis $version is there"
        return
    fi
    for tool in java mvn; do
        command -v "$tool" >/dev/null || missing "Artemis needs Java 17 and Maven ($tool is missing)" "default-jre-headless maven"
    done
    mkdir -p "$(dirname "$home")"
    local partial
    partial=$(mktemp -d "$home.partial.XXXXXX")
    echo "downloading Artemis $version by Maven"
    mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -DoutputDirectory="$partial" \
        -Dartifact="org.apache.activemq:apache-artemis:$version:tar.gz:bin"
    tar -xzf "$partial"/*.tar.gz -C "$partial"
    # Another run may have been faster; its copy is as good.
    mv -T "$partial/apache-artemis-$version" "$home" 2>/dev/null || true
    rm -rf "$partial"
}

# What "limited" may do on an address; all of it remains with the user of the tests.
rights() {
    local match=$1 right roles
    shift
    printf '<security-setting match="%s">' "$match"
    for right in send consume browse createAddress createNonDurableQueue deleteNonDurableQueue createDurableQueue deleteDurableQueue; do
        roles=amq
        case " $* " in *" $right "*) roles=amq,limited ;; esac
        printf '<permission type="%s" roles="%s"/>' "$right" "$roles"
    done
    printf '</security-setting>'
}

# An instance that takes logins only from the user of the tests, and from "limited", who may read only
# rights.read queues and write only rights.write queues.
create() {
    local dir=$1 options=()
    [ "${JOURNAL_SYNC:-always}" = always ] || options+=(--no-fsync)
    JAVA_ARGS=-Xmx128m "$home/bin/artemis" create "$dir" --user stompbox --password only-for-tests --require-login \
        --host 127.0.0.1 --no-web --silent --no-autotune "${options[@]}" >>"$dir/broker.log" 2>&1 </dev/null
    printf '\nlimited = only-for-tests\n' >>"$dir/etc/artemis-users.properties"
    printf '\nlimited = limited\n' >>"$dir/etc/artemis-roles.properties"
}

# Leaves of the generated acceptors the one for STOMP, three times. Nobody may send to "refused.", by either name.
# From "patient." nothing is taken away for being delivered too often. A nearly full disk must not stop the tests.
configure() {
    local file=$1/etc/broker.xml stomp rights match patient=
    rights=$(rights "/queue/rights.read.#" consume createAddress createDurableQueue)
    rights+=$(rights "/queue/rights.write.#" send createAddress createDurableQueue)
    rights+='<security-setting match="/queue/refused.#"/><security-setting match="refused.#"/>'
    stomp=$(grep -o '<acceptor name="stomp">.*</acceptor>' "$file" | sed "s#127.0.0.1:[0-9]*#127.0.0.1:$2#")
    for match in "/queue/patient.#" "patient.#"; do
        patient+="<address-setting match=\"$match\"><max-delivery-attempts>-1</max-delivery-attempts></address-setting>"
    done
    {
        sed -n '1,/<acceptors>/p' "$file"
        echo "$stomp"
        sed "s#\"stomp\"#\"prefixed\"#; s#127.0.0.1:[0-9]*#127.0.0.1:$3#; s#</acc#;anycastPrefix=/queue/;multicastPrefix=/topic/</acc#" <<<"$stomp"
        sed "s#\"stomp\"#\"impatient\"#; s#127.0.0.1:[0-9]*#127.0.0.1:$4#; s#</acc#;connectionTtl=2000</acc#" <<<"$stomp"
        sed -n '/<\/acceptors>/,$p' "$file" | sed 's#</core>#<connection-ttl-check-interval>500</connection-ttl-check-interval></core>#'
    } | sed "s#<max-disk-usage>.*<#<max-disk-usage>100<#; s|<security-settings>|&$rights|; s|<address-settings>|&$patient|" >"$file.new"
    mv "$file.new" "$file"
}

start() {
    local dir=$1
    mkdir -p "$dir"
    if [ ! -e "$dir/created" ]; then
        create "$dir"
        configure "$@"
        touch "$dir/created"
    fi
    JAVA_ARGS="-Xms64m -Xmx512m -XX:+UseSerialGC -Dlog4j2.disableJmx=true --add-opens java.base/jdk.internal.misc=ALL-UNNAMED" \
        hold "$dir" "$dir/bin/artemis" run
}

case "${1:-}" in
    fetch) fetch ;;
    start)
        [ -d "$home" ] || fetch >&2
        start "${@:2}"
        ;;
    *) usage ;;
esac
