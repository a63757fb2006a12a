set -eu
# The first life makes a list of $N records, and another directory beside it; a later one
# counts the marks.
mkdir -p /var/lib/docker
cd /var/lib/docker
if [ -e d ]; then
	find . -type c | wc -l
	exit
fi
{
	printf 'whiteouts and opaque folders of inner overlays, 1\0'
	seq 1 $N | sed s/^/w/ | tr '\n' '\0'
} >.sysbox-overlays
mkdir d
echo made
