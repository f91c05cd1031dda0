#!/bin/sh
# The store's HTTP face, as curl sees it. Needs RENTROLL_STORE_URL, RENTROLL_STORE_USER, RENTROLL_STORE_PASSWORD.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# The credential goes through a file: on the command line every user of the machine could read it.
umask 077
printf 'user = "%s:%s"\n' "$RENTROLL_STORE_USER" "$RENTROLL_STORE_PASSWORD" >"$work/credential"

ask() {
    curl --silent --show-error --globoff --config "$work/credential" "$@" 2>"$work/stderr"
}

expect() { # what, expected, found
    if [ "$2" = "$3" ]; then
        echo "ok - $1"
    else
        failures=$((failures + 1))
        printf 'not ok - %s\n  expected: %s\n  found:    %s\n' "$1" "$2" "$3"
    fi
}

url=$RENTROLL_STORE_URL
late='SELECT number, throwIf(number = 3000000) FROM numbers(10000000)'

expect 'ping needs no credential' 'Ok.' "$(curl --silent "$url/ping")"
expect 'a query does' 401 "$(curl --silent --output /dev/null --write-out '%{http_code}' "$url/?query=SELECT+1")"
expect 'and the right one' 403 "$(curl --silent --output /dev/null --write-out '%{http_code}' --user x:y "$url/?query=SELECT+1")"
expect 'query in the URL' 1 "$(ask "$url/?query=SELECT+1")"
expect 'query in the body' 2 "$(ask "$url" --data 'SELECT 2')"
expect 'query in both' 3 "$(ask "$url/?query=SELECT" --data '3')"
expect 'parameters in the URL' "it's" "$(ask "$url/?param_x=it%27s" --data 'SELECT {x:String} FORMAT TSVRaw')"
expect 'parameters in a form' 'a b' "$(ask "$url" --form 'query=SELECT {x:String}' --form 'param_x=a b')"
expect 'format by parameter' '{"n":4}' "$(ask "$url/?default_format=JSONEachRow" --data 'SELECT 4 AS n')"
expect 'format by statement' '"n"
5' "$(ask "$url" --data 'SELECT 5 AS n FORMAT CSVWithNames')"
expect 'gzip on request' 200000 "$(ask --compressed "$url/?enable_http_compression=1" --data 'SELECT number FROM numbers(200000)' | wc -l)"

ask "$url" --data 'DROP DATABASE IF EXISTS client_curl' >/dev/null
ask "$url" --data 'CREATE DATABASE client_curl ENGINE = Atomic' >/dev/null
ask "$url" --data 'CREATE TABLE client_curl.t (n UInt64, s String) ENGINE = MergeTree ORDER BY n' >/dev/null
printf '1,"a\n\nb"\n2,x\n' | ask "$url/?query=INSERT+INTO+client_curl.t+FORMAT+CSV" --data-binary @-
printf '3,y\n' | gzip | ask "$url/?query=INSERT+INTO+client_curl.t+FORMAT+CSV" --header 'Content-Encoding: gzip' --data-binary @-
ask "$url" --data "INSERT INTO client_curl.t VALUES (4, 'it''s')"
expect 'inserts by CSV, gzip and VALUES' "4	a\n\nb,it\'s,x,y" "$(ask "$url" --data "SELECT count(), arrayStringConcat(arraySort(groupArray(s)), ',') FROM client_curl.t")"
ask "$url/?decompress=1&query=INSERT+INTO+client_curl.t+FORMAT+CSV" --data 'no frame, but long enough for its head' >"$work/out"
expect 'a broken frame is refused' 'Code: 40' "$(cut -c 1-8 "$work/out")"

expect 'an error has a status' 404 "$(ask "$url" --data 'SELECT * FROM nosuch' --output "$work/out" --write-out '%{http_code}')"
expect 'and the words' 'Code: 60. DB::Exception' "$(cut -c 1-23 "$work/out")"
status=0
ask "$url" --data "$late" --output "$work/out" || status=$?
expect 'a late error breaks the connection' 18 "$status"
expect 'after its words' 1 "$(grep --text --count 'Code: 395. DB::Exception' "$work/out")"
expect 'wait_end_of_query makes it a status' 500 "$(ask "$url/?wait_end_of_query=1" --data "$late" --output "$work/out" --write-out '%{http_code}')"

ask "$url" --data 'DROP DATABASE client_curl' >/dev/null
[ "$failures" -eq 0 ]
