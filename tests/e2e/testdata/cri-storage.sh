set -eu
touch /var/lib/docker/f
stat -c %u /var/lib/docker /var/lib/docker/f
stat -f -c %T /var/lib/docker
