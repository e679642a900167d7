#!/usr/bin/env bash
# Vectron from the command line: stores texts, finds them, and loads many on a stream that survives a broken connection.
#
# usage: client.sh [host:port]     (default: localhost:3000)
#
# Calls grpcurl, or what GRPCURL names; where there is none, `buf curl` (of BUF, else of tools/, after `make tools`). Both
# learn the contract from the server by reflection, and need no files.
set -euo pipefail

address=${1:-localhost:3000}
service=vectron.v1.VectorService
collection=example-grpcurl
grpcurl=${GRPCURL:-$(command -v grpcurl || true)}
buf=${BUF:-$(dirname "$0")/../../tools/node_modules/.bin/buf}

# call METHOD: takes requests as JSON from its input, one after the other, and prints the answers as JSON without spaces
# between names and values, so that sed can pick from it. (With jq this would be nicer still.)
call() {
    if [ -n "$grpcurl" ]; then
        "$grpcurl" -plaintext -max-time 60 -d @ "$address" "$service/$1"
    else
        "$buf" curl --protocol grpc --http2-prior-knowledge -d @- "http://$address/$service/$1"
    fi | tr -d '\n' | sed 's/": */":/g'
}

# pick NAME: the values of a field in the answers, one a line.
pick() {
    grep -o "\"$1\":\"\?[^\",}]*" | sed 's/^[^:]*:"\?//'
}

# --- One batch: all of it is stored, or nothing. The server embeds the texts; createMissing makes the collection.
stored=$(call Upsert <<JSON | pick recordCount
{"collection": "$collection", "createMissing": true, "records": [
  {"id": "tides", "text": "The moon's gravity pulls the oceans and makes the tides.", "metadata": {"length": {"intValue": 56}}},
  {"id": "bread", "text": "Knead the dough for ten minutes and let it rise overnight."},
  {"id": "chess", "text": "The bishop moves diagonally across the board."}]}
JSON
)
echo "stored $stored texts"

# --- The nearest text to a query; readMask says which fields are wanted.
queries=("why does the sea rise and fall" "baking" "board games")
query() {
    echo "{\"collection\": \"$1\", \"text\": {\"text\": \"$2\"}, \"topK\": 1, \"readMask\": \"id\"}"
}
echo "${queries[0]}: $(query "$collection" "${queries[0]}" | call Search | pick id)"

# --- Every error has a code for programs and a text for people.
if ! refused=$(query nope x | call Search 2>&1); then
    echo "not found: $(sed -n 's/^ *"\?[Mm]essage"\?: "\?\(.*[^",]\)"\?,\?$/\1/p' <<<"$refused" | sed 's/\\"/"/g')"
fi

# --- All queries are in flight at once on one stream. Answers may overtake each other: queryIndex tells which is which.
# (From 1: JSON leaves a number out where it is 0.)
for index in "${!queries[@]}"; do
    echo "{\"queryIndex\": $((index + 1)), \"search\": $(query "$collection" "${queries[index]}")}"
done | call StreamSearch | sed 's/"queryIndex"/\n&/g' | sed -n 's/^"queryIndex":"\([0-9]*\)".*"id":"\([^"]*\)".*/\1 \2/p' |
    sort | while read -r number id; do echo "$((number - 1)): ${queries[number - 1]}: $id"; done

# --- A load that goes on after a broken connection: nothing is lost and nothing is written twice.
# Any frame can be made again from its number, when it has to be sent again.
frames=40 frame_records=25
frame() {
    local records='' n
    for ((n = ($1 - 1) * frame_records; n < $1 * frame_records; n++)); do
        records+=",{\"id\": \"note-$n\", \"text\": \"Note $n.\"}"
    done
    echo "{\"frame\": {\"frame\": $1, \"records\": [${records:1}]}}"
}

# The server knows the stream by this name. A job that is to go on after a crash of its own writes it down.
stream_id=load-$$-$RANDOM
open="{\"open\": {\"streamId\": \"$stream_id\", \"collection\": \"$collection\", \"createMissing\": true}}"

for ((connections = 1; connections <= 30; connections++)); do
    # This is how to go on: the server says which frame it wants next. Everything before it is settled.
    if resume_from=$(call StreamUpsert <<<"$open" | pick resumeFrom); then
        # All of the rest at once: 40 frames of 1 KB are well within the credit that the server gives (16 MiB and 1,024
        # frames). A client that has more must wait for `progress` in between, as the other examples do.
        answers=$({
            echo "$open"
            for ((number = resume_from; number <= frames; number++)); do frame "$number"; done
        } | call StreamUpsert) || true
        pick message <<<"$answers" || true # of frames that were refused, for good
        if [[ $resume_from -gt $frames || $answers == *"\"settledFrame\":\"$frames\""* ]]; then
            # All is settled. Now the server may forget the name; if it cannot be told, no harm is done.
            call StreamUpsert <<<"$open {\"finish\": {}}" >/dev/null || true
            echo "loaded $frames frames over $connections connections"
            exit 0
        fi
    fi
    sleep 0.2
done
echo "gave up" >&2
exit 1
