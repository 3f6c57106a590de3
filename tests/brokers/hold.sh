# What the brokers' scripts have in common; they source this file.
#
# Whoever starts a broker holds the other end of the script's standard input. The line "stop" ends the broker
# in good order, the line "kill" at once; both leave its folder for a later start. When standard input closes,
# since the owner is done or was killed itself, the broker is killed and its folder removed.

# hold DIR COMMAND...: runs the broker, in DIR, until it ends. What the command writes goes to DIR/broker.log.
# Processes that the broker needs beside it are in `helpers`, by their ids, and end with it.
helpers=()
hold() {
    local dir=$1 broker owner
    shift
    # An interrupt at the terminal ends the owner, and with it the broker; this script must survive to
    # see to that.
    trap '' INT HUP
    exec 3<&0
    "$@" 3<&- </dev/null >>"$dir/broker.log" 2>&1 &
    broker=$!
    watch_owner "$dir" "$broker" <&3 &
    owner=$!
    { wait "$broker" || true; } 2>/dev/null
    kill "$owner" "${helpers[@]}" 2>/dev/null || true
    if [ -e "$dir/orphaned" ]; then rm -rf "${dir:?}"; fi
}

# Ends the broker when its owner says so or is gone.
watch_owner() {
    local dir=$1 broker=$2 word
    if ! read -r word; then
        touch "$dir/orphaned"
        word="kill"
    fi
    if [ "$word" = stop ]; then kill -TERM "$broker"; else kill -KILL "$broker" "${helpers[@]}"; fi
}

# Says how to get what is missing, and fails.
missing() {
    echo "$1; on Debian: sudo apt-get install -y --no-install-recommends $2" >&2
    exit 1
}

# The comment at the head of a script, as its help.
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 64
}
