#!/usr/bin/env bash
# The project's one entry point for people; `./dev.sh help` lists the commands.
set -euo pipefail
cd "$(dirname "$0")"
source scripts/environment.sh

usage() {
    cat <<'EOF'
./dev.sh COMMAND

  demo [--once] [--checkpoints bundled|hub|DIR]
                  set up, start Triton and the API, analyse a recording of real people, show the
                  answer and keep serving; --once stops after the answer. hub or DIR exports the
                  real checkpoints first (WHISPER_MODEL and its siblings name them)
  test [PYTEST ARGS]
                  install what the tests need and run all of them
  setup           make .venv with what serving needs (no torch)
  serve           Triton and the API with the embedded defaults, one process
  start | stop    development databases (Redis, PostgreSQL): through Docker where its engine runs,
                  else as local processes with their data under DATA_DIR
  docs            write docs/api.md anew from the service's routes
  audit           ask the advisory database whether a locked package has known faults (online)
  check           formatting, lint, types, import direction
  benchmarks ARGS python -m benchmarks ARGS: how right and how fast a service is; --help says more
  export ARGS     python -m export ARGS, in an environment with torch; export --help says more

Settings come from the environment or .env (see .env.example). PORT, TRITON_HTTP_PORT,
TRITON_GRPC_PORT and TRITON_METRICS_PORT take 0 for any free port.
EOF
}

demo() {
    local once="" checkpoints=bundled
    while (($#)); do
        case $1 in
            --once) once=--once ;;
            --checkpoints) checkpoints=${2:?--checkpoints needs bundled, hub or a folder}; shift ;;
            --checkpoints=*) checkpoints=${1#*=} ;;
            *) die "demo does not know '$1'; see ./dev.sh help" ;;
        esac
        shift
    done
    serving_environment
    if [[ $checkpoints != bundled ]]; then
        export_environment
        say "Exporting checkpoints: $checkpoints"
        export MODEL_REPOSITORY=${MODEL_REPOSITORY:-${DATA_DIR:-.data}/model_repository_$(tr -c 'A-Za-z0-9\n' _ <<<"$checkpoints")}
        .venv-export/bin/python -m export all --checkpoint "$checkpoints" --repository "$MODEL_REPOSITORY" --only-missing
    fi
    exec .venv/bin/python -m api.demo $once
}

run_tests() {
    test_programs
    serving_environment
    export_environment
    (($#)) || set -- --numprocesses 2 --dist loadfile    # all of them: mostly waiting for processes
    exec .venv-export/bin/python -m pytest "$@"
}

check() {
    export_environment
    local bin=.venv-export/bin code=(api benchmarks client deploy export scripts tests model_repository triton_backends)
    say "black";        "$bin/black" --check "${code[@]}"
    say "isort";        "$bin/isort" --check "${code[@]}"
    say "ruff";         "$bin/ruff" check "${code[@]}"
    say "mypy";         "$bin/mypy"
    say "import-linter"; "$bin/lint-imports" --no-timing 2>/dev/null || "$bin/lint-imports"
    say "All checks passed"
}

# Known faults of what poetry.lock names. Needs the internet: PyPI's advisory database.
audit() {
    export_environment
    make_venv .venv-audit
    pip_install .venv-audit "pip-audit>=2.9" || die "pip-audit can't be installed; is there a network?"
    local requirements
    requirements=$(mktemp)
    trap 'rm -f "$requirements"' EXIT
    .venv-export/bin/python -m scripts.locked >"$requirements"
    # Strict: a package that the database doesn't answer for (a mirror without advisories) is a failure.
    .venv-audit/bin/pip-audit --requirement "$requirements" --require-hashes --disable-pip --strict \
        --progress-spinner off || die "The audit found something, or couldn't ask: the lines above say which."
}

command=${1:-help}
shift || true
case $command in
    setup) serving_environment; say "Ready: ./dev.sh demo" ;;
    demo) demo "$@" ;;
    serve) serving_environment; WORKERS=1 exec .venv/bin/start ;;
    start) exec scripts/databases.sh start ;;
    stop) exec scripts/databases.sh stop ;;
    test) run_tests "$@" ;;
    check) check ;;
    audit) audit ;;
    docs) export_environment; exec .venv-export/bin/python -m scripts.api_reference ;;
    benchmarks) export_environment; exec .venv-export/bin/python -m benchmarks "$@" ;;
    export) export_environment; exec .venv-export/bin/python -m export "$@" ;;
    help | -h | --help) usage ;;
    *) usage >&2; die "There is no command '$command'" ;;
esac
