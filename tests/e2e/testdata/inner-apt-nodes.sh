set -eu
mkdir -p /srv/nodes/DEBIAN
cd /srv
cat >nodes/DEBIAN/control <<'EOF'
Package: nodes
Version: 1
Architecture: all
Maintainer: T <t@example.com>
Description: makes nodes
EOF
cat >nodes/DEBIAN/postinst <<'EOF'
#!/bin/sh
set -e
mkdir -p /var/lib/nodes/dev
mknod -m 666 /var/lib/nodes/dev/null c 1 3
mknod -m 644 /var/lib/nodes/dev/urandom c 1 9
mknod /dev/nodes-tun c 10 200
EOF
chmod 755 nodes/DEBIAN/postinst
dpkg-deb -b nodes nodes.deb >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq ./nodes.deb >apt.log 2>&1 || cat apt.log
dpkg-query -W -f '${Status}\n' nodes
echo x >/var/lib/nodes/dev/null
head -c 4 /var/lib/nodes/dev/urandom | wc -c
stat -c '%F %t,%T %U' /dev/nodes-tun
