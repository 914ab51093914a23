#!/bin/sh
# task.sh FILE-DIRECTORY KIND BEATS REST: what every job of the load runs.
#
# It says when it starts, twice a second that it is alive, and when it ends, in a file of its
# worker's. A line is one write to a file opened to append, so lines of tasks side by side stay
# whole. The time is that since the boot, read before the line is written: at that moment this
# task ran, whatever becomes of the line.
file=$1/$TITAN_WORKER kind=$2 beats=$3 rest=$4

tell() {
    read -r uptime _ </proc/uptime
    echo "$1 $TITAN_JOB_ID $TITAN_TASK_INDEX $TITAN_ATTEMPT $TITAN_WORKER $$ $uptime $2" >>"$file"
}

[ "$kind" = stubborn ] && trap '' TERM
tell start -
while [ "$beats" -gt 0 ]; do
    sleep 0.5
    beats=$((beats - 1))
    tell alive -
done
sleep "$rest"

code=0
[ "$kind" = fails ] && code=3
[ "$kind" = flaky ] && [ "$TITAN_ATTEMPT" = 1 ] && code=3
tell end "$code"
exit "$code"
