#!/usr/bin/env bash
# Development databases: `databases.sh start|stop`. Docker where its engine runs, else local
# processes that listen on loopback and keep their data under DATA_DIR.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

data=$(realpath -m "${DATA_DIR:-.data}")/databases
redis_port=${REDIS_PORT:-6379}
postgres_port=${POSTGRES_PORT:-5432}

# Compose wants a password; development gets one of its own, made once.
with_password() {
    local file=$data/password
    if [[ ! -f $file ]]; then
        mkdir -p "$data"
        (umask 077 && head -c 24 /dev/urandom | base64 | tr -d '/+=' >"$file")
    fi
    # Compose also asks for what the services that stay down would need.
    POSTGRES_PASSWORD=${POSTGRES_PASSWORD:-$(<"$file")} API_KEYS=${API_KEYS:-unused} \
        GRAFANA_PASSWORD=${GRAFANA_PASSWORD:-unused} docker compose "$@"
}

docker_runs() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

postgres_bin() {
    local folder
    for folder in "$(dirname "$(readlink -f "$(command -v pg_ctl || true)")")" /usr/lib/postgresql/*/bin; do
        [[ -x $folder/initdb && -x $folder/pg_ctl ]] && { echo "$folder"; return; }
    done
    return 1
}

# PostgreSQL refuses to run as root.
as_postgres() {
    if ((EUID == 0)); then (cd / && exec runuser -u postgres -- "$@"); else "$@"; fi
}

port_is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

start_redis() {
    local pid_file=$data/redis/redis.pid
    if [[ -f $pid_file ]] && kill -0 "$(<"$pid_file")" 2>/dev/null; then
        say "Redis already runs (process $(<"$pid_file"))"
        return
    fi
    command -v redis-server >/dev/null || die "redis-server is missing: sudo apt-get install redis-server"
    port_is_open "$redis_port" && die "Port $redis_port is taken; set REDIS_PORT to another one."
    mkdir -p "$data/redis"
    redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$data/redis" --daemonize yes \
        --pidfile "$pid_file" --logfile "$data/redis/redis.log" --save "" --appendonly no >/dev/null
    wait_for "$redis_port" || die "Redis did not start; see $data/redis/redis.log"
    say "Redis:      REDIS_URL=redis://127.0.0.1:$redis_port/0"
}

start_postgres() {
    local bin folder=$data/postgres
    bin=$(postgres_bin) || die "PostgreSQL is missing: sudo apt-get install postgresql"
    if as_postgres "$bin/pg_ctl" status -D "$folder" >/dev/null 2>&1; then
        say "PostgreSQL already runs"
        return
    fi
    port_is_open "$postgres_port" && die "Port $postgres_port is taken; set POSTGRES_PORT to another one."
    if [[ ! -f $folder/PG_VERSION ]]; then
        mkdir -p "$folder"
        if ((EUID == 0)); then
            chown postgres "$folder"
            runuser -u postgres -- test -x "$folder" ||
                die "The user 'postgres' can't reach $folder; set DATA_DIR to a folder outside root's home."
        fi
        as_postgres "$bin/initdb" -D "$folder" -U voice_analytics --auth=trust -E UTF8 >/dev/null
        as_postgres sh -c "printf \"listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\n\" >>'$folder/postgresql.conf'"
    fi
    as_postgres "$bin/pg_ctl" start -w -D "$folder" -l "$folder/server.log" -o "-p $postgres_port" >/dev/null ||
        die "PostgreSQL did not start; see $folder/server.log"
    say "PostgreSQL: DATABASE_URL=postgresql+asyncpg://voice_analytics@127.0.0.1:$postgres_port/postgres"
}

wait_for() { # PORT
    local _
    for _ in $(seq 50); do port_is_open "$1" && return; sleep 0.1; done
    return 1
}

stop_all() {
    local bin pid_file=$data/redis/redis.pid
    if [[ -f $pid_file ]]; then
        kill "$(<"$pid_file")" 2>/dev/null || true
        rm -f "$pid_file"
        say "Redis stopped"
    fi
    if bin=$(postgres_bin) && [[ -f $data/postgres/postmaster.pid ]]; then
        as_postgres "$bin/pg_ctl" stop -w -m fast -D "$data/postgres" >/dev/null
        say "PostgreSQL stopped"
    fi
}

case ${1:-} in
    start)
        if docker_runs; then with_password up --detach --wait postgres redis; else start_redis; start_postgres; fi ;;
    stop)
        if docker_runs; then with_password stop postgres redis; else stop_all; fi ;;
    *) die "usage: databases.sh start|stop" ;;
esac
