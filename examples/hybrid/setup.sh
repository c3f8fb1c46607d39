#!/usr/bin/env bash
# Makes the queue of notifications and the route that fills it. Takes the names from the environment, as the programs do.
set -e
wiremill=${WIREMILL_BIN:-wiremill}
notifications=${NOTIFICATIONS:-notifications}
admin=${WIREMILL_ADMIN:-http://127.0.0.1:8222}
"$wiremill" queue create "$notifications" --admin "$admin"
"$wiremill" stream create "$notifications" --admin "$admin"
"$wiremill" route add "kafka:$notifications" "queue:$notifications" --admin "$admin"
