set -eu
until [ "$(stty size 2>/dev/null)" = "33 101" ]; do
	sleep 0.05
done
read x
echo "got $x"
echo err >&2
test -t 0
test -t 1
test -t 2
exit 6
