# Virtual environments: .venv serves (no torch), .venv-export exports, trains and tests.
# Sourced by dev.sh. Each is made once and brought up to date when pyproject.toml changes.

TORCH="torch==2.13.0"
# Their own requirements pull CUDA builds of torch; what they really import is in pyproject.toml.
WITHOUT_DEPENDENCIES=("openai-whisper==20250625" "speechbrain==1.1.2")

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.12 python3.11 python3.10; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.10, 3.11 or 3.12 is needed and none was found. On Debian or Ubuntu:
  sudo apt-get install python3 python3-venv
or set PYTHON to one."
}

make_venv() { # FOLDER
    local folder=$1 python
    [[ -x $folder/bin/python ]] && "$folder/bin/python" -c '' 2>/dev/null && return
    python=$(find_python)
    say "Making $folder with $("$python" --version)"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install python3-venv || die "Python's venv module is missing. On Debian or Ubuntu:
  sudo apt-get install python3-venv"
    fi
    rm -rf "$folder"
    "$python" -m venv "$folder"
    pip_install "$folder" --upgrade "pip>=25.1"
    provide_libpython "$folder"
}

apt_install() { # PACKAGE… — only where nobody has to be asked for a password
    command -v apt-get >/dev/null || return 1
    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    say "Installing $*"
    { "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$@"; } >/dev/null 2>&1
}

# The tests run a real Redis, PostgreSQL, Prometheus and browser, have Compose read its file, and the
# recipes' tests speak with espeak-ng.
test_programs() {
    local missing=()
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v espeak-ng >/dev/null || missing+=(espeak-ng)
    command -v promtool >/dev/null || missing+=(prometheus)
    command -v docker-compose >/dev/null || missing+=(docker-compose)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v pg_ctl >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/pg_ctl' >/dev/null ||
        missing+=(postgresql)
    ((${#missing[@]} == 0)) && return
    apt_install "${missing[@]}" || die "The tests need ${missing[*]}. On Debian or Ubuntu:
  sudo apt-get install ${missing[*]}"
}

# Triton's python stub links to libpython, which Debian's python3 package doesn't bring along.
provide_libpython() { # FOLDER
    local name version
    read -r name version < <("$1/bin/python" -c 'import sys
v = "%d.%d" % sys.version_info[:2]
print(f"libpython{v}.so.1.0", v)')
    if LIBPYTHON=$name "$1/bin/python" -c 'import ctypes, os, sysconfig
name = os.environ["LIBPYTHON"]
try:
    ctypes.CDLL(name)
except OSError:
    ctypes.CDLL(os.path.join(sysconfig.get_config_var("LIBDIR"), name))' 2>/dev/null; then
        return
    fi
    apt_install "libpython$version" || die "Triton's python backend needs $name. On Debian or Ubuntu:
  sudo apt-get install libpython$version"
}

pip_install() { # FOLDER ARGS…
    local folder=$1
    shift
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" 2>&1 |
        { grep -v '^WARNING: Location' || true; } >&2
    return "${PIPESTATUS[0]}"
}

is_current() { # FOLDER
    [[ -f $1/.installed ]] && [[ $(<"$1/.installed") == "$(stamp)" ]]
}

stamp() { cat pyproject.toml client/pyproject.toml export/requirements.txt scripts/environment.sh | sha256sum; }

serving_environment() {
    make_venv .venv
    is_current .venv && return
    say "Installing what serving needs into .venv"
    pip_install .venv --editable . || die "The installation failed; the lines above say why."
    stamp >.venv/.installed
}

export_environment() {
    make_venv .venv-export
    is_current .venv-export && return
    say "Installing what exporting and testing need into .venv-export (torch is large)"
    { pip_install .venv-export "$TORCH" &&
        pip_install .venv-export --editable . --editable ./client --group dev -r export/requirements.txt &&
        pip_install .venv-export --no-deps "${WITHOUT_DEPENDENCIES[@]}"; } ||
        die "The installation failed; the lines above say why."
    stamp >.venv-export/.installed
}
