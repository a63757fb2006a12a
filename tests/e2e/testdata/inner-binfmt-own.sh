set -eu
cd /proc/sys/fs/binfmt_misc
echo ':own:M::OWNMAGIC::/bin/echo:' >register
printf OWNMAGIC >/root/own
chmod 755 /root/own
/root/own
echo -1 >own
ls own 2>/dev/null
