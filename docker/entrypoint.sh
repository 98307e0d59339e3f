#!/bin/sh
# Starts a node of a cluster, or whatever command is given instead.
#
#   docker run redis-trib [OPTION…]     the arguments of redis-server: --maxmemory 1gb
#   docker run redis-trib COMMAND…      another command: redis-trib create …
#
# From the environment:
#   auth, auth_file   the password of clients and of the nodes among themselves, or a file that holds it
#   announce          the address that the others are told, where the node can't know it (NAT)
#
# Settings are kept beside the data, in /data/redis.conf: what CONFIG REWRITE wrote (redis-trib set-timeout) outlives the
# container. Options on the command line come after it and win.
set -eu
# redis.conf holds the password.
umask 077

stop() { printf 'entrypoint: %s\n' "$*" >&2; exit 1; }

# A value as redis.conf wants it.
quoted() { printf '%s' "$1" | sed 's/[\\"]/\\&/g; s/.*/"&"/'; }

case ${1-} in
    '' | -*) ;;
    redis-server) shift ;;
    *) exec "$@" ;;
esac

password=${auth-}
if [ -n "${auth_file-}" ]; then
    [ -r "$auth_file" ] || stop "auth_file: $auth_file can't be read by user $(id -u)"
    password=
    # Without a newline at its end `read` fails, and has read it all the same.
    IFS= read -r password <"$auth_file" || [ -n "$password" ] || stop "auth_file: $auth_file is empty"
fi
unset auth
[ -w /data ] || stop "/data can't be written by user $(id -u): the volume is somebody else's"

conf=/data/redis.conf
# What the environment says comes anew at each start. CONFIG REWRITE writes the password into `user default` too, and
# that line wins.
ours='requirepass|masterauth|cluster-announce-ip'
if [ -n "$password" ]; then ours="$ours|user default"; fi
{
    if [ -s "$conf" ]; then
        sed -E "/^($ours) /d" "$conf"
    else
        # Whoever is in the network may connect: the password keeps strangers out.
        printf '%s\n' 'dir /data' 'cluster-enabled yes' 'appendonly yes' 'protected-mode no'
    fi
    if [ -n "$password" ]; then
        printf 'requirepass %s\nmasterauth %s\n' "$(quoted "$password")" "$(quoted "$password")"
    fi
    if [ -n "${announce-}" ]; then printf 'cluster-announce-ip %s\n' "$announce"; fi
} >"$conf.new"
mv "$conf.new" "$conf"

# Another container, another address, and in Swarm one on each of several networks. A node that knows no address of its
# own takes the one at which the first member reaches it; a remembered one it would go on naming (Redis 7.0: only MEET
# corrects it).
if [ -s /data/nodes.conf ]; then
    sed -i -E 's/^([0-9a-f]{40}) [^ ]*(:[0-9]+@[^ ]* ([a-z]+,)*myself[ ,])/\1 \2/' /data/nodes.conf
fi

exec redis-server "$conf" "$@"
