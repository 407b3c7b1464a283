#!/usr/bin/env bash
# Software: PostgreSQL 15.18 of Debian 12. Nothing is installed.
# Guess:    UPDATE job … WHERE state = 0 AND id IN (SELECT id … WHERE state = 0 ORDER BY id LIMIT 1
#           FOR UPDATE SKIP LOCKED) claims one job; statistics change its speed, not its result.
# Seen:     with an index on the state, and statistics from a moment when the queue was empty, it
#           claims all 1,000 jobs. The planner then expects one row and makes a nested loop semi join
#           without a materialised inner side: the subquery runs again for each row of the outer
#           scan, skips the rows that this command has updated, and finds the next one. ANALYZE
#           mends it for as long as the statistics last. FOR UPDATE is needed for it to happen, and
#           here the second "state = 0" too, which looks like a safeguard. With `= (SELECT …)` or
#           `WITH … AS MATERIALIZED` the subquery runs once.
set -euo pipefail
postgres=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -V | tail -1) || true
[[ $postgres ]] || { echo "postgresql is not installed"; exit 77; }
programs=$(dirname "$postgres")
place=$(mktemp -d)
server=
trap 'if [[ $server ]]; then kill "$server" 2>/dev/null || true; wait "$server" || true; fi; rm -rf "$place"' EXIT
cd "$place"
user=()
if [[ $(id -u) == 0 ]]; then # PostgreSQL refuses to run as root
    chown postgres "$place"
    user=(setpriv --reuid=postgres --regid=postgres --clear-groups --)
fi
"${user[@]}" "$programs/initdb" -D data -U postgres -A trust -N >/dev/null
"${user[@]}" "$programs/postgres" -D data -c listen_addresses= -k "$place" -F 2>log &
server=$!
until "$programs/pg_isready" -q -h "$place" -U postgres; do kill -0 "$server"; done
sql() { "$programs/psql" -h "$place" -U postgres -X -v ON_ERROR_STOP=1 "$@"; }

next="SELECT id FROM job WHERE state = 0 ORDER BY id LIMIT 1"
claim="UPDATE job SET state = 1 WHERE state = 0 AND id"
declare -A ways=(
    [1 IN]="$claim IN ($next FOR UPDATE SKIP LOCKED)"
    [2 IN without a second condition]="${claim/state = 0 AND /} IN ($next FOR UPDATE SKIP LOCKED)"
    [3 IN without FOR UPDATE]="$claim IN ($next)"
    [4 equals]="$claim = ($next FOR UPDATE SKIP LOCKED)"
    [5 MATERIALIZED]="WITH due AS MATERIALIZED ($next FOR UPDATE SKIP LOCKED) $claim IN (SELECT id FROM due)"
)
try() { # each way of claiming, undone afterwards
    printf '%s\n' "${!ways[@]}" | sort | while read -r way; do
        echo "$1, $way: $(sql -q -c BEGIN -c '\unset QUIET' -c "${ways[$way]}" -c '\set QUIET on' -c ROLLBACK)"
    done
}

sql -q <<'SQL'
CREATE TABLE job (id bigserial PRIMARY KEY, state int NOT NULL DEFAULT 0);
CREATE INDEX ON job (state);
ALTER TABLE job SET (autovacuum_enabled = false); -- the moment of its ANALYZE is chosen here
INSERT INTO job (state) SELECT 2 FROM generate_series(1, 1000);
ANALYZE job;
INSERT INTO job SELECT FROM generate_series(1, 1000);
SQL
seen=$(
    try "analysed while empty"
    sql -q -c "ANALYZE job"
    try "analysed while full"
)
expected='analysed while empty, 1 IN: UPDATE 1000
analysed while empty, 2 IN without a second condition: UPDATE 1
analysed while empty, 3 IN without FOR UPDATE: UPDATE 1
analysed while empty, 4 equals: UPDATE 1
analysed while empty, 5 MATERIALIZED: UPDATE 1
analysed while full, 1 IN: UPDATE 1
analysed while full, 2 IN without a second condition: UPDATE 1
analysed while full, 3 IN without FOR UPDATE: UPDATE 1
analysed while full, 4 equals: UPDATE 1
analysed while full, 5 MATERIALIZED: UPDATE 1'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
