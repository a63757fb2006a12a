set -eu
for i in $(seq 100); do
	grep -q fuse2fs /proc/[0-9]*/comm 2>/dev/null || exec echo none
	sleep 0.1
done
