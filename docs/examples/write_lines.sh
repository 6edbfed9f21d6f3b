#!/bin/sh
# Appends a line to a file for each reservation that ends. It needs no access to Redis. The position in the stream is
# stored in a file, so that after a restart, it continues where it stopped; the last event may come twice.
lines=/var/lib/accounting/reservations.tsv
place=/var/lib/accounting/place

after=$(cat "$place" 2>/dev/null || echo 0)
canhazgpu events --follow --json --type reservation.released --after "$after" |
    while IFS= read -r event; do
        case $(printf '%s' "$event" | jq -r .type) in
        canhazgpu.stream.gap)
            printf '%s' "$event" | jq -r '"\(.data.missing // "an unknown number of") events are missing"' >&2
            ;;
        *)
            printf '%s' "$event" | jq -r '[.time, .data.user, .data.reason, (.data.gpus | length)] | @tsv' >>"$lines"
            ;;
        esac
        printf '%s\n' "$event" | jq -r .stream_id >"$place.new" && mv "$place.new" "$place"
    done
