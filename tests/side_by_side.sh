#!/bin/sh
# Two runs of pytest at once, for `make test`: side_by_side.sh PYTHON "PURE FOLDERS" "REAL FOLDERS" [ARGUMENTS]
# Those with real processes mostly wait; meanwhile the pure ones take what is left of the machine, at a low
# priority. Each is told in one piece, and the answer is the worse of the two.
python=$1 pure=$2 real=$3
shift 3
told=$(mktemp)
trap 'rm -f "$told"' EXIT
nice -n 10 "$python" -m pytest -m "not extra" "$@" $pure >"$told" 2>&1 &
"$python" -m pytest -m "not extra" "$@" $real
answer=$?
wait $!
other=$?
cat "$told"
# with a selection, one of the two may have nothing of it (pytest says 5)
if [ $# -gt 0 ] && [ $answer = 5 ]; then answer=$other other=0; fi
if [ $# -gt 0 ] && [ $other = 5 ]; then other=0; fi
[ $answer != 0 ] || answer=$other
exit $answer
